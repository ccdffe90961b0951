"""What /metrics shows of the layer: the queue, the outbox, clusters and processes."""

import asyncio

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from sqlalchemy import Connection
from store.transactions import Transactions

from cluster.errors import ClusterError
from federation import outbox, poison, repository
from federation.fleet import Fleet
from federation.progress import Progress

log = structlog.get_logger(__name__)

GAUGES_INTERVAL_S = 5.0


class LayerMetrics:
    """Of one process; what comes from the database is the same in all of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._gauge("requests", "Requests by state", "state")
        self._attempts = self._gauge("attempts", "Attempts by state", "state")
        self._queue_age = self._gauge(
            "queue_age_seconds", "How long the oldest request that waits has waited"
        )
        self._lag = self._gauge(
            "outbox_lag_seconds", "How long the oldest unsent message has waited"
        )
        self._poison = self._gauge("messages_set_aside", "Messages that nobody could read")
        self._silence = self._gauge(
            "cluster_silence_seconds", "Since a cluster's agent was last heard of", "cluster"
        )
        self._claims = self._gauge(
            "process_claim_age_seconds", "Since a process renewed its claim", "process", "role"
        )
        self._ended = Counter(
            "gsch_global_requests_ended",
            "Requests that ended since the process began",
            ["result"],
            registry=self.registry,
        )
        self._seen: dict[str, int] = {}
        self.problem = ""
        """Why this process cannot do its work; empty where it can."""

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"gsch_global_{name}", text, labels, registry=self.registry)

    async def follow(self, transactions: Transactions, fleet: Fleet, progress: Progress) -> None:
        """Every few seconds, for ever."""
        while True:
            try:
                await transactions.run(self._read)
                self.problem = ""
            except ClusterError as error:
                self.problem = str(error)
                log.warning("figures not read", error=self.problem)
            now = repository.now()
            for name, reported in fleet.clusters.items():
                self._silence.labels(name).set(max(now - reported.heard_at, 0.0))
            for result, number in progress.ended.items():
                self._ended.labels(result).inc(number - self._seen.get(result, 0))
                self._seen[result] = number
            await asyncio.sleep(GAUGES_INTERVAL_S)

    def _read(self, connection: Connection) -> None:
        now = repository.now()
        for gauge, counts in (
            (self._requests, repository.counts(connection)),
            (self._attempts, repository.attempt_counts(connection)),
        ):
            gauge.clear()
            for state, number in counts.items():
                gauge.labels(state).set(number)
        oldest = repository.oldest_queued(connection)
        self._queue_age.set(0.0 if oldest is None else max(now - oldest, 0.0))
        self._lag.set(outbox.lag(connection, now))
        self._poison.set(poison.count(connection))
        self._claims.clear()
        for process in outbox.living(connection, now):
            self._claims.labels(process.identity, process.role).set(now - process.claimed_at)

    def text(self) -> bytes:
        return generate_latest(self.registry)
