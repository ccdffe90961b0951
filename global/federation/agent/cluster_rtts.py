"""Round-trip times from this cluster to others: as the configuration says, and as measured."""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from latency.matrix import Readings
from latency.pairs import LatencyError
from scheduler.config.configuration import Latency
from scheduler.process.latency_source import prometheus_of

log = structlog.get_logger(__name__)


class ClusterRtts:
    """Measured times count before configured ones, until they are too old."""

    def __init__(
        self,
        cluster: str,
        configured: Mapping[str, float],
        settings: Latency,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster, self._configured = cluster, configured
        self._settings, self._clock = settings, clock
        self._measured: dict[str, tuple[float, float]] = {}
        """By cluster: milliseconds, and when they were measured."""

    def current(self) -> dict[str, float]:
        """Milliseconds by cluster."""
        oldest = self._clock() - self._settings.max_age_seconds
        fresh = {name: ms for name, (ms, at) in self._measured.items() if at >= oldest}
        return {**self._configured, **fresh}

    def take(self, readings: Readings) -> None:
        """What was measured between clusters. A pair that was measured from the other end alone
        counts too: a round trip is one in both directions."""
        there: dict[str, tuple[float, float]] = {}
        back: dict[str, tuple[float, float]] = {}
        for source, target, ms, at in zip(
            readings.sources,
            readings.targets,
            readings.times.tolist(),
            readings.stamps.tolist(),
            strict=True,
        ):
            if source == self._cluster:
                there[target] = ms, at
            elif target == self._cluster:
                back[source] = ms, at
        self._measured = back | there

    async def run(self) -> None:
        """For ever: ask Prometheus, where that is the source. Raises ConfigError."""
        if self._settings.prometheus is None:
            return
        server = prometheus_of(self._settings.prometheus)
        while True:
            try:
                weight = self._settings.jitter_weight
                self.take(await asyncio.to_thread(server.cluster_readings, weight))
            except LatencyError as error:
                log.warning("times between clusters not read", error=str(error))
            await asyncio.sleep(self._settings.interval_seconds)
