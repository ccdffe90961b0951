"""Pods of files against nodes of files."""

import json
from typing import Any

import msgspec
import pytest

from cluster.objects.core import Node, Pod
from latency.pairs import Pair
from scheduler.config.configuration import Configuration
from scheduler.offline.manifests import ManifestError, Objects
from scheduler.offline.simulate import Placement, simulate
from tests.harness.make import Json, node, pod
from tests.harness.objects import read
from tests.harness.volumes import MOUNTS, claim, late


def others(*objects: Json) -> list[tuple[str, Any]]:
    return [(raw["kind"], read(raw)) for raw in objects]


def fates(nodes: list[Node], pods: list[Pod], *objects: Json, **more: Any) -> list[Placement]:
    found = Objects(nodes, pods, others(*objects), **more)
    return simulate(found, Configuration(seed=1))[0]


def brief(placements: list[Placement]) -> list[tuple[str, str, str]]:
    return [(p.pod.partition("/")[2], p.result, p.node) for p in placements]


def group(name: str, least: int = 0, **spec: Any) -> Json:
    policy = {"gang": {"minCount": least}} if least else {"basic": {}}
    return {
        "kind": "PodGroup",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulingPolicy": policy, **spec},
    }


def member(name: str, of: str = "team", **fields: Any) -> Pod:
    return pod(name, schedulingGroup={"podGroupName": of}, **fields)


def low_latency(**option: Any) -> str:
    return json.dumps({"priority": "GLowLatencyPriority", "option": option})


def test_every_pod_has_a_fate_in_the_order_of_the_files() -> None:
    done = msgspec.structs.replace(
        pod("done"), status=msgspec.convert({"phase": "Succeeded"}, type(pod().status))
    )
    found = fates(
        [node("a")],
        [
            pod("runs", nodeName="a", requests={"cpu": "3"}),
            done,
            pod("theirs", scheduler="other"),
            pod("gated", schedulingGates=[{"name": "quota"}]),
            pod("mistaken", config="{"),
            pod("large", requests={"cpu": "2"}),
            pod("small", requests={"cpu": "1"}),
        ],
    )
    assert brief(found) == [
        ("runs", "Running", "a"),
        ("done", "Running", ""),
        ("theirs", "Other scheduler", ""),
        ("gated", "Gated", ""),
        ("mistaken", "Invalid", ""),
        ("large", "Pending", ""),
        ("small", "Placed", "a"),
    ]
    assert found[2].why == "schedulerName is other"
    assert found[3].why == "scheduling gates: quota"
    assert found[5].why.startswith("0/1 nodes are available: 1 Insufficient cpu.")
    assert found[6].why.startswith("the only node that fits")
    assert found[6].row()["node"] == "a"


def test_the_highest_priority_goes_first_and_then_the_order_of_the_files() -> None:
    pods = [pod(name, requests={"cpu": "1"}, priority=priority)
            for name, priority in (("first", 0), ("second", 0), ("urgent", 5))]  # fmt: skip
    assert brief(fates([node("a", cpu="2")], pods)) == [
        ("first", "Placed", "a"),
        ("second", "Pending", ""),
        ("urgent", "Placed", "a"),
    ]


def test_nodes_and_running_pods_must_be_readable() -> None:
    for nodes, pods in (([node("a", cpu="x")], []),
                        ([node("a")], [pod(requests={"cpu": "x"}, nodeName="a")])):  # fmt: skip
        with pytest.raises(ManifestError, match="node or running pod: 'x' is not a quantity"):
            simulate(Objects(nodes, pods), Configuration())


def test_ticks_count_pods() -> None:
    ticks: list[int] = []
    simulate(Objects([node("a")], [pod("p"), pod("q")]), Configuration(), lambda: ticks.append(1))
    assert len(ticks) == 2


def test_a_pod_that_wants_to_be_near_a_later_one_gets_a_second_look() -> None:
    pods = [
        pod("near", config=low_latency(podName="target"), priority=5),
        pod("target", nodeSelector={"kubernetes.io/hostname": "b"}),
    ]
    found = fates([node("a"), node("b")], pods, pairs=[Pair("a", "b", 9.0)])
    assert brief(found) == [("near", "Placed", "b"), ("target", "Placed", "b")]


def test_a_gang_that_fits_is_placed_as_a_whole() -> None:
    pods = [member(f"m{i}", requests={"cpu": "1"}) for i in range(3)]
    found = fates([node("a", cpu="2"), node("b", cpu="1")], pods, group("team", 3))
    assert [p.result for p in found] == ["Placed"] * 3


def test_a_gang_that_does_not_fit_takes_no_room() -> None:
    pods = [member(f"m{i}", requests={"cpu": "1"}, priority=5) for i in range(3)]
    pods.append(pod("single", requests={"cpu": "2"}))
    found = fates([node("a", cpu="2")], pods, group("team", 3))
    assert brief(found) == [
        ("m0", "Pending", ""),
        ("m1", "Pending", ""),
        ("m2", "Pending", ""),
        ("single", "Placed", "a"),
    ]
    assert found[0].why.startswith(
        "gang default/team needs 3 pods at once and 2 fit: "
        "0/1 nodes are available: 1 Insufficient cpu."
    )


def test_members_that_run_already_count_for_their_gang() -> None:
    pods = [member("runs", nodeName="a"), member("new"), member("theirs", scheduler="other")]
    found = fates([node("a")], pods, group("team", 2))
    assert brief(found)[1] == ("new", "Placed", "a")


def test_a_group_without_a_gang_places_what_fits() -> None:
    pods = [member(f"m{i}", requests={"cpu": "1"}) for i in range(2)]
    found = fates([node("a", cpu="1")], pods, group("team"))
    assert [p.result for p in found] == ["Placed", "Pending"]


def test_members_wait_for_a_group_that_is_not_there() -> None:
    (found,) = fates([node("a")], [member("m", "ghost")])
    assert (found.result, found.why) == (
        "Pending",
        'waiting for pods\'s pod group "ghost" to appear',
    )


def test_a_member_that_cannot_be_scheduled_is_told_why() -> None:
    pods = [member("mistaken", config="{"), member("good")]
    found = fates([node("a")], pods, group("team", 1))
    assert [p.result for p in found] == ["Invalid", "Placed"]
    alone = fates([node("a")], pods, group("team", 2))
    assert [p.result for p in alone] == ["Invalid", "Pending"]
    assert "gschConfig is not JSON" in alone[1].why


def test_a_claim_that_waits_for_its_first_pod_gets_one_volume() -> None:
    waiting = claim("Pending", volumeName="", storageClassName="late")
    found = fates([node("a")], [pod("p", **MOUNTS)], waiting, late())
    assert found[0].result == "Pending"
    assert "volume" in found[0].why
    provisioned = fates([node("a")], [pod("p", **MOUNTS)], waiting, late("csi.example"))
    assert provisioned[0].result == "Placed"


def test_a_pipeline_is_placed_where_all_of_it_is_nearest() -> None:
    stages = ["decode", "infer"]
    pods = [
        pod(
            name,
            config=low_latency(
                pipeline="video", stage=name, stages=stages, dependsOn=depends,
                differentNodes=True,
            ),
            requests={"cpu": "1"},
        )
        for name, depends in (("decode", [{"node": "camera"}]), ("infer", ["decode"]))
    ]  # fmt: skip
    nodes = [node("camera", unschedulable=True), node("x"), node("y"), node("far")]
    pairs = [Pair("camera", "x", 1.0), Pair("camera", "y", 8.0), Pair("camera", "far", 50.0),
             Pair("x", "y", 1.0), Pair("x", "far", 50.0), Pair("y", "far", 50.0)]  # fmt: skip
    assert brief(fates(nodes, pods, pairs=pairs)) == [
        ("decode", "Placed", "x"),
        ("infer", "Placed", "y"),
    ]
