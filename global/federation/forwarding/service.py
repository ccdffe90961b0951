"""Forwarded pods of one cluster, in both directions: its proxies of pods elsewhere, and copies of
pods from elsewhere."""

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.api.event_recorder import EventRecorder
from cluster.api.reflector import Backoff
from cluster.api.writer import ApiWriter
from cluster.errors import ClusterError
from cluster.objects.core import Pod
from federation.bus import Bus
from federation.documents import account_user
from federation.forwarding.copies import Copies, Requests
from federation.forwarding.proxies import Proxies
from federation.forwarding.requests import PodRequests
from federation.forwarding.virtual_nodes import VirtualNodes
from federation.forwarding.wire import (
    CopiesBody,
    WantedBody,
    copies_message,
    wanted_message,
)
from federation.messages import Code, Message, encode
from federation.settings import NO_KUBELET, KubeletSettings
from federation.streams.copy_streams import CopyOf, CopyStreams
from federation.streams.kubelet_access import KubeletAccess, server_tls
from federation.streams.kubelet_server import KubeletServer
from federation.streams.rendezvous import Rendezvous
from federation.streams.wire import StreamRequest, stream_message

log = structlog.get_logger(__name__)

FORWARDING_CODES = (Code.COPIES, Code.WANTED_COPIES, Code.STREAM)
CONTROLLER, ACTION = "gsch-agent", "Forwarding"


@dataclass(frozen=True, slots=True)
class ForwardingOptions:
    """Of one cluster."""

    routable: frozenset[str] = frozenset()
    """Clusters whose pod addresses are reached from here."""
    impersonate: bool = True
    """Whether copies are looked into as the account that has made them."""
    kubelet: KubeletSettings = NO_KUBELET


class Forwarding:
    """Without `requests` no pod leaves this cluster; copies of others' are taken all the same."""

    def __init__(
        self,
        cluster: str,
        client: ApiClient,
        bus: Bus,
        requests: PodRequests | None,
        remembered: Requests,
        rendezvous: Rendezvous,
        options: ForwardingOptions = ForwardingOptions(),
    ) -> None:
        self._cluster, self._bus, self._client = cluster, bus, client
        self._options = options
        self._writer = ApiWriter(client)
        self._events = EventRecorder(self._writer)
        self._copies = Copies(client, cluster, self._publish, remembered)
        self._copy_streams = CopyStreams(client.access, rendezvous, self._find_copy)
        self._proxies, self._kubelet = None, None
        if requests is not None:
            self._proxies = Proxies(
                cluster,
                client,
                requests,
                VirtualNodes(client, options.kubelet),
                self._ask_again,
                self._report,
                options.routable,
            )
            self._kubelet = KubeletServer(
                cluster, KubeletAccess(client), rendezvous, self._proxies.find, self._publish_stream
            )

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run())
            group.create_task(self._copies.run())
            if self._proxies is not None:
                group.create_task(self._proxies.run())
                if self._options.kubelet.address:
                    group.create_task(self._serve_kubelet())
            await self._copy_streams.run()

    async def _serve_kubelet(self) -> None:
        """For ever. Raises ConfigError."""
        assert self._kubelet is not None  # noqa: S101 - there are proxies
        backoff = Backoff()
        while True:
            try:
                tls = await server_tls(self._client, f"gsch-{self._cluster}", self._options.kubelet)
            except ClusterError as error:
                log.warning("kubelet API not served yet", error=str(error))
                await asyncio.sleep(backoff.next())
            else:
                await self._kubelet.run(self._options.kubelet, tls)

    async def take(self, message: Message) -> None:
        """A message of another cluster's agent; return once it has had its effect."""
        try:
            if message.hcode == Code.WANTED_COPIES:
                await self._copies.report_again(msgspec.convert(message.msg, WantedBody))
            elif message.hcode == Code.STREAM:
                self._copy_streams.begin(msgspec.convert(message.msg, StreamRequest))
            elif self._proxies is not None:
                await self._proxies.take(msgspec.convert(message.msg, CopiesBody))
        except msgspec.ValidationError as error:
            log.error("message not understood", hcode=message.hcode, problem=str(error))

    async def _publish(self, target: str, body: CopiesBody) -> None:
        message = copies_message(target, body)
        await self._bus.publish(target, f"copies/{self._cluster}", encode(message))

    async def _ask_again(self, target: str, body: WantedBody) -> None:
        message = wanted_message(target, body)
        await self._bus.publish(target, f"wanted/{self._cluster}", encode(message))

    async def _publish_stream(self, target: str, request: StreamRequest) -> None:
        message = stream_message(target, request)
        await self._bus.publish(target, f"stream/{request.id}", encode(message))

    async def _find_copy(self, request: StreamRequest) -> CopyOf | None:
        copy = await self._copies.find(request)
        if copy is None:
            return None
        meta = copy.metadata
        as_user = account_user(meta.namespace) if self._options.impersonate else ""
        return CopyOf(meta.namespace, meta.name, as_user)

    def _report(self, pod: Pod, reason: str, text: str, warning: bool) -> None:
        write = self._events.warning if warning else self._events.normal
        write(pod, reason, ACTION, text, CONTROLLER)
