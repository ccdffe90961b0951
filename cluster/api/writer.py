"""Writes that may come late and, under pressure, not at all: events and status conditions.

A write replaces an unsent one of the same key, so that a slow API server gets the newest state
instead of every state. Writes of one `order` (an object's, say) go out one after another, in the
order in which they were put.
"""

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from cluster.api.client import JSON, ApiClient, TransportError
from cluster.api.reflector import Backoff

log = structlog.get_logger(__name__)

WORKERS = 16
CAPACITY = 100_000
MAX_TRIES = 5
RETRIED_STATUSES = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Write:
    method: str
    path: str
    body: bytes
    content_type: str = JSON
    on_refused: Callable[[], None] | None = None


class ApiWriter:
    """A bounded set of pending writes and the workers that send them."""

    def __init__(self, client: ApiClient, workers: int = WORKERS) -> None:
        self._client = client
        self._shards: list[OrderedDict[str, Write]] = [OrderedDict() for _ in range(workers)]
        self._wakes = [asyncio.Event() for _ in range(workers)]
        self._busy = 0
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._room = CAPACITY // workers
        self.dropped = 0
        self.sent = 0

    def _shard(self, order: str) -> int:
        return zlib.crc32(order.encode()) % len(self._shards)

    def discard(self, key: str, order: str = "") -> None:
        """Leave this unwritten if it has not gone out yet."""
        self._shards[self._shard(order or key)].pop(key, None)
        self._signal_if_empty()

    def _signal_if_empty(self) -> None:
        if not len(self):
            self._all_sent.set()

    def put(self, key: str, write: Write, order: str = "") -> None:
        """Have this written soon. Beyond the capacity the oldest write is dropped and counted."""
        number = self._shard(order or key)
        shard = self._shards[number]
        self._all_sent.clear()
        shard.pop(key, None)
        shard[key] = write
        if len(shard) > self._room:
            _, oldest = shard.popitem(last=False)
            self.dropped += 1
            if oldest.on_refused is not None:
                oldest.on_refused()
        self._wakes[number].set()

    def __len__(self) -> int:
        """Writes that have not been answered yet."""
        return sum(map(len, self._shards)) + self._busy

    async def run(self) -> None:
        """Send, for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._shards)):
                group.create_task(self._work(number))

    async def drain(self, seconds: float) -> bool:
        """Wait until all is sent, at most so long. Returns whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._all_sent.wait()
        except TimeoutError:
            return False
        return True

    async def _work(self, number: int) -> None:
        shard, wake = self._shards[number], self._wakes[number]
        while True:
            while not shard:
                wake.clear()
                await wake.wait()
            key, write = shard.popitem(last=False)
            self._busy += 1
            try:
                await self._send(key, write, shard)
            finally:
                self._busy -= 1
                self._signal_if_empty()

    async def _send(self, key: str, write: Write, shard: OrderedDict[str, Write]) -> None:
        backoff = Backoff()
        why = ""
        for _ in range(MAX_TRIES):
            try:
                reply = await self._client.request(
                    write.method, write.path, write.body, write.content_type
                )
            except TransportError as error:
                why, pause = str(error), backoff.next()
            else:
                if reply.ok or reply.status == 404:
                    self.sent += 1
                    return
                # An event whose first reply was lost is there already when it is sent again.
                if reply.status == 409 and write.method == "POST":
                    self.sent += 1
                    return
                why = f"{reply.status} {reply.error.message}"
                if reply.status not in RETRIED_STATUSES:
                    break
                pause = reply.retry_after or backoff.next()
            await asyncio.sleep(pause)
            if key in shard:
                return
        self.dropped += 1
        if write.on_refused is not None:
            write.on_refused()
        log.warning("write given up", method=write.method, path=write.path, error=why)
