"""The layer's parts and how they are put together: all in one process, or each in its own."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web
from store import sealing
from store.sealing import Seal
from store.transactions import Transactions

from cluster.api.access import Access
from cluster.api.client import ApiClient
from cluster.api.lease import LeaseLost
from cluster.errors import ClusterError, ConfigError, errors_in
from federation import policies, repository
from federation.agent.app import AgentSettings, ClusterAgent
from federation.agent.files import FileMissing, Files, front_files
from federation.bus import Bus
from federation.callbacks import CallbackSender
from federation.connections import (
    open_bus,
    open_database,
    open_front_session,
    open_redis,
    open_yaml_cache,
)
from federation.fleet import Fleet
from federation.forwarding.requests import HttpPodRequests, PodRequests
from federation.front import tokens
from federation.front.api import Front, Keep
from federation.live import Live, LocalLive, RedisLive
from federation.metrics import LayerMetrics
from federation.platform_services import PlatformServices
from federation.progress import Progress
from federation.registered_policies import PolicyRegistry
from federation.relay import Relay
from federation.reports import Reports
from federation.scaling import Scaler
from federation.settings import (
    ClusterSettings,
    GlobalConfiguration,
    ScalingSettings,
    cluster_of,
)
from federation.streams.rendezvous import FrontRendezvous, Rendezvous
from federation.worker import QueueRule, Worker
from federation.yaml_cache import YamlCache
from serving.http_server import Endpoint, HttpServer, content, health, run_until_stopped
from serving.security import is_loopback, tls

log = structlog.get_logger(__name__)

AGENT_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Core:
    """What the front and workers share, over one database."""

    configuration: GlobalConfiguration
    transactions: Transactions
    seal: Seal
    bus: Bus
    fleet: Fleet
    relay: Relay
    live: Live
    progress: Progress
    metrics: LayerMetrics
    yaml_cache: YamlCache | None

    @property
    def works(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self.relay.run(),
            self.live.run(),
            self.metrics.follow(self.transactions, self.fleet, self.progress),
        ]

    def worker(self, policies: Sequence[str]) -> Worker:
        return Worker(
            self.transactions,
            self.bus,
            self.fleet,
            self.relay,
            self.progress,
            self.live,
            policies=policies,
            rule=_rule(self.configuration),
            keep_finished_s=self.configuration.keep_finished_days * 86400.0,
        )

    def callbacks(self) -> CallbackSender:
        given = self.configuration.callbacks
        path = Path(given.key_file)
        key = sealing.key_file(path, lambda: secrets.token_hex(32).encode()).strip()
        return CallbackSender(self.transactions, key, given.allow_private, time.time)

    def front(self, platform: "_Platform", keep: Keep | None = None) -> Front:
        identities = tokens.of_file(self.configuration.token_file)
        return Front(
            self.transactions,
            self.seal,
            self.fleet,
            self.progress,
            self.live,
            identities,
            allow_private=self.configuration.callbacks.allow_private,
            legacy=self.configuration.legacy or is_loopback(self.configuration.address),
            serves_workers=self.configuration.legacy and bool(self.configuration.kafka.servers),
            console_url=self.configuration.console_url,
            yaml_cache=self.yaml_cache,
            keep=keep,
            scaling_settings=self.configuration.scaling,
            registry=platform.registry,
            services=platform.services,
        )

    def server(self, front: Front) -> HttpServer:
        return HttpServer(
            front.application(self.metrics.text, lambda: self.metrics.problem),
            _endpoint(self.configuration),
        )

    async def fetch(self, file_id: str) -> str:
        """The YAML of a file id. Raises FileMissing, DatabaseUnavailable."""
        sealed = await self.transactions.run(lambda c: repository.sealed(c, file_id))
        if sealed is None:
            raise FileMissing(f"there is no file {file_id}")
        return self.seal.open(sealed)


async def up(configuration: GlobalConfiguration) -> None:
    """The whole layer in one process, until SIGTERM or SIGINT. Raises GschError."""
    # Workers of policies that are not registered are in this process.
    scaling = msgspec.structs.replace(configuration.scaling, deployments={})
    async with _core(configuration, "up") as core, _platform(core, scaling) as platform:
        # What the front has read needs no reading again by agents of the same process.
        files = Files(core.fetch)
        front = core.front(platform, files.keep)
        agents = [
            _run_agent(
                cluster,
                _agent_settings(cluster, configuration, ""),
                core.bus,
                files,
                front.forwarded.of(cluster.name),
                front.meeting_point.of(cluster.name),
            )
            for cluster in configuration.clusters
        ]
        worker = core.worker(policies.names())
        works = [*core.works, worker.run(), core.callbacks().run(), *platform.works, *agents]
        await _serve(core.server(front), works)


async def front(configuration: GlobalConfiguration) -> None:
    """The front alone: takes requests and answers for them. Workers carry them on."""
    _need_several(configuration, "front")
    async with (
        _core(configuration, "front") as core,
        _platform(core, configuration.scaling) as platform,
    ):
        reports = Reports(core.transactions, core.fleet, core.live)
        works = [*core.works, reports.refresh(), core.callbacks().run(), *platform.works]
        await _serve(core.server(core.front(platform)), works)


@dataclass(frozen=True, slots=True)
class _Platform:
    """What the front does in the cluster in which the layer itself runs, where there is one."""

    registry: PolicyRegistry | None = None
    services: PlatformServices | None = None
    works: Sequence[Coroutine[Any, Any, None]] = ()


@contextlib.asynccontextmanager
async def _platform(core: _Core, settings: ScalingSettings) -> AsyncIterator[_Platform]:
    """Raises AccessError."""
    if not settings.deployments and not settings.policy_namespace and not settings.kubeconfig:
        yield _Platform()
        return
    async with ApiClient(Access(settings.kubeconfig or None)) as client:
        registry = None
        if settings.policy_namespace:
            registry = PolicyRegistry(core.transactions, client, settings.policy_namespace)
        scaler = Scaler(core.transactions, client, settings, registry)
        yield _Platform(registry, PlatformServices(client), [scaler.run()])


async def worker(configuration: GlobalConfiguration, chosen: Sequence[str]) -> None:
    """One worker of these policies; any number may run."""
    _need_several(configuration, "worker")
    async with _core(configuration, "worker") as core:
        await _serve(_pages(configuration, core.metrics), [*core.works, core.worker(chosen).run()])


async def agent(configuration: GlobalConfiguration, name: str, kubelet_address: str = "") -> None:
    """One cluster's agent, in or near its cluster; a second one stands by."""
    cluster = cluster_of(configuration, name, "--cluster")
    if kubelet_address:
        kubelet = msgspec.structs.replace(cluster.kubelet, address=kubelet_address)
        cluster = msgspec.structs.replace(cluster, kubelet=kubelet)
    if not configuration.kafka.servers:
        raise ConfigError("kafka.servers: an agent that is a process of its own needs Kafka")
    if not configuration.front.url:
        raise ConfigError("front.url: the agent has to know where YAML is read")
    async with (
        open_bus(configuration) as bus,
        open_front_session(configuration) as session,
        open_front_session(configuration, force_close=True) as stream_session,
        open_yaml_cache(configuration) as yaml_cache,
    ):
        fetch = front_files(configuration.front.url, session)

        async def fetch_either(file_id: str) -> str:
            """From the front; what a front of GS took lies in Redis alone."""
            try:
                return await fetch(file_id)
            except (ClusterError, FileMissing):
                text = None if yaml_cache is None else await yaml_cache.get(file_id)
                if text is None:
                    raise
                return text

        settings = _agent_settings(cluster, configuration, configuration.lease_namespace)
        pod_requests = HttpPodRequests(session, configuration.front.url, name)
        rendezvous = FrontRendezvous(stream_session, configuration.front.url, name)
        running = _run_agent(cluster, settings, bus, Files(fetch_either), pod_requests, rendezvous)
        await _serve(_pages(configuration, LayerMetrics()), [running])


async def _serve(server: HttpServer, works: Sequence[Coroutine[Any, Any, Any]]) -> None:
    await server.start()
    try:
        await run_until_stopped(*works)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def _core(configuration: GlobalConfiguration, role: str) -> AsyncIterator[_Core]:
    database = await open_database(configuration)
    with database, Transactions(database) as transactions:
        seal = sealing.of_file(Path(configuration.key_file))
        async with (
            open_bus(configuration) as bus,
            open_redis(configuration) as redis,
            open_yaml_cache(configuration) as yaml_cache,
        ):
            fleet = Fleet(repository.now())
            live: Live = RedisLive(redis) if redis is not None else LocalLive()
            # Requests are checked against the clusters that there are: known before the first one.
            await Reports(transactions, fleet, live).load()
            relay = Relay(transactions, bus, role, alone=database.is_sqlite)
            limits = _rule(configuration).limits
            progress = Progress(transactions, fleet, relay, live, limits)
            yield _Core(
                configuration=configuration,
                transactions=transactions,
                seal=seal,
                bus=bus,
                fleet=fleet,
                relay=relay,
                live=live,
                progress=progress,
                metrics=LayerMetrics(),
                yaml_cache=yaml_cache,
            )


def _agent_settings(
    cluster: ClusterSettings, configuration: GlobalConfiguration, lease_namespace: str
) -> AgentSettings:
    return AgentSettings(
        cluster=cluster.name,
        location=cluster.location,
        scheduler=cluster.scheduler,
        gateway=cluster.gateway,
        rtts_ms=cluster.rtts_ms,
        impersonate=cluster.impersonate,
        lease_namespace=lease_namespace,
        legacy=configuration.legacy,
        routable=frozenset(cluster.routable),
        kubelet=cluster.kubelet,
        latency=cluster.latency,
    )


async def _run_agent(
    cluster: ClusterSettings,
    settings: AgentSettings,
    bus: Bus,
    files: Files,
    pod_requests: PodRequests,
    rendezvous: Rendezvous,
) -> None:
    """For ever. A cluster that cannot be reached is tried again, and keeps no other from its
    work; an agent that lost its Lease stands by. Raises ConfigError."""
    while True:
        wrong: list[BaseException] = []
        try:
            access = Access(cluster.kubeconfig or None, cluster.context or None)
            async with ApiClient(access) as client:
                agent = ClusterAgent(settings, client, bus, files, rendezvous, pod_requests)
                await agent.run()
        except* ConfigError as group:
            wrong = errors_in(group)
        except* LeaseLost as group:
            log.warning("lease lost", cluster=cluster.name, error=str(errors_in(group)[0]))
        except* ClusterError as group:
            for error in errors_in(group):
                log.error("agent", cluster=cluster.name, error=str(error))
        if wrong:
            # Outside of `except*`, which would put it into a group again.
            raise ConfigError(f"cluster {cluster.name}: {wrong[0]}") from wrong[0]
        await asyncio.sleep(AGENT_RETRY_S)


def _pages(configuration: GlobalConfiguration, metrics: LayerMetrics) -> HttpServer:
    """Health and metrics of a process that serves nothing else."""
    application = web.Application()
    application.router.add_get("/livez", health(lambda: ""))
    application.router.add_get("/readyz", health(lambda: metrics.problem))
    application.router.add_get("/metrics", content(metrics.text, "text/plain; version=0.0.4"))
    return HttpServer(application, _endpoint(configuration))


def _endpoint(configuration: GlobalConfiguration) -> Endpoint:
    certificate = tls(configuration.tls_cert_file, configuration.tls_private_key_file)
    return Endpoint("global", configuration.address, configuration.port, certificate)


def _rule(configuration: GlobalConfiguration) -> QueueRule:
    queue = configuration.queue
    return QueueRule(
        queue.each, queue.first_after, queue.give_up_after, queue.dispatched, queue.scheduling
    )


def _need_several(configuration: GlobalConfiguration, role: str) -> None:
    """Raises ConfigError where the parts of the layer could not meet."""
    if configuration.database.startswith("sqlite"):
        raise ConfigError(
            f"database: a SQLite file serves one process: `gsch global up`, or PostgreSQL for "
            f"`gsch global {role}`"
        )
    if not configuration.kafka.servers:
        raise ConfigError(
            f"kafka.servers: `gsch global {role}` needs Kafka; `gsch global up` does without"
        )
