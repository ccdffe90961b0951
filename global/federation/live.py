"""Word that something changed, to whoever waits for it: a hint and never the truth.

Who misses it finds the same in the database a little later. In one process it is a condition; in
several, a channel of Redis.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

CHANNEL = "gsch-global-live"
QUEUE = "queue"
"""What is published when a request is new, in place of a request id."""
RETRY_DELAY_S = 1.0


class Live(Protocol):
    """What carries the hints."""

    async def publish(self, names: Iterable[str]) -> None:
        """These requests changed. Never raises for a transport that is away."""

    async def wait(self, name: str, seconds: float) -> None:
        """Until the request changed, or so long."""

    async def run(self) -> None:
        """For ever."""


class LocalLive:
    """Of one process."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    async def publish(self, names: Iterable[str]) -> None:
        self.notify(names)

    def notify(self, names: Iterable[str]) -> None:
        for name in names:
            for changed in self._waiting.get(name, ()):
                changed.set()

    async def wait(self, name: str, seconds: float) -> None:
        changed = asyncio.Event()
        waiting = self._waiting.setdefault(name, set())
        waiting.add(changed)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
        finally:
            waiting.discard(changed)
            if not waiting:
                self._waiting.pop(name, None)

    async def run(self) -> None:
        await asyncio.Event().wait()


class RedisLive:
    """Of several processes."""

    def __init__(self, redis: Redis) -> None:
        self._redis, self._local = redis, LocalLive()

    async def publish(self, names: Iterable[str]) -> None:
        names = list(names)
        self._local.notify(names)
        try:
            await self._redis.publish(CHANNEL, "\n".join(names))
        except (RedisError, OSError) as error:
            log.debug("redis is away", error=str(error))

    async def wait(self, name: str, seconds: float) -> None:
        await self._local.wait(name, seconds)

    async def run(self) -> None:
        """Listen, for ever; while Redis is away, others are heard through the database alone."""
        away = False
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    away = False
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._local.notify(message["data"].decode().split("\n"))
            except (RedisError, OSError) as error:
                if not away:
                    log.warning("redis is away", error=str(error))
                away = True
            await asyncio.sleep(RETRY_DELAY_S)
