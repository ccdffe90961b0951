"""Node by node, why a pod fits or not, and what would have to change."""

import json
from typing import Any

import pytest

from cluster.errors import PodRejected
from cluster.state.snapshot import Snapshot
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.config.configuration import Configuration
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import frameworks
from scheduler.offline.explain import CannotExplain, Explanation, explain, explain_with
from scheduler.queue.nominator import Nominator
from tests.harness.make import node, pod, snapshot

TAINT: Any = {"key": "k", "effect": "NoSchedule"}


def explained(new: Any, found: Snapshot, *pairs: Pair) -> Explanation:
    matrix = Matrix()
    matrix.replace(Readings.of(list(pairs)))
    return explain(new, found, Configuration(seed=1), matrix)


def test_every_node_is_told_with_its_reasons_and_the_change_that_would_help() -> None:
    found = snapshot(
        node("fits"),
        node("small", cpu="1"),
        node("tainted", taints=[TAINT], unschedulable=True),
    )
    result = explained(pod(requests={"cpu": "2"}), found)
    assert (result.pod, result.profile, result.message) == ("default/pod", "gsch", "")
    assert (result.chosen, result.nearest, result.preemption) == ("fits", None, None)
    fits, small, tainted = result.nodes
    assert (fits.fits, fits.chosen, fits.changes, fits.refused_by) == (True, True, [], "")
    assert set(fits.filters.values()) == {"ok"}
    assert fits.total == sum(score.weighted for score in fits.scores.values()) > 0
    assert all(s.weighted == s.weight * s.normalized for s in fits.scores.values())
    assert (small.fits, small.refused_by) == (False, "NodeResourcesFit")
    assert small.reasons == ["Insufficient cpu"]
    assert len(small.changes) == 1
    assert "cpu" in small.changes[0]
    # The first that refuses counts in messages; all that refuse are told.
    assert tainted.refused_by == "NodeUnschedulable"
    assert tainted.filters["TaintToleration"] == "node(s) had untolerated taint(s)"
    assert tainted.changes == ["the node uncordoned", "a toleration of the taint k:NoSchedule"]
    assert tainted.scores == {}


def test_a_pod_that_fits_nowhere_is_told_the_node_with_the_least_to_change() -> None:
    found = snapshot(node("far", cpu="2"), node("near", cpu="8"), node("hole"))
    found.remove_node("hole")
    result = explained(pod(requests={"cpu": "9"}), found)
    assert result.chosen is None
    assert result.message.startswith("0/2 nodes are available: 2 Insufficient cpu.")
    assert result.nearest == "near"
    assert [verdict.node for verdict in result.nodes] == ["far", "near"]


def test_victims_of_a_preemption_are_named() -> None:
    low = pod("low", requests={"cpu": "3"}, nodeName="a", priority=1)
    found = snapshot(node("a", cpu="4"), pods=(low,))
    result = explained(pod(requests={"cpu": "2"}, priority=9), found)
    assert result.preemption is not None
    assert (result.preemption.node, result.preemption.pods) == ("a", ["default/low"])
    assert result.preemption.budget_violations == 0
    assert "default/low" in found.pods
    assert result.message == "0/1 nodes are available: 1 Insufficient cpu."


def test_a_pod_that_no_removal_helps_is_told_so() -> None:
    found = snapshot(node("a", unschedulable=True))
    result = explained(pod(priority=9), found)
    assert result.preemption is None
    assert "Preemption is not helpful for scheduling" in result.message


def test_a_pod_that_is_refused_as_a_whole_is_refused_on_every_node() -> None:
    new = pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "gone"}}])
    result = explained(new, snapshot(node("a"), node("b")))
    assert [(v.fits, v.reasons) for v in result.nodes] == [
        (False, ['persistentvolumeclaim "gone" not found'])
    ] * 2
    assert result.nearest is None


def test_round_trip_times_from_the_pod_s_source_are_told() -> None:
    config = json.dumps({"priority": "GLowLatencyPriority", "option": {"sourceNode": "a"}})
    found = snapshot(node("a", unschedulable=True), node("b"), node("c"))
    result = explained(pod(config=config), found, Pair("a", "b", 2.5))
    assert [verdict.rtt_ms for verdict in result.nodes] == [0.0, 2.5, None]
    assert result.chosen == "b"
    assert result.policy == "GLowLatencyPriority"


def test_a_pod_of_another_scheduler_and_one_with_a_mistake_cannot_be_explained() -> None:
    found = snapshot(node("a"))
    with pytest.raises(CannotExplain, match="pod default/pod is for scheduler other"):
        explained(pod(scheduler="other"), found)
    with pytest.raises(PodRejected):
        explained(pod(config="{"), found)


def test_room_of_nominated_pods_is_left_to_them() -> None:
    found = snapshot(node("a", cpu="4"))
    nominator = Nominator(found)
    nominator.add(pod_info(pod("first", requests={"cpu": "3"}, priority=9)), "a")
    framework = frameworks(Configuration(seed=1), Matrix())["gsch"]
    result = explain_with(framework, pod(requests={"cpu": "2"}), found, nominator)
    assert result.chosen is None
    assert list(found.pods) == []
