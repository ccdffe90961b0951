"""gschConfig through a real API server: forty kinds of mistakes, and the policies."""

from pathlib import Path

import pytest

from lab.cluster import LabCluster
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.malformed import MALFORMED
from tests.harness.process import Gsch


@pytest.mark.usefixtures("scheduler")
def test_every_malformed_config_is_told_and_every_other_pod_goes_on(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("n"))
    names = {kind: f"bad-{i}" for i, kind in enumerate(MALFORMED)}
    assert len(names) >= 40
    for kind, name in names.items():
        kube.create(pod_json(name, namespace=namespace, config=MALFORMED[kind][0]))
    both: Json = pod_json("differing", namespace=namespace, config="{}")
    env = [{"name": "gschConfig", "value": '{"type": "local"}'}]
    second = {"name": "second", "image": "registry.example/i:1", "env": env}
    both["spec"]["containers"].append(second)
    kube.create(both)
    kube.create(pod_json("good", namespace=namespace, config='{"type": "local"}'))
    assert kube.node_of(namespace, "good") == "n"

    def all_told() -> bool:
        found = kube.items(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
        told = {e["regarding"]["name"] for e in found if e["reason"] == "InvalidGschConfig"}
        return told == {*names.values(), "differing"}

    assert wait_for(all_told)
    pods = kube.pods(namespace)
    for kind, name in names.items():
        condition = next(
            c for c in pods[name]["status"]["conditions"] if c["type"] == "PodScheduled"
        )
        assert condition["reason"] == "InvalidGschConfig"
        assert MALFORMED[kind][1] in condition["message"], kind
        event = kube.events(namespace, name)[0] if kind in ("empty", "too deep") else None
        assert event is None or event["type"] == "Warning"
        assert "nodeName" not in pods[name]["spec"]


@pytest.mark.usefixtures("scheduler")
def test_a_global_pod_stays_pending_and_is_told_so(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("n"))
    config = '{"type": "global", "priority": "GSelectedCluster", "targetClusters": ["c1"]}'
    kube.create(pod_json("p", namespace=namespace, config=config))
    event: Json = wait_for(lambda: kube.events(namespace, "p"))[0]
    assert event["reason"] == "WaitingForGlobalScheduler"
    assert "global layer" in event["note"]
    assert "nodeName" not in kube.pod(namespace, "p")["spec"]


def config(priority: str, option: str = "") -> str:
    return f'{{"type": "local", "priority": "{priority}", "option": {{{option}}}}}'


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize(
    ("priority", "wanted"),
    [
        ("GMostRequestedPriority", [3, 1, 0]),
        ("GLeastRequestedPriority", [2, 1, 1]),
    ],
)
def test_packing_and_spreading_order(
    priority: str, wanted: list[int], kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(*(node_json(f"n{i}", cpu="4", memory="8Gi") for i in range(3)))
    for number in range(4):
        name = f"p{number}"
        request = {"cpu": "1300m", "memory": "1Gi"}
        kube.create(pod_json(name, request, namespace=namespace, config=config(priority)))
        kube.node_of(namespace, name)
    nodes = [pod["spec"]["nodeName"] for pod in kube.pods(namespace).values()]
    assert sorted((nodes.count(f"n{i}") for i in range(3)), reverse=True) == wanted


def test_low_latency_from_a_node_and_from_a_pod_follows_a_changing_file(
    kube: Kube, namespace: str, make_nodes: MakeNodes, latency_scheduler: Gsch
) -> None:
    make_nodes(*(node_json(name, cpu="2") for name in ("gateway", "near", "far")))
    near = config("GLowLatencyPriority", '"sourceNode": "gateway"')

    def place(name: str, text: str, cpu: str = "1500m") -> str:
        kube.create(
            pod_json(name, {"cpu": cpu}, namespace=namespace, config=text, scheduler="near")
        )
        return kube.node_of(namespace, name)

    assert place("first", near) == "gateway"
    assert place("second", near) == "near"
    assert place("third", near) == "far"
    beside = config("GLowLatencyPriority", '"mode": "frompod", "pod_name": "third"')
    assert place("fourth", beside, cpu="100m") == "far"
    # The network changed: what was far is near now.
    kube.delete(f"/api/v1/namespaces/{namespace}/pods")
    wait_for(lambda: not kube.pods(namespace))
    latency_scheduler.folder.joinpath("latency.yaml").write_text(
        "[{source: gateway, target: near, rtt_ms: 30}, {source: gateway, target: far, rtt_ms: 2}]"
    )
    version = 'scheduler_cache_size{type="latency_pairs"}'
    assert wait_for(lambda: f"{version} 2.0" in latency_scheduler.get("/metrics"))
    assert place("fifth", near) == "gateway"
    assert place("sixth", near) == "far"


def test_a_source_that_was_never_measured_does_not_block(
    kube: Kube, namespace: str, make_nodes: MakeNodes, latency_scheduler: Gsch
) -> None:
    make_nodes(node_json("elsewhere"))
    text = config("GLowLatencyPriority", '"sourceNode": "unheard-of"')
    kube.create(pod_json("p", namespace=namespace, config=text, scheduler="near"))
    assert kube.node_of(namespace, "p") == "elsewhere"
    notes = wait_for(lambda: kube.events(namespace, "p", "LatencyUnknown"))
    assert "unheard-of" in notes[0]["note"]


def test_latencies_from_a_config_map(
    kube: Kube, namespace: str, make_nodes: MakeNodes, tmp_path: Path, lab: LabCluster
) -> None:
    make_nodes(*(node_json(name) for name in ("a", "b")))
    pairs = "[{source: x, target: a, rtt_ms: 9}, {source: x, target: b, rtt_ms: 1}]"
    kube.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "rtt", "namespace": namespace},
            "data": {"latency.yaml": pairs},
        }
    )
    settings: Json = {
        "profiles": [{"schedulerName": "mapped"}],
        "latency": {"configMap": {"namespace": namespace, "name": "rtt"}},
    }
    with Gsch(tmp_path, lab.kubeconfig, **settings) as running:
        size = 'scheduler_cache_size{type="latency_pairs"} 2.0'
        wait_for(lambda: size in running.get("/metrics"))
        text = config("GLowLatencyPriority", '"sourceNode": "x"')
        kube.create(pod_json("p", namespace=namespace, config=text, scheduler="mapped"))
        assert kube.node_of(namespace, "p") == "b"
        # A mistake in the map keeps the last good times in force.
        path = f"/api/v1/namespaces/{namespace}/configmaps/rtt"
        kube.patch(path, {"data": {"latency.yaml": "[{source: x}]"}})
        running.wait_for_log("latency not taken, keeping the last good one")
        kube.create(pod_json("q", namespace=namespace, config=text, scheduler="mapped"))
        assert kube.node_of(namespace, "q") == "b"
