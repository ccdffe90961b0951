"""YAML in Redis as GS's own agents and workers read it: a hash, by file id. Only with `legacy`.

Fields of a hash do not expire by themselves in the Redis of today's distributions, so a sorted set
beside it says when each one goes.
"""

import time
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

HASH = "gedge-gsch-request-yaml"
EXPIRY = "gedge-gsch-request-yaml-expiry"


class YamlCache:
    """Who misses a file asks the front: nothing is lost with it."""

    def __init__(self, redis: Redis, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self._redis, self._ttl_s, self._clock = redis, ttl_s, clock

    async def put(self, file_id: str, text: str) -> None:
        """Also lets go what is too old."""
        now = self._clock()
        try:
            expired = await self._redis.zrangebyscore(EXPIRY, "-inf", now, start=0, num=100)
            async with self._redis.pipeline() as pipeline:
                if expired:
                    pipeline.hdel(HASH, *expired)
                    pipeline.zrem(EXPIRY, *expired)
                pipeline.hset(HASH, file_id, text)
                pipeline.zadd(EXPIRY, {file_id: now + self._ttl_s})
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("redis is away", error=str(error))

    async def get(self, file_id: str) -> str | None:
        try:
            text = await self._redis.hget(HASH, file_id)
        except (RedisError, OSError) as error:
            log.warning("redis is away", error=str(error))
            return None
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
