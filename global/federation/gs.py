"""GS's own spellings: request jobs in their two forms, and nested lists of clusters as text.

A request job is what a policy worker takes from a dispatched queue, and what it hands on to agents
as `request_data`.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from cluster.errors import GschError
from federation.nodes import NodeState
from federation.request import Queue, Request, Source
from federation.wire import ApplyBody


class BadClusters(GschError):
    """A text that is no nested list of clusters."""

    status = 400


def clusters_of_text(text: str) -> list[str | list[str]]:
    """The nested list of GS's forms (`['c1',['c2','c3'],'c4']`), which is Python's way to write
    it; read, not evaluated. Raises BadClusters."""
    if not text.strip():
        return []
    try:
        levels = json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError) as error:
        raise BadClusters(
            f"select_clusters: {text[:80]!r} is no list: ['c1', ['c2', 'c3']] is one"
        ) from error
    try:
        return msgspec.convert(
            levels if isinstance(levels, list) else [levels], list[str | list[str]]
        )
    except msgspec.ValidationError as error:
        raise BadClusters(
            f"select_clusters: {error}; a list of names, or of lists of names, is expected"
        ) from error


def names_in(given: Any) -> list[str]:
    """All names of a nested list, in order; what is no name is left out."""
    if isinstance(given, str):
        return [given] if given else []
    if isinstance(given, list):
        return [name for one in given for name in names_in(one)]
    return []


def node(state: NodeState) -> dict[str, Any]:
    """A node, as `/GEP/INFO` shows it."""
    return {
        "node_name": state.name,
        "node_type": "master" if state.master else "worker",
        "status": "ready" if state.ready else "not-ready",
        "ip": state.address,
        "cpu": state.cpu,
        "memory": state.memory,
        "nvidia.com/gpu": state.gpus,
    }


def order_of(order: ApplyBody, request_data: Any, work_info: Mapping[str, Any]) -> ApplyBody:
    """The order, with what the job says beside it: from where latency counts, the mode, the
    namespace."""
    job = _decoded(request_data)
    option = _map(_map(job.get("env")).get("option"))
    parameters = {**option, **_map(option.get("parameters"))}

    def text(*names: str) -> str:
        return next((v for n in names if isinstance(v := parameters.get(n), str) and v), "")

    namespace = work_info.get("namespace_name") or job.get("namespace") or "default"
    return msgspec.structs.replace(
        order,
        namespace=str(namespace),
        mode=text("mode") or "default",
        node=text("select_node") if text("mode") == "node" else "",
        source_cluster=text("source_cluster", "sourceCluster"),
        source_node=text("source_node", "sourceNode"),
        source_pod=text("pod_name", "podName"),
    )


def _decoded(given: Any) -> Mapping[str, Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return {}
    return _map(given)


def _map(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, dict) else {}


def job(request: Request) -> dict[str, Any]:
    """A request as GS's workers take it: the newest spelling, with the older one's names beside
    it."""
    clusters: list[Any] = [level[0] if len(level) == 1 else level for level in request.levels]
    source = request.source
    parameters: dict[str, Any] = {
        "source_cluster": source.cluster,
        "select_clusters": clusters,
        **_source_of(source),
    }
    if request.mode == "node":
        parameters |= {"select_cluster": request.levels[0][0], "select_node": request.node}
    cdate = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(request.created_at))
    option = {
        "user_name": request.owner.user,
        "workspace_name": request.owner.workspace,
        "project_name": request.owner.project,
        "mode": request.mode,
        "parameters": parameters,
        "sourceCluster": source.cluster,
        "sourceNode": source.node,
    }
    env = {
        "scope": "global",
        "type": "global",
        "priority": request.policy,
        "targetClusters": clusters,
        "option": option,
    }
    return {
        "request_id": request.id,
        "requestID": request.id,
        "callback_url": request.callback_url,
        "file_id": request.file_id,
        "fileID": request.file_id,
        "fail_count": request.fail_count,
        "failCnt": request.fail_count,
        "status": "scheduling",
        "cdate": cdate,
        "date": cdate,
        "namespace": request.namespace,
        "fast": request.queue is Queue.FAST,
        "env": env,
    }


def _source_of(source: Source) -> dict[str, str]:
    if source.pod:
        return {"pod_name": source.pod}
    return {"source_node": source.node}
