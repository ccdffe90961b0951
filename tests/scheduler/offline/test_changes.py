"""Changes to a recorded cluster: what is drained, added and copied."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from cluster.objects.core import OwnerReference, Pod, PodStatus
from scheduler.offline.changes import add_nodes, cordon, drain, scale, under
from scheduler.offline.manifests import ManifestError, Objects
from tests.harness.make import node, pod


def with_status(plain: Pod, **fields: Any) -> Pod:
    return msgspec.structs.replace(plain, status=PodStatus(**fields))


def owned(plain: Pod, kind: str) -> Pod:
    meta = msgspec.structs.replace(plain.metadata, owner_references=[OwnerReference(kind=kind)])
    return msgspec.structs.replace(plain, metadata=meta)


def recorded() -> Objects:
    return Objects(
        [node("a"), node("b"), node("c", unschedulable=True)],
        [
            with_status(pod("runs", nodeName="a"), phase="Running", start_time="x"),
            owned(pod("agent", nodeName="a"), "DaemonSet"),
            owned(pod("copy", nodeName="a"), "ReplicaSet"),
            with_status(pod("done", nodeName="a"), phase="Succeeded"),
            pod("elsewhere", nodeName="b"),
            pod("waits"),
        ],
    )


def cordoned(objects: Objects) -> list[str]:
    return [n.metadata.name for n in objects.nodes if n.spec.unschedulable]


def on(objects: Objects) -> dict[str, str]:
    return {p.metadata.name: p.spec.node_name for p in objects.pods}


def test_cordoned_nodes_take_no_new_pods_and_keep_their_own() -> None:
    before = recorded()
    after = cordon(before, ["b"])
    assert cordoned(after) == ["b", "c"]
    assert on(after) == on(before)
    assert cordoned(before) == ["c"]


def test_a_drained_node_keeps_only_what_ended_and_what_belongs_to_every_node() -> None:
    after = drain(recorded(), ["a"])
    assert cordoned(after) == ["a", "c"]
    assert on(after) == {
        "runs": "", "agent": "a", "copy": "", "done": "a", "elsewhere": "b", "waits": "",
    }  # fmt: skip
    runs = next(p for p in after.pods if p.metadata.name == "runs")
    assert runs.status == PodStatus()


@pytest.mark.parametrize("change", [cordon, drain])
def test_a_node_that_is_not_there_is_named(change: Any) -> None:
    with pytest.raises(ManifestError, match="no node x, y among the 3 of these files"):
        change(recorded(), ["y", "a", "x"])


def test_further_nodes_take_the_place_of_those_of_their_name() -> None:
    after = add_nodes(recorded(), [node("d"), node("a", cpu="64")])
    assert [n.metadata.name for n in after.nodes] == ["b", "c", "d", "a"]
    assert after.nodes[-1].status.allocatable == node("a", cpu="64").status.allocatable


@pytest.mark.parametrize(
    ("copies", "waiting"),
    [(0, ["waits"]), (1, ["waits"]), (3, ["waits-1", "waits-2", "waits-3"])],
)
def test_only_pending_pods_are_copied(copies: int, waiting: list[str]) -> None:
    after = scale(recorded(), copies)
    assert list(on(after)) == ["runs", "agent", "copy", "done", "elsewhere", *waiting]
    assert len({p.metadata.uid for p in after.pods}) == len(after.pods)


def test_all_pods_can_be_tried_under_one_profile() -> None:
    before = replace(recorded(), pods=[pod("p", scheduler="other"), pod("q")])
    after = under(before, "mine")
    assert [p.spec.scheduler_name for p in after.pods] == ["mine", "mine"]
    assert [p.spec.scheduler_name for p in before.pods] == ["other", "gsch"]
