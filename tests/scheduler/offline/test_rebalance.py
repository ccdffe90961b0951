"""Which moves are proposed: each as if those before it were made, and none by halves."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from cluster.objects.core import Pod
from cluster.state.resource_types import put
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks
from scheduler.offline.rebalance import Move, MoveLimits, find
from tests.harness.make import node, pod_json, snapshot
from tests.harness.objects import read

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STARTED = "2026-01-01T00:00:00Z"


def running(name: str, on: str, started: str = STARTED, **option: Any) -> Pod:
    config = json.dumps({"priority": "GLowLatencyPriority", "option": option})
    raw = pod_json(name, {"cpu": "1"}, config, nodeName=on)
    owner = {"controller": True, "kind": "ReplicaSet", "name": "rs", "uid": "rs"}
    raw["metadata"] |= {"uid": name, "labels": {"app": "moved"}, "ownerReferences": [owner]}
    raw["status"] = {"startTime": started}
    return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)


def moves(
    pods: list[Pod], pairs: list[Pair], *nodes: Any, allowed: int | None = None, most: int = 9
) -> list[Move]:
    found = snapshot(*nodes, pods=tuple(pods))
    if allowed is not None:
        budget = {
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "moved"}}},
            "status": {"disruptionsAllowed": allowed},
        }
        put(found, "PodDisruptionBudget", read(budget))
    matrix = Matrix()
    matrix.replace(Readings.of(pairs))
    before = {key: record.node for key, record in found.pods.items()}
    result = find(pods, found, frameworks(Configuration(), matrix), MoveLimits(moves=most), NOW)
    assert {key: record.node for key, record in found.pods.items()} == before
    return result


FAR = [Pair("camera", "far", 40.0), Pair("camera", "near", 2.0), Pair("far", "near", 40.0)]
SOURCE = {"sourceNode": "camera"}


def test_one_free_place_is_proposed_to_one_pod() -> None:
    pods = [running(f"p{n}", "far", **SOURCE) for n in range(3)]
    nodes = (node("camera", cpu="0"), node("far"), node("near", cpu="1"))
    found = moves(pods, FAR, *nodes)
    assert [(len(move.steps), move.steps[0].target) for move in found] == [(1, "near")]


def test_room_that_a_move_leaves_is_there_for_the_next() -> None:
    """`second` can only go where `first` was."""
    pods = [running("first", "mid", **SOURCE), running("second", "far", **SOURCE)]
    pairs = [
        Pair("camera", "far", 40.0), Pair("camera", "mid", 30.0), Pair("camera", "near", 2.0),
    ]  # fmt: skip
    nodes = (node("camera", cpu="0"), node("far"), node("mid", cpu="1"), node("near", cpu="1"))
    found = moves(pods, pairs, *nodes)
    targets = [step.target for move in found for step in move.steps]
    assert len(targets) == len(set(targets))


def test_a_pipeline_moves_as_a_whole_or_not_at_all() -> None:
    """A budget of one would let a first pod go and refuse the others."""
    talks: dict[str, list[Any]] = {
        "a": [{"node": "camera", "callsPerSecond": 10}], "b": ["a"], "c": ["b"],
    }  # fmt: skip
    pods = [
        running(name, "far", pipeline="p", stages=["a", "b", "c"], stage=name, dependsOn=to)
        for name, to in talks.items()
    ]
    nodes = (node("camera", cpu="0"), node("far"), node("near"))
    [whole] = moves(pods, FAR, *nodes, allowed=3)
    assert sorted(step.pod for step in whole.steps) == ["default/a", "default/b", "default/c"]
    assert not whole.kept
    [kept] = moves(pods, FAR, *nodes, allowed=1)
    assert len(kept.steps) == 3
    assert kept.kept.startswith("kept:")


def test_budgets_are_used_up_by_the_moves_before() -> None:
    pods = [running(f"p{n}", "far", **SOURCE) for n in range(3)]
    nodes = (node("camera", cpu="0"), node("far"), node("near"))
    found = moves(pods, FAR, *nodes, allowed=2)
    assert [bool(move.kept) for move in found] == [False, False, True]


def test_a_pod_that_was_moved_lately_stays() -> None:
    """Its successor has not run for `settled` seconds yet."""
    nodes = (node("camera", cpu="0"), node("far"), node("near"))
    assert moves([running("p", "far", "2026-01-01T23:55:00Z", **SOURCE)], FAR, *nodes) == []
    assert len(moves([running("p", "far", **SOURCE)], FAR, *nodes)) == 1
