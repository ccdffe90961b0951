"""The bus of a layer that is one process: queues, with an acknowledgement for every message.

Nothing is kept on disk. `publish` returns only when every group has handled the message, so what
was not handled when the process died still lies in the outbox and is sent again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from federation.bus import BusError, Delivery, Handler
from federation.bus.ordered import OrderedHandling

_Queued = tuple[Delivery, asyncio.Future[None]]


class InProcessBus:
    """Topics and groups of one event loop."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[str, asyncio.Queue[_Queued]]] = defaultdict(dict)
        self._subscribed = asyncio.Condition()

    async def publish(self, topic: str, key: str, body: bytes) -> None:
        if not self._queues[topic]:
            async with self._subscribed:
                await self._subscribed.wait_for(lambda: self._queues[topic])
        loop = asyncio.get_running_loop()
        delivery = Delivery(topic, key, body)
        handled = []
        for queue in self._queues[topic].values():
            done: asyncio.Future[None] = loop.create_future()
            queue.put_nowait((delivery, done))
            handled.append(done)
        await asyncio.gather(*handled)

    async def consume(self, topics: Sequence[str], group: str, handle: Handler) -> None:
        queue: asyncio.Queue[_Queued] = asyncio.Queue()
        for topic in topics:
            queue = self._queues[topic].setdefault(group, queue)
        async with self._subscribed:
            self._subscribed.notify_all()
        ordered = OrderedHandling(handle)
        try:
            while True:
                delivery, done = await queue.get()
                task = await ordered.start(delivery)
                task.add_done_callback(partial(_settle, done=done))
        finally:
            await ordered.stop()


def _settle(task: asyncio.Task[None], done: asyncio.Future[None]) -> None:
    if done.done():
        return
    if task.cancelled():
        # The consumer stopped: whoever published it sends it again.
        done.set_exception(BusError("the consumer stopped before it was handled"))
    else:
        done.set_result(None)
