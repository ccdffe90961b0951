"""Sends the outbox: what a transaction wrote goes out after it, in order, until it is delivered."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy import Connection
from store.transactions import DatabaseUnavailable, Transactions

from federation import outbox
from federation.bus import Bus
from federation.outbox import OutboxMessage
from serving.identity import identity

log = structlog.get_logger(__name__)

MAX_IN_FLIGHT = 1000
"""Messages of one topic that are on their way at once."""
POLL_INTERVAL_S = 1.0
"""Seconds after which the outbox is looked at, though nobody said that there is something."""
RETRY_DELAY_S = 1.0
GATHER_S = 0.01
CLAIM_S = 15.0
"""Seconds after which a process that said nothing counts as dead."""
CLAIM_INTERVAL_S = CLAIM_S / 3


class Relay:
    """One sender a topic, so that a cluster that is away holds up no other."""

    def __init__(
        self,
        transactions: Transactions,
        bus: Bus,
        role: str = "layer",
        *,
        alone: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`alone`: no other process uses the database, so what others left is ours at once."""
        self._transactions, self._bus, self._role = transactions, bus, role
        self._alone, self._clock = alone, clock
        self.identity = identity()
        """Which process wrote a message, and sends it."""
        self._senders: dict[str, _Sender] = {}
        self._sent = _Sent(transactions)

    def wake(self, topics: set[str]) -> None:
        """There are new messages of these topics."""
        for topic in topics:
            sender = self._senders.get(topic)
            if sender is None:
                sender = _Sender(topic, self.identity, self._transactions, self._bus, self._sent)
                self._senders[topic] = sender
                sender.start()
            sender.wake()

    async def run(self) -> None:
        """Also what processes that died left unsent."""
        claimed_at = -CLAIM_S
        try:
            while True:
                try:
                    if time.monotonic() - claimed_at >= CLAIM_INTERVAL_S:
                        self.wake(set(await self._transactions.run(self._claim)))
                        claimed_at = time.monotonic()
                    unsent = partial(outbox.unsent_topics, sender=self.identity)
                    self.wake(set(await self._transactions.run(unsent)))
                except DatabaseUnavailable as error:
                    log.warning("outbox not read", error=str(error))
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            await asyncio.gather(*(sender.stop() for sender in self._senders.values()))
            self._senders.clear()
            with contextlib.suppress(DatabaseUnavailable):
                await self._transactions.run(partial(outbox.release, sender=self.identity))

    def _claim(self, connection: Connection) -> list[str]:
        now = self._clock()
        outbox.claim(connection, self.identity, self._role, now, now + CLAIM_S)
        return outbox.adopt(connection, self.identity, now, alone=self._alone)


class _Sent:
    """Marks messages as sent, those of a moment together."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._ids: list[int] = []
        self._marking: asyncio.Task[None] | None = None

    async def mark(self, message: int) -> None:
        """Return once nothing is kept of the message. Raises DatabaseUnavailable."""
        self._ids.append(message)
        if self._marking is None:
            self._marking = asyncio.create_task(self._mark())
        await asyncio.shield(self._marking)

    async def _mark(self) -> None:
        await asyncio.sleep(GATHER_S)
        ids, self._ids, self._marking = self._ids, [], None
        await self._transactions.run(lambda c: outbox.mark_sent(c, ids))


class _Sender:
    def __init__(
        self, topic: str, identity: str, transactions: Transactions, bus: Bus, sent: _Sent
    ) -> None:
        self._topic, self._identity, self._sent = topic, identity, sent
        self._transactions, self._bus = transactions, bus
        self._woken = asyncio.Event()
        self._last = 0
        """The newest message that was taken up."""
        self._in_flight: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        tasks = [*self._in_flight, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        self._woken.set()

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            room = MAX_IN_FLIGHT - len(self._in_flight)
            if room <= 0:
                continue
            try:
                messages = await self._transactions.run(
                    partial(
                        outbox.unsent,
                        sender=self._identity,
                        topic=self._topic,
                        after=self._last,
                        limit=room,
                    )
                )
            except DatabaseUnavailable as error:
                log.warning("outbox not read", topic=self._topic, error=str(error))
                await asyncio.sleep(RETRY_DELAY_S)
                self._woken.set()
                continue
            for message in messages:
                self._last = message.id
                task = asyncio.create_task(self._deliver(message))
                self._in_flight.add(task)
                task.add_done_callback(self._delivered)
            if len(messages) == room:
                self._woken.set()

    def _delivered(self, task: asyncio.Task[None]) -> None:
        full = len(self._in_flight) >= MAX_IN_FLIGHT
        self._in_flight.discard(task)
        if full:
            self._woken.set()

    async def _deliver(self, message: OutboxMessage) -> None:
        """Until it is delivered and nothing of it is kept. One that is late may come after another
        of its request: attempts are numbered, so that does no harm."""
        while True:
            try:
                await self._bus.publish(message.topic, message.key, message.body)
                await self._sent.mark(message.id)
            except Exception as error:
                log.warning("not sent, again", topic=self._topic, error=repr(error))
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                return
