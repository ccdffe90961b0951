"""An extender process: watches that feed a snapshot, and the HTTP server on the same event loop."""

import asyncio
import functools
import signal
import ssl
import time
from typing import Any

import msgspec
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cluster.api.access import Access
from cluster.api.client import ApiClient, ApiError, TransportError, with_query
from cluster.objects.core import Bookmark, ObjectList
from cluster.state.snapshot import Snapshot
from extender.asgi import ExtenderApp, ExtenderMetrics, RequestLimits
from extender.pages import pages
from extender.service import ExtenderService
from extender.verbs import Verbs
from filters.common.handle import Handle
from latency.matrix import Matrix
from scheduler.binding.pod_binder import Binder
from scheduler.cluster_feed import ON_NODES, RUNNING, ClusterFeed
from scheduler.config.configuration import Configuration, ExtenderServer, token
from scheduler.cycle.framework import frameworks
from scheduler.process.latency_source import sources
from serving.garbage import leave_out_when
from serving.quiet_server import QuietServer

log = structlog.get_logger(__name__)

HEADER_TIMEOUT_S = 10.0
"""Seconds in which a new connection has to bring its first request's head."""
KEEP_ALIVE_S = 120
"""Seconds for which an idle connection is kept; kube-scheduler's own limit is 90."""
MAX_CONNECTIONS = 512
EXPIRE_INTERVAL_S = 30.0


async def serve(configuration: Configuration, kubeconfig: str, context: str | None) -> None:
    """Serve until SIGTERM or SIGINT. Raises AccessError, ConfigurationError, LatencyError."""
    settings = configuration.extender
    profile = configuration.profiles[0]
    matrix, snapshot = Matrix(), Snapshot()
    handle = Handle(matrix)
    framework = frameworks(configuration, handle)[profile.scheduler_name]
    limits = RequestLimits(
        settings.max_body_bytes, token(settings.token_file, "extender.tokenFile")
    )
    async with ApiClient(Access(kubeconfig or None, context)) as client:
        background = sources(configuration.latency, client, matrix)
        feed = ClusterFeed(
            client,
            snapshot,
            kinds=framework.watches.values(),
            plugin_object_changed=framework.watched,
            pod_selector=ON_NODES,
        )
        handle.kinds.update(feed.plugin_objects)
        metrics = ExtenderMetrics()
        front = ExtenderApp(
            ExtenderService(
                snapshot,
                Verbs(snapshot, framework, settings.latency_margin_ms),
                Binder(client),
                functools.partial(_running_on, client),
            ),
            feed.problem,
            limits,
            metrics,
            pages(
                problem=feed.problem,
                sizes=lambda: (snapshot.node_count, len(snapshot.pods)),
                profile=profile.scheduler_name,
                registry=metrics.registry,
                configuration=lambda: msgspec.json.encode(configuration),
            ),
        )
        await _run(
            _server(front, settings),
            [feed.run(), _expire(snapshot), *background],
            leave_out_when(feed.synced()),
        )


async def _running_on(client: ApiClient, node: str) -> set[str] | None:
    """Uids of the node's pods that have not finished, by the API server's own word."""
    query = {"fieldSelector": f"spec.nodeName={node},{RUNNING}"}
    try:
        found = await client.get(with_query("/api/v1/pods", query), ObjectList[Bookmark])
    except (ApiError, TransportError, msgspec.DecodeError) as error:
        log.warning("pods of a node not read", node=node, error=str(error))
        return None
    return {item.metadata.uid for item in found.items or ()}


async def _expire(snapshot: Snapshot) -> None:
    """Give back the room of pods that were bound and never seen by the watch."""
    while True:
        await asyncio.sleep(EXPIRE_INTERVAL_S)
        for key in snapshot.expire(time.monotonic()):
            log.warning("assumed pod expired: bound, but never seen by the watch", pod=key)


async def _run(server: uvicorn.Server, works: list[Any], settle: Any) -> None:
    """The server until its end, with what feeds it beside. Raises what these raised."""
    tasks = [asyncio.create_task(work) for work in works]
    settling = asyncio.create_task(settle)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.wait([serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        await serving
    finally:
        for task in (serving, settling, *tasks):
            task.cancel()
        await asyncio.gather(serving, settling, *tasks, return_exceptions=True)


def _server(front: ExtenderApp, settings: ExtenderServer) -> uvicorn.Server:
    config = uvicorn.Config(
        front,
        host=settings.bind_address,
        port=settings.port,
        loop="none",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=10,
        limit_concurrency=MAX_CONNECTIONS,
        ssl_certfile=settings.tls_cert_file or None,
        ssl_keyfile=settings.tls_private_key_file or None,
        ssl_ca_certs=settings.client_ca_file or None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.client_ca_file else ssl.CERT_NONE,
    )
    log.info(
        "serving the extender",
        host=settings.bind_address,
        port=settings.port,
        tls=bool(settings.tls_cert_file),
    )
    return QuietServer(config)


class _Protocol(HttpToolsProtocol):
    """Does not wait for ever for a client that is slow to say what it wants."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._slow = self.loop.call_later(HEADER_TIMEOUT_S, self._give_up)

    def on_headers_complete(self) -> None:
        self._slow.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._slow.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        self.transport.close()
