"""A cluster's agent: one event loop that feeds a snapshot, takes messages, and reports."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.api.lease import LeaderElector
from cluster.errors import GschError
from cluster.state.snapshot import Snapshot
from federation.agent import shapes
from federation.agent.carrier import Carrier
from federation.agent.cluster_rtts import ClusterRtts
from federation.agent.contact import Contact
from federation.agent.files import Files
from federation.agent.legacy import Legacy
from federation.agent.nodes import ClusterNodes
from federation.agent.objects import Objects
from federation.agent.pod_reports import PodReports
from federation.agent.pods import RequestPods
from federation.agent.rewrite import Target
from federation.agent.room import Room
from federation.agent.works import STOPPED, Works
from federation.bus import Bus, Delivery
from federation.fleet import LEASE_S, Report
from federation.forwarding.local_pods import LocalPods
from federation.forwarding.requests import PodRequests
from federation.forwarding.service import FORWARDING_CODES, Forwarding, ForwardingOptions
from federation.messages import (
    APPLY_CODES,
    GLOBAL_TOPIC,
    REPLY,
    REPLY_TOPIC,
    REPORT_TOPIC,
    REQUEST,
    Code,
    End,
    MalformedMessage,
    Message,
    decode,
    encode,
    reply_to,
    reply_topic,
    to_cluster,
    unreadable,
)
from federation.nodes import NodesBody
from federation.pods import PodsBody
from federation.settings import NO_KUBELET, KubeletSettings
from federation.streams.rendezvous import Rendezvous
from federation.wire import ApplyBody, AskBody, HeardBody, ResultBody, RevokeBody
from filters.common.handle import Handle
from latency.matrix import Matrix
from scheduler.cluster_feed import ClusterFeed
from scheduler.config.configuration import Configuration, Latency
from scheduler.cycle.framework import frameworks
from scheduler.process.latency_source import sources
from serving.identity import identity

log = structlog.get_logger(__name__)

NOT_MEASURED = Latency()
REPORT_INTERVAL_S = LEASE_S / 5
API_SERVER_WITHIN_S = LEASE_S / 3
"""Seconds within which the API server has to answer, or the cluster is not there."""
EXPIRE_INTERVAL_S = 30.0
CUT_OFF_INTERVAL_S = 0.5
STOP_AT_ONCE = 20
"""Copies that are stopped side by side."""


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
    lease_namespace: str = ""
    """Where the Lease is by which one of two agents works. Empty: there is only this one, beside
    the layer and not in its cluster."""
    legacy: bool = False
    """Whether messages of GS's own workers are taken, which have no attempt."""
    routable: frozenset[str] = frozenset()
    """Clusters whose pod addresses are reached from here."""
    kubelet: KubeletSettings = NO_KUBELET
    """The kubelet API for pods that were forwarded from here."""
    latency: Latency = NOT_MEASURED
    """Where round-trip times between nodes, and between clusters, come from."""


class ClusterAgent:
    """Of the cluster behind `client`."""

    def __init__(
        self,
        settings: AgentSettings,
        client: ApiClient,
        bus: Bus,
        files: Files,
        rendezvous: Rendezvous,
        pod_requests: PodRequests | None = None,
    ) -> None:
        """`pod_requests`: at which requests for this cluster's forwarded pods are made; without
        them none is forwarded from here."""
        self._settings, self._bus, self._client = settings, bus, client
        self.snapshot, self._pods = Snapshot(), RequestPods()
        configuration = Configuration()
        self._matrix = Matrix()
        self._nodes = ClusterNodes(client, settings.cluster, self._publish_nodes)
        self._rtts = ClusterRtts(settings.cluster, settings.rtts_ms, settings.latency)
        framework = frameworks(configuration, Handle(self._matrix))[
            configuration.profiles[0].scheduler_name
        ]
        self.feed = ClusterFeed(client, self.snapshot, listener=self._pods)
        self.room = Room(self.snapshot, framework)
        self._works, self._contact = Works(client), Contact()
        self._carrier = Carrier(
            Target(settings.cluster, settings.scheduler, settings.gateway),
            files,
            self._works,
            Objects(client, settings.impersonate),
            self._pods,
            self.room,
            self._contact,
            LocalPods(client),
        )
        self._forwarding = Forwarding(
            settings.cluster,
            client,
            bus,
            pod_requests,
            self._works,
            rendezvous,
            ForwardingOptions(settings.routable, settings.impersonate, settings.kubelet),
        )
        self._legacy = Legacy(
            settings.cluster, client, self.snapshot, self._carrier, self._rtts.current
        )
        self._identity = identity()
        self._unreported_stops = bool(settings.lease_namespace)
        """Whether the layer may not know what was stopped: by us, or by an agent before us."""

    async def run(self) -> None:
        """For ever. Raises ClusterError where the cluster lacks what the agent needs, and LeaseLost
        where another agent took over."""
        await self._works.ensure_kind()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            await self.feed.synced()
            if self._settings.lease_namespace:
                await self._lead(group)
            topics = [self._settings.cluster, GLOBAL_TOPIC]
            name = f"gsch-agent-{self._settings.cluster}"
            group.create_task(self._bus.consume(topics, name, self._on_message))
            for background in sources(self._settings.latency, self._client, self._matrix):
                group.create_task(background)
            group.create_task(self._rtts.run())
            group.create_task(self._nodes.run())
            group.create_task(self._report())
            group.create_task(self._expire())
            reports = PodReports(self._client, self._settings.cluster, self._publish_pods)
            group.create_task(reports.run())
            group.create_task(self._forwarding.run())
            log.info("agent works", cluster=self._settings.cluster)

    async def _lead(self, group: asyncio.TaskGroup) -> None:
        """Wait for the Lease, and keep it; only who has it stops copies when it is cut off."""
        name = f"gsch-agent-{self._settings.cluster}"
        elector = LeaderElector(self._client, self._settings.lease_namespace, name, self._identity)
        log.info("waiting for the lease", lease=name, identity=self._identity)
        await elector.acquire()
        group.create_task(elector.hold())
        self._contact.restart()
        group.create_task(self._stop_when_cut_off())

    # -- messages --------------------------------------------------------------------------

    async def _on_message(self, delivery: Delivery) -> None:
        """Its effect and its reply come first; then it counts as taken."""
        try:
            message = decode(delivery.body)
        except MalformedMessage as error:
            log.error("message not understood", topic=delivery.topic, problem=str(error))
            await self._bus.publish(REPLY_TOPIC, "", encode(unreadable(delivery.body, str(error))))
            return
        if not self._is_for_us(message):
            return
        if message.lcode != REQUEST:
            if message.hcode == Code.REPORT:
                await self._on_heard(message)
            return
        if message.hcode in FORWARDING_CODES:
            await self._forwarding.take(message)
            return
        if not reply_topic(message):
            log.error("message without a request id", topic=delivery.topic)
            problem = "msg.request_id is missing"
            await self._bus.publish(REPLY_TOPIC, "", encode(unreadable(delivery.body, problem)))
            return
        answer = await self._answer(message)
        if message.hcode == Code.REVOKE and message.msg.get("held_only") is True:
            # Only room was given back: nobody waits to hear of it.
            return
        reply = reply_to(message, self._settings.cluster, answer)
        await self._bus.publish(reply_topic(message), message.request_id, encode(reply))

    async def _on_heard(self, message: Message) -> None:
        try:
            heard = msgspec.convert(message.msg, HeardBody)
        except msgspec.ValidationError as error:
            log.error("message not understood", problem=str(error))
            return
        if heard.agent != self._identity:
            return
        if self._contact.heard(heard.number):
            log.info("the layer hears us again", cluster=self._settings.cluster)
            self._unreported_stops = True
        if self._unreported_stops:
            await self._report_stops()
            self._unreported_stops = False

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
            if message.attempt is None or message.hcode in (Code.PROJECT, Code.POD):
                if not self._settings.legacy:
                    raise MalformedMessage(
                        "msg.attempt is missing; messages of GS are taken with `legacy: true`"
                    )
                return {"result": await self._legacy.answer(message)}
            result = await self._carry_out(message)
        except (MalformedMessage, msgspec.ValidationError) as error:
            return {"result": "error", "message": f"hcode {message.hcode}: {error}"}
        body: dict[str, object] = msgspec.to_builtins(result)
        return {"result": body | {"status": result.status}}

    async def _carry_out(self, message: Message) -> ResultBody:
        code, msg = message.hcode, message.msg
        if code in (Code.LATENCY, Code.RESOURCES):
            return await self._carrier.ask(msgspec.convert(msg, AskBody))
        if code in APPLY_CODES:
            return await self._carrier.apply(msgspec.convert(msg, ApplyBody))
        if code == Code.REVOKE:
            return await self._carrier.revoke(msgspec.convert(msg, RevokeBody))
        raise MalformedMessage("this code is not known here")

    # -- now and then ----------------------------------------------------------------------

    async def _report(self) -> None:
        """Now and then, and when somebody waits for it: as long as the API server answers us."""
        while True:
            try:
                async with asyncio.timeout(API_SERVER_WITHIN_S):
                    await self._client.request("GET", "/version")
                async with asyncio.timeout(LEASE_S):
                    await self._send_report()
            except (GschError, TimeoutError) as error:
                log.warning("report not sent", error=str(error) or "timed out")
                await asyncio.sleep(CUT_OFF_INTERVAL_S)
            try:
                async with asyncio.timeout(REPORT_INTERVAL_S):
                    await self._contact.wanted.wait()
            except TimeoutError:
                pass

    async def _send_report(self) -> None:
        settings = self._settings
        body = Report(
            settings.cluster,
            shapes.shapes(self.snapshot),
            settings.location,
            self._rtts.current(),
            self._storage_classes(),
            self._identity,
            self._contact.next_report(),
            self._nodes.pod_networks,
            bool(settings.lease_namespace),
        )
        message = to_cluster("", Code.REPORT, msgspec.to_builtins(body))
        await self._bus.publish(REPORT_TOPIC, settings.cluster, encode(message))

    def _storage_classes(self) -> list[str]:
        """Also those that volumes alone name."""
        storage = self.snapshot.storage
        of_volumes = {one.spec.storage_class_name for one in storage.volumes.values()}
        return sorted({*storage.classes, *of_volumes} - {""})

    async def _publish_pods(self, body: PodsBody) -> None:
        await self._publish(Code.PODS, body)

    async def _publish_nodes(self, body: NodesBody) -> None:
        await self._publish(Code.NODES, body)

    async def _publish(self, code: Code, body: msgspec.Struct) -> None:
        message = to_cluster("", code, msgspec.to_builtins(body))
        await self._bus.publish(REPORT_TOPIC, self._settings.cluster, encode(message))

    async def _stop_when_cut_off(self) -> None:
        """Once the layer may take the cluster for lost, nothing runs here that it may start
        elsewhere."""
        stopped = False
        while True:
            await asyncio.sleep(CUT_OFF_INTERVAL_S)
            if not self._contact.cut_off:
                stopped = False
            elif not stopped:
                stopped = await self._stop_copies()

    async def _stop_copies(self) -> bool:
        """Whether all of them are gone."""
        try:
            works = await self._works.to_stop()
            running = [w for w in works if w.spec.objects]
            if running:
                log.warning("cut off from the layer: copies are stopped", requests=len(running))
            room = asyncio.Semaphore(STOP_AT_ONCE)

            async def stop(request_id: str, attempt: int) -> None:
                async with room:
                    await self._carrier.stop(request_id, attempt)

            await asyncio.gather(*(stop(w.metadata.name, w.spec.attempt) for w in running))
        except (GschError, TimeoutError) as error:
            log.warning("copies not stopped, again", error=str(error) or "timed out")
            return False
        return True

    async def _report_stops(self) -> None:
        """What was stopped by ourselves: the layer may not have noticed."""
        for work in await self._works.to_stop():
            if work.spec.result.status == STOPPED and not work.spec.objects:
                msg = {
                    "request_id": work.metadata.name,
                    "attempt": work.spec.attempt,
                    "result": {"status": "success", "stopped": True},
                }
                source = End("cluster", self._settings.cluster)
                reply = Message(Code.REVOKE, REPLY, msg, source)
                await self._bus.publish(REPLY_TOPIC, work.metadata.name, encode(reply))

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL_S)
            self.room.expire()
            for key in self.snapshot.expire(time.monotonic()):
                log.warning("assumed pod expired", pod=key)
