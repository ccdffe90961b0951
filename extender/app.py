"""An extender process: watches that feed a snapshot, and the HTTP server on the same event loop."""

import asyncio
import functools
import time

import msgspec
import structlog

from cluster.api.access import Access
from cluster.api.client import ApiClient, ApiError, TransportError, with_query
from cluster.errors import ConfigError
from cluster.objects.core import Bookmark, ObjectList
from cluster.state.snapshot import Snapshot
from extender.front import Facts, RequestLimits, application
from extender.service import ExtenderService
from extender.verbs import Verbs
from filters.common.handle import Handle
from latency.matrix import Matrix
from scheduler.binding.pod_binder import Binder
from scheduler.cluster_feed import ON_NODES, RUNNING, ClusterFeed
from scheduler.config.configuration import Configuration, ExtenderServer
from scheduler.config.configuration_file import token
from scheduler.cycle.framework import frameworks
from scheduler.process.latency_source import sources
from serving.garbage import leave_out_when
from serving.http_server import Endpoint, HttpServer, run_until_stopped
from serving.security import ServingError, tls

log = structlog.get_logger(__name__)

EXPIRE_INTERVAL_S = 30.0


async def serve(configuration: Configuration, kubeconfig: str, context: str | None) -> None:
    """Serve until SIGTERM or SIGINT. Raises AccessError, ConfigError, LatencyError,
    ServingError."""
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
        facts = Facts(
            problem=feed.problem,
            sizes=lambda: (snapshot.node_count, len(snapshot.pods)),
            profile=profile.scheduler_name,
            configuration=lambda: msgspec.json.encode(configuration),
        )
        service = ExtenderService(
            snapshot,
            Verbs(snapshot, framework, settings.latency_margin_ms),
            Binder(client),
            functools.partial(_running_on, client),
        )
        server = HttpServer(application(service, facts, limits), _endpoint(settings))
        await server.start()
        settling = asyncio.create_task(leave_out_when(feed.synced()))
        try:
            await run_until_stopped(feed.run(), _expire(snapshot), *background)
        finally:
            settling.cancel()
            await server.stop()


def _endpoint(settings: ExtenderServer) -> Endpoint:
    """Raises ConfigError."""
    try:
        context = tls(
            settings.tls_cert_file, settings.tls_private_key_file, settings.client_ca_file
        )
    except ServingError as error:
        raise ConfigError(f"extender.tlsCertFile: {error}") from error
    return Endpoint("extender", settings.bind_address, settings.port, context)


async def _running_on(client: ApiClient, node: str) -> set[str] | None:
    """Uids of the node's pods that have not finished, by the API server's own word."""
    query = {"fieldSelector": f"spec.nodeName={node},{RUNNING}"}
    try:
        pods = await client.get(with_query("/api/v1/pods", query), ObjectList[Bookmark])
    except (ApiError, TransportError, msgspec.DecodeError) as error:
        log.warning("pods of a node not read", node=node, error=str(error))
        return None
    return {item.metadata.uid for item in pods.items or ()}


async def _expire(snapshot: Snapshot) -> None:
    """Give back the room of pods that were bound and never seen by the watch."""
    while True:
        await asyncio.sleep(EXPIRE_INTERVAL_S)
        for key in snapshot.expire(time.monotonic()):
            log.warning("assumed pod expired: bound, but never seen by the watch", pod=key)
