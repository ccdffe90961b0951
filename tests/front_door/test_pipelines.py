"""Pipelines through a real API server: stages go near one another, in the order of their talk."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import LabCluster
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch

LINE = ("n1", "n2", "n3", "n4")
"""Nodes 5 ms apart in a row; the camera's gateway is beside n1."""

Rtts = Callable[[dict[tuple[str, str], float]], None]


@pytest.fixture
def measured(lab: LabCluster, tmp_path: Path) -> Iterator[Rtts]:
    """A scheduler of profile `piped`; called with round-trip times, it has them known to it."""
    times = tmp_path / "times.yaml"

    def write(pairs: dict[tuple[str, str], float]) -> None:
        rows = [{"source": a, "target": b, "rtt_ms": ms} for (a, b), ms in pairs.items()]
        times.write_text(json.dumps(rows))

    line = {
        (a, b): 5.0 * abs(i - j) for i, a in enumerate(LINE) for j, b in enumerate(LINE) if i < j
    }
    write(line | {("gateway", name): 1 + 5.0 * i for i, name in enumerate(LINE)})
    settings: Json = {"profiles": [{"schedulerName": "piped"}], "latency": {"file": str(times)}}
    with Gsch(tmp_path, lab.kubeconfig, **settings) as running:

        def known(pairs: dict[tuple[str, str], float]) -> None:
            write(pairs)
            wanted = sorted(pairs.values())
            wait_for(
                lambda: wanted == sorted(p["rtt_ms"] for p in json.loads(running.get("/latency")))
            )

        yield known


def stage(name: str, namespace: str, option: Json, cpu: str = "500m", **fields: Any) -> Json:
    config = {"type": "local", "priority": "GLowLatencyPriority", "option": option}
    return pod_json(
        name,
        config=json.dumps(config),
        scheduler="piped",
        namespace=namespace,
        requests={"cpu": cpu},
        **fields,
    )


def abc(namespace: str, **more: Any) -> tuple[Json, Json, Json]:
    """A → B → C, A near the camera."""
    shape: Json = {"pipeline": "video", "stages": ["a", "b", "c"], **more}
    return (
        stage(
            "a",
            namespace,
            {**shape, "stage": "a", "dependsOn": [{"node": "n1", "callsPerSecond": 30}]},
        ),
        stage(
            "b",
            namespace,
            {**shape, "stage": "b", "dependsOn": [{"stage": "a", "callsPerSecond": 3}]},
        ),
        stage("c", namespace, {**shape, "stage": "c", "dependsOn": ["b"]}),
    )


def where(kube: Kube, namespace: str, *names: str) -> list[str]:
    return [kube.node_of(namespace, name, 30) for name in names]


def test_stages_on_different_nodes_go_in_the_order_in_which_they_talk(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*(node_json(name) for name in LINE))
    a, b, c = abc(namespace, differentNodes=True)
    # The worst order of arrival: each on its own would take what the others need.
    kube.create(c)
    kube.create(b)
    kube.create(a)
    assert where(kube, namespace, "a", "b", "c") == ["n1", "n2", "n3"]
    note = kube.events(namespace, "b", "PlacedJointly")[0]["note"]
    assert "2 other pods" in note


def test_stages_that_may_share_a_node_do_where_there_is_room(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("n1", cpu="1"), *(node_json(name) for name in LINE[1:]))
    kube.create(*abc(namespace))
    # n1, nearest to the camera, has room for two of the three.
    assert where(kube, namespace, "a", "b", "c") == ["n1", "n1", "n2"]


def test_a_stage_that_comes_back_goes_near_those_that_run(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*(node_json(name) for name in LINE))
    a, b, c = abc(namespace, differentNodes=True)
    kube.create(a, b, c)
    where(kube, namespace, "a", "b", "c")
    kube.delete(f"/api/v1/namespaces/{namespace}/pods/b")
    wait_for(lambda: "b" not in kube.pods(namespace))
    kube.create(b)
    assert where(kube, namespace, "b") == ["n2"]


def test_a_pipeline_of_which_no_time_is_known_is_placed_and_told(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    measured({})
    make_nodes(*(node_json(name) for name in LINE))
    kube.create(*abc(namespace, differentNodes=True))
    assert len(set(where(kube, namespace, "a", "b", "c"))) == 3
    (event,) = wait_for(lambda: kube.events(namespace, "b", "LatencyUnknown"))
    assert "some of what this pod talks to" in event["note"]


def test_a_pod_whose_mates_never_come_is_placed_all_the_same(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*(node_json(name) for name in LINE))
    kube.create(abc(namespace)[0])
    assert where(kube, namespace, "a") == ["n1"]


def test_weights_say_which_of_two_services_to_be_near(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*(node_json(name) for name in LINE))
    for name, node in (("db", "n1"), ("cache", "n4")):
        selector = {"app": name}
        kube.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"selector": selector, "ports": [{"port": 80}]},
            }
        )
        backend = pod_json(name, namespace=namespace, nodeName=node)
        backend["metadata"]["labels"] = selector
        kube.create(backend)
        kube.node_of(namespace, name)
    wait_for(lambda: len(kube.items(f"/api/v1/namespaces/{namespace}/services")) == 2)

    def talks(db: float, cache: float) -> Json:
        return {
            "dependsOn": [
                {"service": "db", "callsPerSecond": db},
                {"service": "cache", "bytesPerSecond": cache * 65536},
            ]
        }

    kube.create(stage("to-db", namespace, talks(50, 10)))
    kube.create(stage("to-cache", namespace, talks(10, 50)))
    assert where(kube, namespace, "to-db", "to-cache") == ["n1", "n4"]


def test_a_hard_limit_waits_for_the_network_to_become_better(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("n3"), node_json("n4"))
    kube.create(stage("p", namespace, {"sourceNode": "gateway", "maxLatencyMs": 8}))
    condition = kube.refusal(namespace, "p")
    assert "2 node(s) more than 8 ms from gateway" in condition["message"]
    measured({("gateway", "n3"): 30, ("gateway", "n4"): 6})
    assert where(kube, namespace, "p") == ["n4"]


@pytest.mark.parametrize(("latency", "node"), [(90, "n1"), (10, "n2")])
def test_nearness_and_packing_are_weighed(
    measured: Rtts,
    kube: Kube,
    namespace: str,
    make_nodes: MakeNodes,
    latency: int,
    node: str,
) -> None:
    make_nodes(*(node_json(name) for name in ("n1", "n2", "n3")))
    kube.create(pod_json("there", namespace=namespace, requests={"cpu": "3"}, nodeName="n2"))
    wait_for(lambda: kube.pod(namespace, "there")["status"]["phase"] == "Running")
    weights = {"latency": latency, "packing": 100 - latency}
    kube.create(stage("p", namespace, {"sourceNode": "n1", "weights": weights}))
    assert where(kube, namespace, "p") == [node]


def test_unmeasured_nodes_are_judged_by_zone_and_the_owner_is_told(
    measured: Rtts, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    measured({})
    zone = "topology.kubernetes.io/zone"
    make_nodes(
        node_json("home", cpu="100m", labels={zone: "a"}),
        node_json("away", cpu="64", labels={zone: "b"}),
        node_json("near", cpu="2", labels={zone: "a"}),
    )
    kube.create(stage("p", namespace, {"sourceNode": "home"}))
    # The other scores would prefer the empty giant in zone b.
    assert where(kube, namespace, "p") == ["near"]
    events = wait_for(lambda: kube.events(namespace, "p", "LatencyUnknown"))
    assert "placed by zone and region labels" in events[0]["note"]
