"""Messages are handled side by side, those of one key one after another, each until it succeeds."""

import asyncio

import structlog

from federation.bus import Delivery, Handler

log = structlog.get_logger(__name__)

MAX_IN_FLIGHT = 1000
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.05, 10.0


class OrderedHandling:
    """Runs a handler over deliveries. At most MAX_IN_FLIGHT at a time: `start` waits for room."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._last: dict[str, asyncio.Task[None]] = {}
        """By key, what is to be awaited before its next message."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, delivery: Delivery) -> asyncio.Task[None]:
        """Done once the message is handled."""
        await self._room.acquire()
        before = self._last.get(delivery.key) if delivery.key else None
        task = asyncio.create_task(self._run(delivery, before))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if delivery.key:
            self._last[delivery.key] = task
        return task

    async def stop(self) -> None:
        """Drop what is being handled: it will be delivered again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, delivery: Delivery, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            await self._until_handled(delivery)
        finally:
            self._room.release()
            if self._last.get(delivery.key) is asyncio.current_task():
                del self._last[delivery.key]

    async def _until_handled(self, delivery: Delivery) -> None:
        pause = FIRST_BACKOFF_S
        while True:
            try:
                await self._handle(delivery)
            except Exception as error:
                log.warning(
                    "message not handled, again",
                    topic=delivery.topic,
                    key=delivery.key,
                    why=repr(error),
                    after_s=pause,
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_BACKOFF_S)
            else:
                return
