"""The whole layer in one process: database, bus, worker, front, and the agents of its clusters."""

import asyncio
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from store import sealing
from store.database import Database
from store.transactions import Transactions

from cluster.api.access import Access
from cluster.api.client import ApiClient
from cluster.errors import ClusterError
from federation import repository
from federation.agent.app import AgentSettings, ClusterAgent
from federation.agent.carrier import Fetch
from federation.bus import Bus
from federation.bus.in_process import InProcessBus
from federation.bus.kafka import KafkaBus, KafkaSettings
from federation.fleet import Fleet
from federation.front import tokens
from federation.front.api import Front
from federation.relay import Relay
from federation.settings import ClusterSettings, GlobalConfiguration
from federation.worker import QueueRule, Worker
from serving.http_server import Endpoint, HttpServer, run_until_stopped
from serving.security import tls

log = structlog.get_logger(__name__)

GAUGES_INTERVAL_S = 5.0
AGENT_RETRY_S = 5.0


class LayerMetrics:
    """What /metrics shows of the layer."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Gauge(
            "gsch_global_requests", "Requests by state", ["state"], registry=self.registry
        )
        self._queue_age = Gauge(
            "gsch_global_queue_age_seconds",
            "How long the oldest request that waits has waited",
            registry=self.registry,
        )
        self._lag = Gauge(
            "gsch_global_outbox_lag_seconds",
            "How long the oldest unsent message has waited",
            registry=self.registry,
        )
        self._silence = Gauge(
            "gsch_global_cluster_silence_seconds",
            "Since a cluster's agent was last heard of",
            ["cluster"],
            registry=self.registry,
        )
        self._ended = Counter(
            "gsch_global_requests_ended",
            "Requests that ended since the process began",
            ["result"],
            registry=self.registry,
        )
        self._seen: dict[str, int] = {}

    async def follow(self, transactions: Transactions, fleet: Fleet, worker: Worker) -> None:
        """Every few seconds, for ever."""
        while True:
            now = repository.now()
            try:
                counts, oldest, lag = await transactions.run(
                    lambda c: (
                        repository.counts(c),
                        repository.oldest_queued(c),
                        repository.outbox_lag(c, repository.now()),
                    )
                )
            except ClusterError as error:
                log.warning("figures not read", error=str(error))
            else:
                for state, number in counts.items():
                    self._requests.labels(state).set(number)
                self._queue_age.set(0.0 if oldest is None else max(now - oldest, 0.0))
                self._lag.set(lag)
            for name, known in fleet.clusters.items():
                self._silence.labels(name).set(max(now - known.heard_at, 0.0))
            for result, number in worker.stats.ended.items():
                self._ended.labels(result).inc(number - self._seen.get(result, 0))
                self._seen[result] = number
            await asyncio.sleep(GAUGES_INTERVAL_S)

    def text(self) -> bytes:
        return generate_latest(self.registry)


async def serve(configuration: GlobalConfiguration) -> None:
    """Until SIGTERM or SIGINT. Raises GschError."""
    async with AsyncExitStack() as closing:
        stack = closing.enter_context(ExitStack())
        seal = sealing.of_file(Path(configuration.key_file))
        known = tokens.of_file(configuration.token_file)
        database = stack.enter_context(Database(configuration.database))
        transactions = stack.enter_context(Transactions(database))
        bus = await _bus(configuration, closing)
        fleet, relay = Fleet(repository.now()), Relay(transactions, bus)
        queue = configuration.queue
        worker = Worker(
            transactions,
            bus,
            fleet,
            relay,
            rule=QueueRule(
                queue.each,
                queue.first_after,
                queue.give_up_after,
                queue.dispatched,
                queue.scheduling,
            ),
            keep_finished_s=configuration.keep_finished_days * 86400.0,
        )
        metrics = LayerMetrics()
        front = Front(transactions, seal, fleet, worker, known)
        endpoint = Endpoint(
            "global",
            configuration.address,
            configuration.port,
            tls(configuration.tls_cert_file, configuration.tls_private_key_file),
        )
        server = HttpServer(front.application(metrics.text), endpoint)

        async def fetch(file_id: str) -> str:
            sealed = await transactions.run(lambda c: repository.sealed(c, file_id))
            if sealed is None:
                raise ClusterError(f"there is no file {file_id}")
            return seal.open(sealed)

        agents = [_agent(cluster, bus, fetch) for cluster in configuration.clusters]
        await server.start()
        try:
            await run_until_stopped(
                worker.run(),
                relay.run(),
                metrics.follow(transactions, fleet, worker),
                *agents,
            )
        finally:
            await server.stop()


async def _bus(configuration: GlobalConfiguration, closing: AsyncExitStack) -> Bus:
    kafka = configuration.kafka
    if not kafka.servers:
        return InProcessBus()
    settings = KafkaSettings(
        kafka.servers,
        ca_file=kafka.ca_file,
        user=kafka.user,
        password_file=kafka.password_file,
        replication=kafka.replication,
    )
    return await closing.enter_async_context(KafkaBus(settings))


async def _agent(cluster: ClusterSettings, bus: Bus, fetch: Fetch) -> None:
    """One cluster that cannot be reached keeps no other from its work."""
    settings = AgentSettings(
        cluster.name,
        cluster.location,
        cluster.scheduler,
        cluster.gateway,
        cluster.rtts_ms,
        cluster.impersonate,
    )
    while True:
        try:
            access = Access(cluster.kubeconfig or None, cluster.context or None)
            async with ApiClient(access) as client:
                await ClusterAgent(settings, client, bus, fetch).run()
        except* ClusterError as group:
            for error in group.exceptions:
                log.error("agent", cluster=cluster.name, error=str(error))
        await asyncio.sleep(AGENT_RETRY_S)
