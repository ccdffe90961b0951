"""One joint placement as a problem: anchors, ties and what is told of its solution."""

import json
from typing import Any

import pytest

from cluster.objects.core import Pod
from cluster.state.resource_types import put
from cluster.state.snapshot import Snapshot
from filters.common.member import PipelineMember
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.joint.problem import plan_jointly
from scheduler.joint.solver import solve
from tests.harness.make import labelled, node, pod, snapshot
from tests.harness.objects import read

# On a line: 0, 1, 5 and 20 ms from n0.
AT = {"n0": 0.0, "n1": 1.0, "n2": 5.0, "n3": 20.0}


def matrix() -> Matrix:
    found = Matrix()
    found.replace(Readings.of([Pair(a, b, abs(AT[a] - AT[b])) for a in AT for b in AT if a < b]))
    return found


def cluster(*pods: Pod, cpu: str = "4") -> Snapshot:
    return snapshot(*(node(name, cpu=cpu) for name in AT), pods=pods)


def member(name: str, on: str = "", cpu: str = "1", **option: Any) -> Pod:
    config = {"priority": "GLowLatencyPriority", "option": option}
    return pod(name, requests={"cpu": cpu}, config=json.dumps(config), nodeName=on)


def stage(name: str, *depends: Any, on: str = "", **more: Any) -> Pod:
    return member(name, on, pipeline="video", stage=name, dependsOn=[*depends], **more)


def member_of(running: Pod) -> PipelineMember:
    found = pod_info(running).member
    assert found is not None
    return found


def placed(found: Snapshot, waiting: list[Pod], *running: Pod) -> dict[str, str]:
    """Where each waiting pod is best placed."""
    framework, cycle = Framework(Profile("gsch"), matrix()), Cycle(found)
    trials = [cycle.trial(framework, pod_info(one)) for one in waiting]
    members = {one.key: member_of(one) for one in running}
    plan = plan_jointly(trials, members, found, framework)
    assert plan is not None
    nodes = solve(plan.problem)
    assert nodes is not None
    return {key.partition("/")[2]: to.node for key, to in plan.placed(nodes).items()}


def test_stages_gather_around_the_node_that_the_first_talks_to() -> None:
    pods = [stage("decode", {"node": "n2"}), stage("infer", "decode")]
    assert placed(cluster(), pods) == {"decode": "n2", "infer": "n2"}


def test_stages_that_keep_apart_take_neighbouring_nodes() -> None:
    pods = [
        stage("decode", {"node": "n0"}, differentNodes=True),
        stage("infer", "decode", differentNodes=True),
    ]
    assert placed(cluster(), pods) == {"decode": "n0", "infer": "n1"}


def test_a_stage_that_keeps_away_from_its_source_does_not_share_its_node() -> None:
    pods = [stage("decode", {"node": "n0", "differentNode": True})]
    assert placed(cluster(), pods) == {"decode": "n1"}


def test_a_stage_that_runs_already_draws_those_that_talk_to_it_and_whom_it_talks_to() -> None:
    runs = stage("decode", on="n3")
    assert placed(cluster(runs), [stage("infer", "decode")], runs) == {"infer": "n3"}
    talks = stage("infer", "decode", on="n2")
    assert placed(cluster(talks), [stage("decode")], talks) == {"decode": "n2"}


def test_pods_and_services_draw_by_where_they_run() -> None:
    database = labelled(pod("db-0", nodeName="n3"), app="db")
    mirror = labelled(pod("db-1", nodeName="n3"), app="db")
    far = labelled(pod("db-2", nodeName="n0"), app="db")
    found = cluster(database, mirror, far)
    service = {
        "kind": "Service",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"selector": {"app": "db"}},
    }
    put(found, "Service", read(service))
    assert placed(found, [member("p", dependsOn=[{"pod": "db-2"}])]) == {"p": "n0"}
    # Two of its three pods are on n3.
    assert placed(found, [member("p", dependsOn=[{"service": "db"}])]) == {"p": "n3"}


def test_what_is_asked_more_often_draws_more() -> None:
    calls = [{"node": "n0", "callsPerSecond": 1}, {"node": "n3", "callsPerSecond": 5}]
    assert placed(cluster(), [member("p", dependsOn=calls)]) == {"p": "n3"}


def test_a_node_holds_only_as_many_as_fit() -> None:
    pods = [stage("decode", {"node": "n0"}), stage("infer", "decode")]
    found = placed(cluster(cpu="1"), pods)
    assert found == {"decode": "n0", "infer": "n1"}


def test_what_is_told_names_the_others_and_the_cost() -> None:
    found = cluster()
    framework, cycle = Framework(Profile("gsch"), matrix()), Cycle(found)
    pods = [
        stage("decode", {"node": "n0"}, differentNodes=True),
        stage("infer", {"stage": "decode", "callsPerSecond": 3}, differentNodes=True),
    ]
    trials = [cycle.trial(framework, pod_info(one)) for one in pods]
    plan = plan_jointly(trials, {}, found, framework)
    assert plan is not None
    nodes = solve(plan.problem)
    assert nodes is not None
    told = plan.placed(nodes)["default/infer"]
    assert not told.guessed
    # Three round trips of 1 ms a second between n0 and n1.
    assert told.message == (
        "placed jointly with 1 other pod of default/video: 3 ms of round trips a second in all"
    )
    found.remove_node("n1")
    assert plan.placed(nodes) == {}


@pytest.mark.parametrize("pairs", [[], [Pair("n0", "n1", 1.0)]])
def test_a_placement_by_times_that_nobody_measured_is_a_guess(pairs: list[Pair]) -> None:
    found = snapshot(*(node(name) for name in ("n0", "n1")))
    known = Matrix()
    known.replace(Readings.of(pairs))
    framework, cycle = Framework(Profile("gsch"), known), Cycle(found)
    pods = [stage("decode", {"node": "n0", "differentNode": True})]
    trials = [cycle.trial(framework, pod_info(one)) for one in pods]
    plan = plan_jointly(trials, {}, found, framework)
    assert plan is not None
    nodes = solve(plan.problem)
    assert nodes is not None
    assert plan.placed(nodes)["default/decode"].guessed is not bool(pairs)
