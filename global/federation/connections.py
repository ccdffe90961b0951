"""What a process of the layer is connected to, as configured: database, bus, Redis, the front."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import structlog
from redis.asyncio import Redis
from sqlalchemy import make_url
from store.database import Database, DatabaseAway

from cluster.errors import ConfigError
from federation.bus import Bus
from federation.bus.in_process import InProcessBus
from federation.bus.kafka import KafkaBus, KafkaSettings
from federation.settings import GlobalConfiguration, secret
from federation.yaml_cache import YamlCache

log = structlog.get_logger(__name__)

DATABASE_RETRY_S = 2.0
FETCH_TIMEOUT_S = 30.0


async def open_database(configuration: GlobalConfiguration) -> Database:
    """A database server may come later than we do. Raises DatabaseError for what waiting does not
    help."""
    url = configuration.database
    password = secret(configuration.database_password_file, "databasePasswordFile")
    if password:
        url = make_url(url).set(password=password).render_as_string(hide_password=False)
    while True:
        try:
            return await asyncio.to_thread(Database, url)
        except DatabaseAway as error:
            log.warning("the database is not there yet", error=str(error))
            await asyncio.sleep(DATABASE_RETRY_S)


@asynccontextmanager
async def open_bus(configuration: GlobalConfiguration) -> AsyncIterator[Bus]:
    """Kafka, or the bus inside the process. Raises ConfigError."""
    kafka = configuration.kafka
    if not kafka.servers:
        yield InProcessBus()
        return
    settings = KafkaSettings(
        kafka.servers,
        ca_file=kafka.ca_file,
        user=kafka.user,
        password=secret(kafka.password_file, "kafka.passwordFile"),
        replication=kafka.replication,
    )
    async with KafkaBus(settings) as bus:
        yield bus


@asynccontextmanager
async def open_redis(configuration: GlobalConfiguration) -> AsyncIterator[Redis | None]:
    """None where none is configured. Raises ConfigError."""
    given = configuration.redis
    if not given.url:
        yield None
        return
    options: dict[str, Any] = {"ssl_ca_certs": given.ca_file} if given.ca_file else {}
    password = secret(given.password_file, "redis.passwordFile")
    if password:
        options["password"] = password
    redis = Redis.from_url(given.url, **options)
    try:
        yield redis
    finally:
        await redis.aclose()


@asynccontextmanager
async def open_yaml_cache(configuration: GlobalConfiguration) -> AsyncIterator[YamlCache | None]:
    """Where GS reads YAML; None where that is not wanted. Raises ConfigError."""
    if not configuration.legacy:
        yield None
        return
    async with open_redis(configuration) as redis:
        ttl = configuration.redis.yaml_ttl_hours * 3600.0
        yield None if redis is None else YamlCache(redis, ttl)


@asynccontextmanager
async def open_front_session(
    configuration: GlobalConfiguration, *, force_close: bool = False
) -> AsyncIterator[aiohttp.ClientSession]:
    """To the front, with the agent's token; with `force_close` by a new connection each time.

    Raises ConfigError.
    """
    given = configuration.front
    try:
        context = ssl.create_default_context(cafile=given.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"front.caFile: {given.ca_file}: {error}") from error
    token = secret(given.token_file, "front.tokenFile")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=context, force_close=force_close)
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=connector
    ) as session:
        yield session
