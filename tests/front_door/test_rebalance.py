"""`gsch rebalance` on a real API server: says, moves if allowed, and keeps to budgets."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import LabCluster
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch, gsch

Rtts = Callable[[dict[tuple[str, str], float]], None]
NOW = {("camera", "a"): 2.0, ("camera", "b"): 20.0, ("a", "b"): 20.0}
LATER = {("camera", "a"): 40.0, ("camera", "b"): 4.0, ("a", "b"): 20.0}


@pytest.fixture
def world(
    lab: LabCluster, kube: Kube, make_nodes: MakeNodes, tmp_path: Path
) -> Iterator[tuple[Rtts, Callable[..., list[Json]]]]:
    """Two nodes, a scheduler of profile `moving`; (set round trips, run `gsch rebalance`)."""
    times = tmp_path / "times.yaml"

    def write(pairs: dict[tuple[str, str], float]) -> None:
        rows = [{"source": s, "target": t, "rtt_ms": ms} for (s, t), ms in pairs.items()]
        times.write_text(json.dumps(rows))

    write(NOW)
    make_nodes(node_json("a"), node_json("b"))
    settings: Json = {"profiles": [{"schedulerName": "moving"}], "latency": {"file": str(times)}}
    with Gsch(tmp_path, lab.kubeconfig, **settings) as running:

        def rebalance(*options: str) -> list[Json]:
            words = ["--config", str(running.config), "--settled", "0", "-o", "json", *options]
            said = gsch("rebalance", *words, kubeconfig=lab.kubeconfig)
            assert said.returncode == 0, said.stderr
            found: list[Json] = json.loads(said.stdout)
            return found

        def measured(pairs: dict[tuple[str, str], float]) -> None:
            """The scheduler knows of it too: it places what rebalance evicts."""
            write(pairs)
            wanted = sorted(pairs.values())
            wait_for(
                lambda: wanted == sorted(p["rtt_ms"] for p in json.loads(running.get("/latency"))),
            )

        yield measured, rebalance


def deployment(name: str, namespace: str, replicas: int, option: Json) -> Json:
    config = {"type": "local", "priority": "GLowLatencyPriority", "option": option}
    pod = pod_json(name, {"cpu": "500m"}, json.dumps(config), "moving")
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod["spec"]},
        },
    }


def nodes(kube: Kube, namespace: str, number: int) -> list[str] | None:
    """Where the pods that run are, once there are so many and no others."""
    pods = kube.pods(namespace).values()
    running = [p for p in pods if p["status"]["phase"] == "Running"]
    going = [p for p in pods if p["metadata"].get("deletionTimestamp")]
    if len(running) != number or len(pods) != number or going:
        return None
    return sorted(p["spec"]["nodeName"] for p in running)


def settled(kube: Kube, namespace: str, wanted: list[str]) -> None:
    wait_for(lambda: nodes(kube, namespace, len(wanted)) == wanted)


World = tuple[Rtts, Callable[..., list[Json]]]


def test_a_shift_of_the_network_is_said_and_moves_only_where_asked(
    world: World, kube: Kube, namespace: str
) -> None:
    measure, rebalance = world
    kube.create(deployment("near", namespace, 1, {"sourceNode": "camera"}))
    settled(kube, namespace, ["a"])
    assert rebalance() == []
    measure(LATER)
    (move,) = rebalance()
    assert (move["source"], move["target"], move["outcome"]) == ("a", "b", "proposed")
    assert (move["before"], move["after"]) == (40, 4)
    assert nodes(kube, namespace, 1) == ["a"]
    # A gain that is asked to be larger than it is.
    assert rebalance("--apply", "--min-gain-ms", "100") == []
    assert rebalance("--apply", "--settled", "3600") == []
    (move,) = rebalance("--apply")
    assert move["outcome"] == "evicted"
    settled(kube, namespace, ["b"])
    assert rebalance("--apply") == []


def test_budgets_of_pods_and_of_moves_are_kept(world: World, kube: Kube, namespace: str) -> None:
    measure, rebalance = world
    kube.create(deployment("near", namespace, 3, {"sourceNode": "camera"}))
    budget: dict[str, Any] = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "near", "namespace": namespace},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "near"}}},
    }
    kube.create(budget)
    settled(kube, namespace, ["a", "a", "a"])
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/near"
    wait_for(lambda: kube.get(path)["status"].get("currentHealthy") == 3)
    measure(LATER)
    assert {move["outcome"][:5] for move in rebalance("--apply")} == {"kept:"}
    assert nodes(kube, namespace, 3) == ["a", "a", "a"]
    kube.patch(path, {"spec": {"minAvailable": 1}})
    wait_for(lambda: kube.get(path)["status"].get("disruptionsAllowed") == 2)
    moves = rebalance("--apply", "--max-moves", "1")
    assert [move["outcome"] for move in moves] == ["evicted"]
    settled(kube, namespace, ["a", "a", "b"])


def test_a_pod_that_nobody_would_make_anew_stays(world: World, kube: Kube, namespace: str) -> None:
    measure, rebalance = world
    config = {"priority": "GLowLatencyPriority", "option": {"sourceNode": "camera"}}
    kube.create(
        pod_json("alone", config=json.dumps(config), scheduler="moving", namespace=namespace)
    )
    settled(kube, namespace, ["a"])
    measure(LATER)
    assert rebalance("--apply") == []


def test_a_pipeline_moves_as_a_whole(world: World, kube: Kube, namespace: str) -> None:
    measure, rebalance = world
    shape = {"pipeline": "p", "stages": ["one", "two"]}
    talks = [{"node": "camera", "callsPerSecond": 10}]
    kube.create(
        deployment("one", namespace, 1, {**shape, "stage": "one", "dependsOn": talks}),
        deployment("two", namespace, 1, {**shape, "stage": "two", "dependsOn": ["one"]}),
    )
    settled(kube, namespace, ["a", "a"])
    measure(LATER)
    # A budget with room for one of the two moves neither.
    assert rebalance("--apply", "--max-moves", "1") == []
    moves = rebalance("--apply")
    assert [(m["target"], m["outcome"]) for m in moves] == [("b", "evicted")] * 2
    settled(kube, namespace, ["b", "b"])
