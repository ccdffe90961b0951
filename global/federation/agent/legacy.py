"""Messages as GS's own workers send them: without an attempt, and answered their way.

The shapes are GS's (`msg.result` is a text, a list or an object, by code). What they ask for is
done by the same hands as our own orders, so that it is done once too."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from cluster.api.client import ApiClient, ApiError
from cluster.state.snapshot import Snapshot
from federation import gs
from federation.agent.carrier import Carrier
from federation.agent.works import REVOKED, Works
from federation.documents import NAME
from federation.messages import APPLY_CODES, Code, MalformedMessage, Message
from federation.request import LOW_LATENCY, MOST_REQUESTED, SELECTED, SET
from federation.step import BEYOND_EXTERNAL
from federation.wire import GPU, ApplyBody, RevokeBody

POLICIES = {
    Code.APPLY_LATENCY: LOW_LATENCY,
    Code.APPLY_MOST: MOST_REQUESTED,
    Code.APPLY_SELECTED: SELECTED[0],
    Code.APPLY_SET: SET,
}
PROJECT_LABEL = "gsch.io/project"
GPU_WEIGHT = 200.0
"""Of GS's score: (100 - cpu%) + (100 - memory%) + 200 for each free GPU."""


class Legacy:
    """Answers them for one cluster."""

    def __init__(
        self,
        cluster: str,
        client: ApiClient,
        snapshot: Snapshot,
        carrier: Carrier,
        rtts_ms: Callable[[], Mapping[str, float]],
    ) -> None:
        self._cluster, self._client, self._snapshot = cluster, client, snapshot
        self._carrier, self._works, self._rtts_ms = carrier, Works(client), rtts_ms

    async def answer(self, message: Message) -> Any:
        """`msg.result` of the reply. Raises MalformedMessage, msgspec.ValidationError, and
        GschError where the API server is away: it has to be asked again."""
        match message.hcode:
            case Code.LATENCY:
                return self._latencies(message.msg)
            case Code.RESOURCES:
                return self._resources(message.msg)
            case code if code in APPLY_CODES:
                return await self._apply(message)
            case Code.PROJECT:
                return await self._project(message.msg)
            case Code.POD:
                return await self._node_of_pod(message.msg)
        raise MalformedMessage("this code is not known here")

    def _latencies(self, msg: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Of the clusters that were asked about, in ms, the nearest first."""
        names = gs.names_in(msg.get("select_clusters"))
        rtts = {**self._rtts_ms(), self._cluster: 0.0}
        latencies = [{"cluster": n, "latency": rtts[n]} for n in names or rtts if n in rtts]
        return sorted(latencies, key=lambda one: (one["latency"], one["cluster"]))

    def _resources(self, msg: Mapping[str, Any]) -> dict[str, Any]:
        """The best node by GS's score, and the score of the cluster: the sum over its nodes."""
        view = self._snapshot.view()
        usable = view.valid & ~view.unschedulable
        gpus = view.free(GPU) if GPU in self._snapshot.resource_names else np.zeros(len(usable))
        if msg.get("GPUFilter") == "necessary":
            usable = usable & (gpus > 0)
        rows = np.flatnonzero(usable)
        if not len(rows):
            return {"cluster_name": self._cluster, "node_name": "", "score": 0}
        score = GPU_WEIGHT * gpus[rows]
        for name in ("cpu", "memory"):
            offered = np.maximum(view.allocatable(name)[rows], 1)
            score = score + 100.0 * view.free(name)[rows] / offered
        row = int(rows[int(np.argmax(score))])
        return {
            "cluster_name": self._cluster,
            "node_name": self._snapshot.names[row],
            "cpu": int(view.free("cpu")[row]),
            "memory": int(view.free("memory")[row]),
            GPU: int(gpus[row]),
            "score": round(float(score.sum()), 3),
        }

    async def _apply(self, message: Message) -> str:
        """`success`, `fail` or `cancel`; of what failed nothing stays."""
        msg, request_id = message.msg, message.request_id
        file_id = msg.get("file_id", msg.get("fileID"))
        if not isinstance(file_id, str) or not file_id:
            raise MalformedMessage("msg.file_id is missing")
        work = await self._works.get(request_id)
        if work is not None and work.spec.attempt >= BEYOND_EXTERNAL:
            # The layer has taken the request back from that worker.
            return "cancel"
        attempt = 1 if work is None else work.spec.attempt + (work.spec.state == REVOKED)
        order = gs.order_of(
            ApplyBody(request_id, attempt, file_id, POLICIES[Code(message.hcode)]),
            msg.get("request_data"),
            message.work_info or {},
        )
        result = await self._carrier.apply(order)
        if result.status != "success":
            await self._carrier.revoke(RevokeBody(request_id, attempt))
        return result.status

    async def _project(self, msg: Mapping[str, Any]) -> dict[str, str]:
        """Make or remove a project's namespace; never one that is not a project's."""
        given = msgspec.convert(msg.get("parameters"), _Project)
        name = f"{given.project_name}-{given.workspace_uid}"
        if not NAME.fullmatch(name):
            raise MalformedMessage(f"msg.parameters: {name!r} is no namespace's name")
        path = f"/api/v1/namespaces/{name}"
        existing = await self._client.request("GET", path)
        if not existing.ok and existing.status != 404:
            raise ApiError(existing, f"read namespace {name}")
        labels = existing.decode(_Namespace).metadata.labels or {} if existing.ok else {}
        if existing.ok and PROJECT_LABEL not in labels:
            return {"status": "fail", "error_msg": f"namespace {name} is there, and no project's"}
        if msg.get("method") == "create":
            body = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {PROJECT_LABEL: given.project_name}},
            }
            if not existing.ok:
                reply = await self._client.request("POST", "/api/v1/namespaces", body)
                if not reply.ok and reply.status != 409:
                    return {"status": "fail", "error_msg": reply.error.message}
        elif msg.get("method") == "delete":
            if existing.ok:
                reply = await self._client.request("DELETE", path)
                if not reply.ok and reply.status != 404:
                    return {"status": "fail", "error_msg": reply.error.message}
        else:
            raise MalformedMessage(f"msg.method: create or delete, not {msg.get('method')!r}")
        return {"status": "success", "error_msg": ""}

    async def _node_of_pod(self, msg: Mapping[str, Any]) -> dict[str, str]:
        given = msgspec.convert(msg.get("parameters"), _PodName)
        for name in (given.namespace_name, given.pod_name):
            if not NAME.fullmatch(name):
                raise MalformedMessage(f"msg.parameters: {name!r} is no name")
        path = f"/api/v1/namespaces/{given.namespace_name}/pods/{given.pod_name}"
        reply = await self._client.request("GET", path)
        node = reply.decode(_Pod).spec.node_name if reply.ok else ""
        problem = "" if node else "the pod has no node yet" if reply.ok else reply.error.message
        return {
            "status": "success" if node else "fail",
            "source_node": node,
            "error_msg": problem,
        }


class _Project(msgspec.Struct):
    workspace_uid: str
    project_name: str


class _PodName(msgspec.Struct):
    pod_name: str
    namespace_name: str = "default"


class _Meta(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Namespace(msgspec.Struct):
    metadata: _Meta


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct):
    spec: _PodSpec
