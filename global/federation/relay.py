"""Sends the outbox: what a transaction wrote goes out after it, in order, until it is delivered."""

import asyncio
from functools import partial

import structlog
from store.transactions import DatabaseUnavailable, Transactions

from federation import repository
from federation.bus import Bus
from federation.repository import OutboxMessage

log = structlog.get_logger(__name__)

MAX_IN_FLIGHT = 1000
"""Messages of one topic that are on their way at once."""
POLL_INTERVAL_S = 1.0
"""Seconds after which the outbox is looked at, though nobody said that there is something."""
RETRY_DELAY_S = 1.0


class Relay:
    """One sender a topic, so that a cluster that is away holds up no other."""

    def __init__(self, transactions: Transactions, bus: Bus) -> None:
        self._transactions, self._bus = transactions, bus
        self._senders: dict[str, _Sender] = {}

    def wake(self, topics: set[str]) -> None:
        """There are new messages of these topics."""
        for topic in topics:
            sender = self._senders.get(topic)
            if sender is None:
                sender = self._senders[topic] = _Sender(topic, self._transactions, self._bus)
                sender.start()
            sender.wake()

    async def run(self) -> None:
        """Also what an earlier process left unsent."""
        try:
            while True:
                try:
                    self.wake(set(await self._transactions.run(repository.unsent_topics)))
                except DatabaseUnavailable as error:
                    log.warning("outbox not read", error=str(error))
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            await asyncio.gather(*(sender.stop() for sender in self._senders.values()))
            self._senders.clear()


class _Sender:
    def __init__(self, topic: str, transactions: Transactions, bus: Bus) -> None:
        self._topic, self._transactions, self._bus = topic, transactions, bus
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
                    partial(repository.unsent, topic=self._topic, after=self._last, limit=room)
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
                await self._transactions.run(lambda c: repository.mark_sent(c, [message.id]))
            except Exception as error:
                log.warning("not sent, again", topic=self._topic, error=repr(error))
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                return
