"""Waiting for a change of certain objects, woken by those alone."""

import asyncio
from collections.abc import Collection

WaitedObject = tuple[str, str]
"""(kind, `namespace/name`, or `name` for what has no namespace)."""


class ObjectWaiters:
    """Who waits for which object. Nothing is left of a waiter that has gone."""

    def __init__(self) -> None:
        self._waiting: dict[WaitedObject, set[asyncio.Future[None]]] = {}

    def notify(self, kind: str, key: str) -> None:
        """The object changed, came or went."""
        for waiter in self._waiting.get((kind, key), ()):
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, keys: Collection[WaitedObject], seconds: float) -> None:
        """Until one of the objects changes, at most so long."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keys = set(keys)
        for key in keys:
            self._waiting.setdefault(key, set()).add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return
        finally:
            for key in keys:
                waiters = self._waiting[key]
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[key]
