"""Reports the pods of requests to the layer, as they change: a watch of their own, because the
scheduler's picture of a pod has no addresses."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.api.reflector import EventType, Reflector
from cluster.errors import GschError
from cluster.objects.core import ObjectMeta
from federation.pods import MAX_REPORTED, PodsBody, PodState
from scheduler.config.pod_info import REQUEST_LABEL

log = structlog.get_logger(__name__)

GATHER_S = 0.3
"""Seconds for which changes are gathered into one message."""
RETRY_DELAY_S = 1.0


class _Container(msgspec.Struct, frozen=True):
    image: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    containers: list[_Container] = []


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    pod_ip: str = msgspec.field(default="", name="podIP")


class _Meta(ObjectMeta, frozen=True):
    creation_timestamp: str = ""


class ReportedPod(msgspec.Struct, frozen=True):
    """What is read of a pod."""

    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


class PodReports:
    """Of one cluster."""

    def __init__(
        self, client: ApiClient, cluster: str, publish: Callable[[PodsBody], Awaitable[None]]
    ) -> None:
        """`publish` returns once the report cannot be lost."""
        self._cluster, self._publish = cluster, publish
        self._pods: Reflector[ReportedPod] = Reflector(
            client, "/api/v1/pods", ReportedPod, self._changed, label_selector=REQUEST_LABEL
        )
        self._reported: dict[tuple[str, str], PodState] = {}
        self._dirty: dict[tuple[str, str], PodState | None] = {}
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pods.run())
            await self._pods.synced.wait()
            await self._send(first=True)
            group.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            await self._woken.wait()
            await asyncio.sleep(GATHER_S)
            self._woken.clear()
            while self._dirty:
                await self._send()

    async def _send(self, first: bool = False) -> None:
        part = list(self._dirty.items())[:MAX_REPORTED]
        for key, _ in part:
            del self._dirty[key]
        body = PodsBody(
            self._cluster,
            [state for _, state in part if state is not None],
            [key for key, state in part if state is None],
            first,
        )
        while True:
            try:
                await self._publish(body)
            except GschError as error:
                # The bus is away: nothing of it may be left out.
                log.warning("pods not reported, again", error=str(error))
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                return

    def _changed(self, kind: EventType, old: ReportedPod | None, new: ReportedPod | None) -> None:
        pod = new or old
        assert pod is not None  # noqa: S101 - one of them is there
        key = pod.metadata.namespace, pod.metadata.name
        state = None if new is None else _state(new)
        if state is None:
            self._reported.pop(key, None)
        elif self._reported.get(key) == state:
            return
        else:
            self._reported[key] = state
        self._dirty[key] = state
        self._woken.set()


def _state(pod: ReportedPod) -> PodState:
    meta = pod.metadata
    return PodState(
        (meta.labels or {}).get(REQUEST_LABEL, ""),
        meta.namespace,
        meta.name,
        pod.spec.node_name,
        pod.status.phase,
        pod.status.host_ip,
        pod.status.pod_ip,
        pod.spec.containers[0].image if pod.spec.containers else "",
        meta.creation_timestamp,
    )
