"""The bus on Kafka: an idempotent producer that waits for all replicas, and consumers that commit
after the effect."""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from aiokafka.structs import ConsumerRecord, TopicPartition

from cluster.errors import ConfigError
from federation.bus import BusError, Delivery, Handler
from federation.bus.ordered import OrderedHandling
from federation.messages import REPLY_TOPIC

log = structlog.get_logger(__name__)

PARTITIONS = {REPLY_TOPIC: 6}
"""Of topics that several workers share; every other topic has one, and so one order."""
MAX_RECORDS = 64
CLOSE_WITHIN_S = 3.0
POLL_MS = 1000
COMMIT_INTERVAL_S = 0.2
"""Seconds for which what was handled may be delivered again if we die."""
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.1, 10.0
SASL_MECHANISM = "SCRAM-SHA-512"


class KafkaSettings:
    """Where Kafka is and how to get in. Raises ConfigError."""

    def __init__(
        self,
        servers: str,
        *,
        ca_file: str = "",
        user: str = "",
        password: str = "",
        replication: int = 1,
    ) -> None:
        self.servers, self.replication = servers, replication
        context = None
        if ca_file:
            try:
                context = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{ca_file}: {error}") from error
        protocol = ("SASL_" if user else "") + ("SSL" if context else "PLAINTEXT")
        self.options: dict[str, Any] = {"bootstrap_servers": servers, "security_protocol": protocol}
        if context:
            self.options["ssl_context"] = context
        if user:
            self.options |= {
                "sasl_mechanism": SASL_MECHANISM,
                "sasl_plain_username": user,
                "sasl_plain_password": password,
            }


class KafkaBus:
    """Use as an async context manager."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._existing_topics: set[str] = set()
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> "KafkaBus":
        self._producer = AIOKafkaProducer(
            **self._settings.options, enable_idempotence=True, acks="all", linger_ms=2
        )
        await self._until_connected(self._producer.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            await _at_most(CLOSE_WITHIN_S, self._producer.stop())

    async def publish(self, topic: str, key: str, body: bytes) -> None:
        """Raises BusError; the message may have arrived all the same."""
        await self._ensure([topic])
        try:
            assert self._producer is not None  # noqa: S101 - entered
            await self._producer.send_and_wait(topic, body, key=key.encode() or None)
        except KafkaError as error:
            raise BusError(f"kafka at {self._settings.servers}: {error!r}") from error

    async def consume(self, topics: Sequence[str], group: str, handle: Handler) -> None:
        await self._ensure(topics)
        consumer = AIOKafkaConsumer(
            *topics,
            **self._settings.options,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await self._until_connected(consumer.start)
        ordered, offsets = OrderedHandling(handle), _Offsets()
        committing = asyncio.create_task(_commit(consumer, offsets))
        try:
            while True:
                try:
                    batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
                except KafkaError as error:
                    log.warning("consumer", group=group, error=repr(error))
                    await asyncio.sleep(FIRST_BACKOFF_S)
                    continue
                for partition, records in batches.items():
                    for record in records:
                        task = await ordered.start(_delivery(record))
                        offsets.begin(partition, record.offset, task)
        finally:
            committing.cancel()
            await ordered.stop()
            await _at_most(CLOSE_WITHIN_S, consumer.commit(offsets.done()))
            await _at_most(CLOSE_WITHIN_S, consumer.stop())

    async def _ensure(self, topics: Sequence[str]) -> None:
        """Make the topics that are not there yet."""
        missing = [topic for topic in topics if topic not in self._existing_topics]
        if not missing:
            return
        admin = AIOKafkaAdminClient(**self._settings.options)
        try:
            await self._until_connected(admin.start)
            for topic in missing:
                new = NewTopic(topic, PARTITIONS.get(topic, 1), self._settings.replication)
                with contextlib.suppress(TopicAlreadyExistsError):
                    await admin.create_topics([new])
                self._existing_topics.add(topic)
        except KafkaError as error:
            raise BusError(f"kafka at {self._settings.servers}: {error!r}") from error
        finally:
            await admin.close()

    async def _until_connected(self, start: Callable[[], Awaitable[None]]) -> None:
        """Kafka may come later than we do."""
        pause = FIRST_BACKOFF_S
        while True:
            try:
                await start()
            except (KafkaError, OSError) as error:
                log.warning(
                    "kafka is not there yet", servers=self._settings.servers, error=repr(error)
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_BACKOFF_S)
            else:
                return


async def _at_most(seconds: float, closing: Awaitable[None]) -> None:
    """While Kafka is away its client waits for it without end, even to say goodbye. What is left
    undone costs nothing: messages are delivered again, and members of a group time out."""
    try:
        async with asyncio.timeout(seconds):
            await closing
    except (KafkaError, TimeoutError) as error:
        log.warning("kafka client not closed in order", error=repr(error))


class _Offsets:
    """Up to where everything of a partition is handled: messages end in any order."""

    def __init__(self) -> None:
        self._open: dict[TopicPartition, deque[tuple[int, asyncio.Task[None]]]] = {}

    def begin(self, partition: TopicPartition, offset: int, task: asyncio.Task[None]) -> None:
        self._open.setdefault(partition, deque()).append((offset, task))

    def done(self) -> dict[TopicPartition, int]:
        """By partition the next offset to read; only of those that moved on since last time."""
        moved = {}
        for partition, entries in self._open.items():
            while entries and entries[0][1].done() and not entries[0][1].cancelled():
                moved[partition] = entries.popleft()[0] + 1
        return moved


async def _commit(consumer: AIOKafkaConsumer, offsets: _Offsets) -> None:
    while True:
        await asyncio.sleep(COMMIT_INTERVAL_S)
        moved = {p: o for p, o in offsets.done().items() if p in consumer.assignment()}
        if moved:
            try:
                await consumer.commit(moved)
            except KafkaError as error:
                # Delivered again to whoever has the partition now.
                log.warning("offsets not committed", error=repr(error))


def _delivery(record: ConsumerRecord) -> Delivery:
    key = (record.key or b"").decode("utf-8", "replace")
    return Delivery(record.topic, key, record.value or b"")
