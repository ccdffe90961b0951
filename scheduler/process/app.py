"""A scheduler process: signals, HTTP, leader election, and the order in which it all stops."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from cluster.api.access import Access
from cluster.api.client import ApiClient
from cluster.api.lease import LeaderElector, LeaseHolder, LeaseLost, Timing
from cluster.errors import ConfigError
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration, LeaderElection
from scheduler.config.configuration_file import token
from scheduler.observe import node_resources as resources
from scheduler.process.latency_source import sources
from scheduler.process.live_explanation import LiveExplanation
from scheduler.process.server import application, endpoint
from scheduler.scheduler import Scheduler
from serving.http_server import HttpServer, on_signals
from serving.identity import identity
from serving.tasks import first_of

log = structlog.get_logger(__name__)

Reload = Callable[[], Configuration]


class App:
    """Runs one scheduler until a signal or a lost lease. `reload` reads the configuration again."""

    def __init__(
        self, configuration: Configuration, kubeconfig: str, context: str | None, reload: Reload
    ) -> None:
        self._configuration = configuration
        self._kubeconfig, self._context = kubeconfig, context
        self._reload = reload

    async def run(self) -> int:
        """The process's exit code: 0 after SIGTERM or SIGINT, 1 after a lost lease.

        Raises AccessError, ConfigError and ServingError for what keeps it from starting.
        """
        async with ApiClient(Access(self._kubeconfig or None, self._context)) as client:
            matrix = Matrix()
            background = sources(self._configuration.latency, client, matrix)
            scheduler = Scheduler(client, self._configuration, matrix)
            explanation = LiveExplanation(
                client, scheduler.snapshot, scheduler.nominator, scheduler.frameworks
            )
            pages = application(
                token(self._configuration.server.token_file, "server.tokenFile"),
                live=lambda: "",
                ready=scheduler.feed.problem,
                metrics=scheduler.metrics.text,
                resources=lambda: resources.text(scheduler.snapshot),
                latency=lambda: resources.latency(matrix, time.time()),
                configuration=lambda: msgspec.json.encode(self._configuration),
                explain=explanation.explain,
            )
            server = HttpServer(pages, endpoint(self._configuration.server))
            await server.start()
            try:
                return await self._serve(client, scheduler, background)
            finally:
                await server.stop()

    async def _serve(self, client: ApiClient, scheduler: Scheduler, background: list[Any]) -> int:
        stop = asyncio.Event()
        on_signals(stop.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reconfigure, scheduler)
        tasks = [asyncio.create_task(work) for work in (scheduler.follow(), *background)]
        leading = asyncio.create_task(self._lead(client, scheduler))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([leading, stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if stopped.done():
                log.info("stopping")
                scheduler.stop()
            await leading
            return 0
        except LeaseLost as error:
            # Binds in flight are another's business from here on: leave at once.
            log.error("lease lost", error=str(error))
            return 1
        finally:
            for task in (leading, stopped, *tasks):
                task.cancel()
            await asyncio.gather(leading, stopped, *tasks, return_exceptions=True)

    async def _lead(self, client: ApiClient, scheduler: Scheduler) -> None:
        """Schedule until told to stop, as soon and as long as this process may, then drain.

        Raises LeaseLost.
        """
        election = self._configuration.leader_election
        if not election.leader_elect:
            await _work(scheduler)
            return
        elector = _elector(client, election)
        log.info("waiting for the lease", lease=election.resource_name, identity=elector.identity)
        await first_of(elector.acquire(), scheduler.stopped.wait())
        if elector.holder != elector.identity:
            return
        log.info("leading", identity=elector.identity)
        # The lease is held until the last bind is through: a successor must not start beside it.
        holder = self._holder(election, elector)
        holder.start()
        work = asyncio.create_task(_work(scheduler))
        lost = asyncio.ensure_future(_ended(holder.lost))
        try:
            await asyncio.wait([work, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                lost.result()
            drained = work.result()
        finally:
            for task in (work, lost):
                task.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)
            await holder.stop()
        if drained:
            await elector.release()

    def _holder(self, election: LeaderElection, elector: LeaderElector) -> LeaseHolder:
        def client() -> ApiClient:
            return ApiClient(Access(self._kubeconfig or None, self._context))

        return LeaseHolder(
            client,
            election.resource_namespace,
            election.resource_name,
            elector.identity,
            _timing(election),
        )

    def _reconfigure(self, scheduler: Scheduler) -> None:
        try:
            fresh = self._reload()
            scheduler.reconfigure(fresh)
        except ConfigError as error:
            log.error("configuration not taken, the old one stays", error=str(error))
            return
        self._configuration = fresh
        log.info("configuration taken", profiles=[p.scheduler_name for p in fresh.profiles])


async def _ended(future: asyncio.Future[None]) -> None:
    await future


async def _work(scheduler: Scheduler) -> bool:
    """Schedule until stopped; whether all that was in flight ended well."""
    await scheduler.schedule()
    return await scheduler.drain()


def _elector(client: ApiClient, election: LeaderElection) -> LeaderElector:
    return LeaderElector(
        client, election.resource_namespace, election.resource_name, identity(), _timing(election)
    )


def _timing(election: LeaderElection) -> Timing:
    return Timing(election.lease_duration, election.renew_deadline, election.retry_period)
