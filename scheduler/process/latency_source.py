"""Where the latency matrix comes from, as configured, and what keeps it while it runs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from cluster.api.client import ApiClient
from cluster.api.reflector import EventType, Reflector
from cluster.objects.core import ConfigMap
from cluster.objects.keys import ObjectKey
from latency.agent.discovery import Discovery, list_peers
from latency.agent.peers import Peer
from latency.coordinates import Coordinates, fit
from latency.matrix import FOREVER, Indexed, Matrix, Readings
from latency.pairs import LatencyError, parse
from latency.sources.agents import Agents
from latency.sources.file import FileSource
from scheduler.config.configuration import (
    AgentsService,
    ConfigMapReference,
    Latency,
    PrometheusServer,
)
from scheduler.config.configuration_file import token

if TYPE_CHECKING:
    from latency.sources.prometheus import Prometheus

log = structlog.get_logger(__name__)

DENSE = 0.5
"""The share of all pairs above which those that are missing are not worth predicting."""
REFIT, REFIT_SOON = 300.0, 30.0
"""Seconds for which fitted coordinates are used again; with nodes that they do not know, fewer.
A fit takes seconds of CPU in a large cluster, and nodes seldom move."""
TICK = 2.0
"""Seconds between looks at which entries have become too old."""


class ConfigMapSource:
    """Keeps `matrix` equal to one key of one ConfigMap.

    Text that turns bad, or a ConfigMap that goes away, leaves the last good matrix in force.
    """

    def __init__(self, client: ApiClient, reference: ConfigMapReference, matrix: Matrix) -> None:
        self._reference, self._matrix = reference, matrix
        self._where = f"ConfigMap {reference.namespace}/{reference.name}, key {reference.key}"
        self._text = ""
        self._changed = asyncio.Event()
        self._reflector = Reflector(
            client,
            f"/api/v1/namespaces/{reference.namespace}/configmaps",
            ConfigMap,
            self._on_change,
            field_selector=f"metadata.name={reference.name}",
        )

    async def run(self) -> None:
        """Follow the ConfigMap, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run())
            group.create_task(self._follow())

    def _on_change(self, kind: EventType, old: ConfigMap | None, new: ConfigMap | None) -> None:
        if new is None:
            log.warning("latency source is gone, its last matrix stays", source=self._where)
            return
        self._text = (new.data or {}).get(self._reference.key, "")
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                # A megabyte of YAML takes seconds, which the event loop does not have.
                pairs = await asyncio.to_thread(parse, self._text, self._where)
            except LatencyError as error:
                log.error("latency not taken, keeping the last good one", error=str(error))
            else:
                self._matrix.replace(Readings.of(pairs))


class Poller:
    """Asks a source again and again. What it said last stays until it is too old."""

    def __init__(
        self, ask: Callable[[], Awaitable[Readings]], matrix: Matrix, interval: float
    ) -> None:
        self._ask, self._matrix, self._interval = ask, matrix, interval
        self._fitted = Fitted()

    async def run(self) -> None:
        """Keep the matrix, for ever."""
        next_at = time.monotonic()
        while True:
            if time.monotonic() >= next_at:
                await self._poll()
                next_at = time.monotonic() + self._interval
            self._matrix.expire(time.time())
            await asyncio.sleep(min(TICK, self._interval))

    async def _poll(self) -> None:
        try:
            readings = await self._ask()
            indexed = await asyncio.to_thread(self._indexed, readings)
        except LatencyError as error:
            log.error("latency not taken, the last one stays until too old", error=str(error))
            return
        except Exception:
            log.exception("latency not taken, the last one stays until too old")
            return
        self._matrix.replace(indexed)

    def _indexed(self, readings: Readings) -> Indexed:
        return Indexed(readings, self._fitted.of(readings, time.monotonic()))


class Fitted:
    """Coordinates, fitted anew only now and then."""

    def __init__(self) -> None:
        self._coordinates: Coordinates | None = None
        self._at = 0.0

    def of(self, readings: Readings, now: float) -> Coordinates | None:
        """For what these readings lack. `now` in seconds, of one clock."""
        kept = self._coordinates
        if kept is not None:
            strange = any(name not in kept.rows for name in (*readings.sources, *readings.targets))
            if now - self._at < (REFIT_SOON if strange else REFIT) and sparse(readings):
                return kept
        self._coordinates, self._at = predicted(readings), now
        return self._coordinates


def sparse(readings: Readings) -> bool:
    """Whether so much was not measured that it is worth predicting."""
    nodes = len({*readings.sources, *readings.targets})
    return 0 < len(readings) < DENSE * nodes * (nodes - 1)


def predicted(readings: Readings) -> Coordinates | None:
    """Coordinates for what was not measured, where that is much."""
    if not sparse(readings):
        return None
    return fit(readings.sources, readings.targets, readings.times)


def sources(
    settings: Latency, client: ApiClient, matrix: Matrix
) -> list[Coroutine[Any, Any, None]]:
    """What keeps the matrix while it runs. A file is read once here, so that mistakes show.

    Raises LatencyError, ConfigError.
    """
    if settings.file:
        source = FileSource(Path(settings.file), matrix)
        source.load()
        return [source.run()]
    if settings.config_map:
        return [ConfigMapSource(client, settings.config_map, matrix).run()]
    matrix.max_age = settings.max_age_seconds if settings.measured else FOREVER
    if settings.prometheus:
        ask = from_prometheus(settings.prometheus, settings.cluster, settings.jitter_weight)
        return [Poller(ask, matrix, settings.interval_seconds).run()]
    if settings.agents:
        return _from_agents(settings, settings.agents, client, matrix)
    return []


def from_prometheus(
    settings: PrometheusServer, cluster: str, jitter_weight: float
) -> Callable[[], Awaitable[Readings]]:
    """Asks for the readings of this cluster. Raises ConfigError."""
    server = prometheus_of(settings)

    async def ask() -> Readings:
        return await asyncio.to_thread(server.readings, cluster, jitter_weight)

    return ask


def prometheus_of(settings: PrometheusServer) -> "Prometheus":
    """The server, with what it asks of its clients. Raises ConfigError."""
    # Half of its import time is spent on what only reads dates that people write.
    from latency.sources.prometheus import Login, Prometheus

    login = Login(
        token(settings.token_file, "latency.prometheus.tokenFile").decode(),
        settings.username,
        token(settings.password_file, "latency.prometheus.passwordFile", 1).decode(),
        settings.ca_file,
    )
    return Prometheus(settings.url, login)


def _from_agents(
    latency: Latency, settings: AgentsService, client: ApiClient, matrix: Matrix
) -> list[Coroutine[Any, Any, None]]:
    agents = _agents(settings, latency.jitter_weight)

    def changed(peers: list[Peer]) -> None:
        agents.peers = peers

    discovery = Discovery(client, settings.namespace, settings.service, settings.port, changed)
    return [discovery.run(), Poller(agents.readings, matrix, latency.interval_seconds).run()]


def _agents(settings: AgentsService, jitter_weight: float) -> Agents:
    bearer_token = token(settings.token_file, "latency.agents.tokenFile").decode()
    return Agents(bearer_token, settings.ca_file, jitter_weight)


async def once(settings: Latency, client: ApiClient) -> Matrix:
    """The matrix as it is now, from whichever source is configured.

    Raises LatencyError, ConfigError, ApiError, TransportError.
    """
    matrix = Matrix(settings.max_age_seconds if settings.measured else FOREVER)
    readings, coordinates = Readings(), None
    if settings.file:
        text = await asyncio.to_thread(_read, Path(settings.file))
        readings = Readings.of(parse(text, settings.file))
    elif settings.config_map:
        reference = settings.config_map
        path = ObjectKey(reference.namespace, reference.name).path(resource="configmaps")
        config_map = await client.get(path, ConfigMap)
        text_of = (config_map.data or {}).get(reference.key, "")
        readings = Readings.of(parse(text_of, f"ConfigMap {path}"))
    elif settings.prometheus:
        readings = await from_prometheus(
            settings.prometheus, settings.cluster, settings.jitter_weight
        )()
    elif settings.agents:
        service = settings.agents
        agents = _agents(service, settings.jitter_weight)
        agents.peers = await list_peers(client, service.namespace, service.service, service.port)
        readings = await agents.readings()
    if settings.measured:
        coordinates = predicted(readings)
    matrix.replace(readings, coordinates)
    matrix.expire(time.time())
    return matrix


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LatencyError(f"{path}: {error.strerror}") from error
