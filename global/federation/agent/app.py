"""A cluster's agent: one event loop that feeds a snapshot, takes messages, and reports."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.errors import GschError
from cluster.state.snapshot import Snapshot
from federation.agent import reports
from federation.agent.carrier import Carrier, Fetch
from federation.agent.objects import Objects
from federation.agent.pods import RequestPods
from federation.agent.rewrite import Target
from federation.agent.room import Room
from federation.agent.works import Works
from federation.bus import Bus, Delivery
from federation.fleet import LEASE_S
from federation.messages import (
    APPLY_CODES,
    GLOBAL_TOPIC,
    REPORT_TOPIC,
    REQUEST,
    Code,
    MalformedMessage,
    Message,
    decode,
    encode,
    reply_to,
    reply_topic,
    to_cluster,
)
from federation.wire import ApplyBody, AskBody, ResultBody, RevokeBody
from filters.common.handle import Handle
from latency.matrix import Matrix
from scheduler.cluster_feed import ClusterFeed
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks

log = structlog.get_logger(__name__)

REPORT_INTERVAL_S = LEASE_S / 5
EXPIRE_INTERVAL_S = 30.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Of one cluster's agent."""

    cluster: str
    location: str = "edge"
    """`edge`, `near` or `cloud`."""
    scheduler: str = "gsch"
    """schedulerName of the pods that are applied."""
    gateway: str = ""
    """The node from which latency counts when the source lies in another cluster."""
    rtts_ms: Mapping[str, float] = field(default_factory=dict)
    """Round-trip times to other clusters, where nobody measures them."""
    impersonate: bool = True
    """Whether objects are applied as a ServiceAccount of their namespace."""


class ClusterAgent:
    """Of the cluster behind `client`."""

    def __init__(
        self,
        settings: AgentSettings,
        client: ApiClient,
        bus: Bus,
        fetch: Fetch,
        matrix: Matrix | None = None,
    ) -> None:
        self._settings, self._bus = settings, bus
        self.snapshot, self._pods = Snapshot(), RequestPods()
        configuration = Configuration()
        framework = frameworks(configuration, Handle(matrix or Matrix()))[
            configuration.profiles[0].scheduler_name
        ]
        self.feed = ClusterFeed(client, self.snapshot, listener=self._pods)
        self.room = Room(self.snapshot, framework)
        self._works = Works(client)
        self._carrier = Carrier(
            Target(settings.cluster, settings.scheduler, settings.gateway),
            fetch,
            self._works,
            Objects(client, settings.impersonate),
            self._pods,
            self.room,
        )
        self._identity = f"{socket.gethostname()}_{os.getpid()}"

    async def run(self) -> None:
        """For ever. Raises ClusterError where the cluster lacks what the agent needs."""
        await self._works.ensure_kind()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            await self.feed.synced()
            topics = [self._settings.cluster, GLOBAL_TOPIC]
            name = f"gsch-agent-{self._settings.cluster}"
            group.create_task(self._bus.consume(topics, name, self._on_message))
            group.create_task(self._report())
            group.create_task(self._expire())

    # -- messages --------------------------------------------------------------------------

    async def _on_message(self, delivery: Delivery) -> None:
        """Its effect and its reply come first; then it counts as taken."""
        try:
            message = decode(delivery.body)
        except MalformedMessage as error:
            log.error("message not understood", topic=delivery.topic, problem=str(error))
            return
        if message.lcode != REQUEST or not self._is_for_us(message):
            return
        if not reply_topic(message):
            log.error("message without a request id", topic=delivery.topic)
            return
        answer = await self._answer(message)
        reply = reply_to(message, self._settings.cluster, answer)
        await self._bus.publish(reply_topic(message), message.request_id, encode(reply))

    def _is_for_us(self, message: Message) -> bool:
        """A message of the topic for all clusters may name those that it is for."""
        target = message.target.object
        if isinstance(target, dict):
            target = target.get("cluster")
        if isinstance(target, list):
            names = [one.get("cluster") if isinstance(one, dict) else one for one in target]
            return self._settings.cluster in names
        return target in (None, "", self._settings.cluster)

    async def _answer(self, message: Message) -> dict[str, object]:
        """`msg` of the reply."""
        try:
            if message.attempt is None:
                raise MalformedMessage("msg.attempt is missing")
            result = await self._carry_out(message)
        except (MalformedMessage, msgspec.ValidationError) as error:
            return {"result": "error", "message": f"hcode {message.hcode}: {error}"}
        body: dict[str, object] = msgspec.to_builtins(result)
        return {"result": body | {"status": result.status}}

    async def _carry_out(self, message: Message) -> ResultBody:
        code, msg = message.hcode, message.msg
        if code in (Code.LATENCY, Code.RESOURCES):
            return await self._or_refuse(self._carrier.ask(msgspec.convert(msg, AskBody)))
        if code in APPLY_CODES:
            return await self._carrier.apply(msgspec.convert(msg, ApplyBody))
        if code == Code.REVOKE:
            return await self._carrier.revoke(msgspec.convert(msg, RevokeBody))
        raise MalformedMessage("this code is not known here")

    async def _or_refuse(self, asking: Awaitable[ResultBody]) -> ResultBody:
        """What keeps an agent from answering a question is an answer to it."""
        try:
            return await asking
        except GschError as error:
            return ResultBody(status="fail", error_msg=str(error))

    # -- now and then ----------------------------------------------------------------------

    async def _report(self) -> None:
        while True:
            body = reports.report(
                self.snapshot,
                self._settings.cluster,
                location=self._settings.location,
                rtts_ms=self._settings.rtts_ms,
                agent=self._identity,
            )
            message = to_cluster("", Code.REPORT, msgspec.to_builtins(body))
            try:
                async with asyncio.timeout(LEASE_S):
                    await self._bus.publish(REPORT_TOPIC, self._settings.cluster, encode(message))
            except (GschError, TimeoutError) as error:
                log.warning("report not sent", error=str(error) or "timed out")
            await asyncio.sleep(REPORT_INTERVAL_S)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL_S)
            self.room.expire()
            for key in self.snapshot.expire(time.monotonic()):
                log.warning("assumed pod expired", pod=key)
