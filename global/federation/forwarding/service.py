"""Forwarded pods of one cluster, in both directions: its proxies of pods elsewhere, and copies of
pods from elsewhere."""

import asyncio

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.api.event_recorder import EventRecorder
from cluster.api.writer import ApiWriter
from cluster.objects.core import Pod
from federation.bus import Bus
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

log = structlog.get_logger(__name__)

FORWARDING_CODES = (Code.COPIES, Code.WANTED_COPIES)
CONTROLLER, ACTION = "gsch-agent", "Forwarding"


class Forwarding:
    """Without `requests` no pod leaves this cluster; copies of others' are taken all the same."""

    def __init__(
        self,
        cluster: str,
        client: ApiClient,
        bus: Bus,
        requests: PodRequests | None,
        remembered: Requests,
        routable: frozenset[str] = frozenset(),
    ) -> None:
        self._cluster, self._bus = cluster, bus
        self._writer = ApiWriter(client)
        self._events = EventRecorder(self._writer)
        self._copies = Copies(client, cluster, self._publish, remembered)
        self._proxies = None
        if requests is not None:
            self._proxies = Proxies(
                cluster,
                client,
                requests,
                VirtualNodes(client),
                self._ask_again,
                self._report,
                routable,
            )

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run())
            group.create_task(self._copies.run())
            if self._proxies is not None:
                group.create_task(self._proxies.run())

    async def take(self, message: Message) -> None:
        """A message of another cluster's agent; return once it has had its effect."""
        try:
            if message.hcode == Code.WANTED_COPIES:
                await self._copies.report_again(msgspec.convert(message.msg, WantedBody))
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

    def _report(self, pod: Pod, reason: str, text: str, warning: bool) -> None:
        write = self._events.warning if warning else self._events.normal
        write(pod, reason, ACTION, text, CONTROLLER)
