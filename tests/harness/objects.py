"""One pod against a few nodes: the nodes that are left, and what is said about the others."""

from typing import Any

import msgspec

from cluster.objects.core import Node, Pod
from cluster.state.resource_types import RESOURCES, put
from cluster.state.snapshot import Snapshot
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle, Decision, ScheduleResult
from scheduler.cycle.trial import Trial
from tests.harness.make import Json, node, snapshot

LABELLED = (
    node("a", labels={"zone": "1", "cores": "8"}),
    node("b", labels={"zone": "2", "cores": "16"}),
    node("c", labels={"cores": "many"}),
)


def trial(
    new: Pod, *nodes: Node, pods: tuple[Pod, ...] = (), others: tuple[Json, ...] = ()
) -> Trial:
    """The pod against these nodes, on which `pods` run; `others` are objects as JSON."""
    made = snapshot(*nodes, pods=pods)
    for raw in others:
        put(made, raw["kind"], read(raw))
    return Cycle(made).trial(Framework(Profile("gsch"), Matrix()), pod_info(new))


def read(raw: Json) -> Any:
    """An object of one of the kinds that the snapshot keeps."""
    return msgspec.json.decode(msgspec.json.encode(raw), type=RESOURCES[raw["kind"]].type)


def admitted(new: Pod, *nodes: Node, **more: Any) -> list[str]:
    """Names of the nodes that fit."""
    made = trial(new, *nodes, **more)
    if made.rejection is not None:
        return []
    return [n.metadata.name for n, fits in zip(nodes, made.feasible, strict=True) if fits]


def diagnosis(new: Pod, *nodes: Node, **more: Any) -> Diagnosis:
    return trial(new, *nodes, **more).diagnose()


def scores(plugin: str, new: Pod, *nodes: Node, **more: Any) -> list[int]:
    """The plugin's normalised scores of the nodes that fit; empty where it has no say."""
    for name, _, _, normalised in trial(new, *nodes, **more).score_table():
        if name == plugin:
            return [int(score) for score in normalised]
    return []


def expression(key: str, operator: str, *values: str) -> Any:
    return {"key": key, "operator": operator, "values": list(values)}


def row_of(snapshot: Snapshot, node: str) -> int:
    """The row of a node that has to be there."""
    row = snapshot.row(node)
    assert row is not None, f"no node {node}"
    return row


def chosen_row(decision: Decision) -> int:
    """The row that a cycle has to have chosen."""
    assert isinstance(decision, ScheduleResult), decision
    return decision.row
