"""Orders about one request are carried out one after another; one that revokes is heeded at
once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager


class Orders:
    """By request: whose turn it is, and up to which attempt it is being revoked."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._revoking: dict[str, dict[int, int]] = {}
        """How many orders revoke each attempt of a request right now."""
        self._waiting: dict[str, set[tuple[int, asyncio.Event]]] = {}
        """By request, who carries out which attempt, and what wakes it when that is revoked."""

    @asynccontextmanager
    async def of(self, request_id: str) -> AsyncIterator[None]:
        """Alone with the request."""
        lock, users = self._locks.get(request_id, (asyncio.Lock(), 0))
        self._locks[request_id] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[request_id]
            if users == 1:
                del self._locks[request_id]
            else:
                self._locks[request_id] = lock, users - 1

    @contextmanager
    def revoking(self, request_id: str, attempt: int) -> Iterator[None]:
        """Have whoever carries the attempt out stop."""
        numbers = self._revoking.setdefault(request_id, {})
        numbers[attempt] = numbers.get(attempt, 0) + 1
        for waiting, revoked in self._waiting.get(request_id, ()):
            if waiting <= attempt:
                revoked.set()
        try:
            yield
        finally:
            numbers[attempt] -= 1
            if not numbers[attempt]:
                del numbers[attempt]
            if not numbers:
                del self._revoking[request_id]

    def revoked(self, request_id: str, attempt: int) -> bool:
        return attempt <= max(self._revoking.get(request_id, ()), default=-1)

    async def unless_revoked(
        self, request_id: str, attempt: int, work: Awaitable[object], seconds: float
    ) -> bool:
        """Await `work` for so long at most, or until the attempt is revoked; whether it was."""
        revoked = asyncio.Event()
        waiting = self._waiting.setdefault(request_id, set())
        waiting.add((attempt, revoked))
        tasks = [asyncio.ensure_future(work), asyncio.create_task(revoked.wait())]
        try:
            if not self.revoked(request_id, attempt):
                await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return self.revoked(request_id, attempt)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            waiting.discard((attempt, revoked))
            if not waiting:
                self._waiting.pop(request_id, None)
