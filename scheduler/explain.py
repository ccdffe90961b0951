"""Node by node, why a pod fits or does not, and what score each node got."""

from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np

from cluster.client import ApiClient, with_query
from cluster.kinds import RESOURCES, put
from cluster.objects import (
    ConfigMap,
    Node,
    ObjectList,
    Pod,
)
from cluster.snapshot import Snapshot, load
from latency.matrix import Matrix, Pair, parse
from scheduler.configuration import ConfigMapReference, Configuration
from scheduler.cycle import Cycle
from scheduler.pods import pod_info
from scheduler.profiles import frameworks
from scheduler.trial import Trial

PAGE = 500


class CannotExplain(Exception):
    """There is nothing to explain; the text says why."""


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """One node: the plugin that refused it with its reasons, or its scores (weighted, summed)."""

    node: str
    fits: bool
    refused_by: str = ""
    reasons: list[str] = field(default_factory=list)
    scores: dict[str, int] = field(default_factory=dict)
    total: int = 0
    rtt_ms: float | None = None
    chosen: bool = False

    def row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A pod, the message that its condition would carry (empty if it fits), and every node."""

    pod: str
    policy: str
    message: str
    nodes: list[NodeVerdict]


def explain(
    pod: Pod, snapshot: Snapshot, configuration: Configuration, matrix: Matrix
) -> Explanation:
    """Evaluate one pod against the snapshot, as the scheduling cycle would.

    Raises CannotExplain, InvalidGschConfig, WaitsForGlobal, QuantityError.
    """
    framework = frameworks(configuration, matrix).get(pod.spec.scheduler_name)
    if framework is None:
        raise CannotExplain(f"pod {pod.key} is for scheduler {pod.spec.scheduler_name}")
    info = pod_info(pod)
    cycle = Cycle(snapshot, configuration.seed)
    decision = cycle.decide(framework, info)
    trial = decision.trial
    rows = [row for row, name in enumerate(snapshot.names) if snapshot.row(name) == row]
    message = decision.diagnosis.message if decision.diagnosis else ""
    if trial.rejection is not None:
        plugin, reason = trial.rejection
        verdicts = [NodeVerdict(snapshot.names[row], False, plugin, [reason]) for row in rows]
        return Explanation(pod.key, info.policy, message, verdicts)
    times = framework.times(info, snapshot)
    refusals, scores = _refusals(trial), _scores(trial)
    verdicts = []
    for row in rows:
        name = snapshot.names[row]
        rtt = None if times is None or np.isnan(times[row]) else float(times[row])
        if row in refusals:
            plugin, reasons = refusals[row]
            verdicts.append(NodeVerdict(name, False, plugin, reasons, rtt_ms=rtt))
        else:
            total, chosen = sum(scores[row].values()), row == decision.row
            verdicts.append(NodeVerdict(name, True, "", [], scores[row], total, rtt, chosen))
    return Explanation(pod.key, info.policy, message, verdicts)


def _refusals(trial: Trial) -> dict[int, tuple[str, list[str]]]:
    """The plugin that refused a row first, with its reasons, by row."""
    found: dict[int, tuple[str, list[str]]] = {}
    for plugin, reasons, _ in trial.verdicts():
        for reason, nodes in reasons:
            for row in np.flatnonzero(nodes).tolist():
                found.setdefault(row, (plugin, []))[1].append(reason)
    return found


def _scores(trial: Trial) -> dict[int, dict[str, int]]:
    """Weighted scores by feasible row and plugin."""
    table = trial.score_table()
    return {
        row: {plugin: weight * int(scaled[index]) for plugin, weight, _, scaled in table}
        for index, row in enumerate(np.flatnonzero(trial.feasible).tolist())
    }


async def latency(client: ApiClient, reference: ConfigMapReference) -> list[Pair]:
    """The pairs of a ConfigMap's key. Raises ApiError, TransportError, LatencyError."""
    path = f"/api/v1/namespaces/{reference.namespace}/configmaps/{reference.name}"
    found = await client.get(path, ConfigMap)
    return parse((found.data or {}).get(reference.key, ""), f"ConfigMap {path}")


async def live(client: ApiClient, key: str) -> tuple[Pod, Snapshot]:
    """The pod `namespace/name` and the cluster as it is now.

    A pod that runs already is looked at as if it were pending. Raises ApiError, TransportError.
    """
    namespace, _, name = key.partition("/")
    pod = await client.get(f"/api/v1/namespaces/{namespace}/pods/{name}", Pod)
    pending = msgspec.structs.replace(pod.spec, node_name="")
    pod = msgspec.structs.replace(pod, spec=pending)
    nodes = await _all(client, "/api/v1/nodes", ObjectList[Node])
    pods = await _all(client, "/api/v1/pods", ObjectList[Pod])
    snapshot = load(nodes, (p for p in pods if p.key != key))
    for resource in RESOURCES.values():
        for item in await _all(client, resource.path, ObjectList[resource.type]):  # type: ignore[name-defined]
            put(snapshot, resource.kind, item)
    return pod, snapshot


async def _all(client: ApiClient, path: str, type_: type[Any]) -> list[Any]:
    items: list[Any] = []
    token = ""
    while True:
        page = await client.get(with_query(path, {"limit": PAGE, "continue": token}), type_)
        items += page.items or ()
        token = page.metadata.continue_
        if not token:
            return items
