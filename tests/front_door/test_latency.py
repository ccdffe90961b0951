"""The way of a round-trip time: agents in real pods, Prometheus, the scheduler, a
placement."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.measure import SYSTEM, PrometheusProcess, deploy_agents
from lab.pods import mount_host
from lab.real import RealCluster
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, pod_json
from tests.harness.process import Gsch

pytestmark = [pytest.mark.lab, pytest.mark.needs("real nodes", "prometheus")]

FAR, NEAR = 12.0, 2.0
RTT = {"near": NEAR, "far": FAR, "off": 20.0}
"""Round trips to the master in ms; between two nodes they add up."""


@dataclass
class World:
    """A cluster of real nodes whose agents measure, and a Prometheus that scrapes them."""

    cluster: RealCluster
    kube: Kube
    prometheus: PrometheusProcess
    agents: dict[str, str]

    def agent(self, node: str, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.agents[node]}:8787{path}", timeout=5) as reply:
            return json.load(reply)


def real_node(name: str, rtt: float, **labels: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"lab.gsch.io/rtt-ms": str(rtt)},
        },
        "status": {"allocatable": {"cpu": "1", "memory": "2Gi"}},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    cluster = RealCluster(f"real-{os.getpid()}")
    cluster.bring_up([real_node(name, rtt) for name, rtt in RTT.items()], kube_scheduler=True)
    try:
        kube = Kube(cluster.kubeconfig)
        agents = deploy_agents(cluster, interval=0.3)
        targets = [f"{address}:8787" for address in agents.values()]
        with PrometheusProcess(tmp_path_factory.mktemp("prometheus"), targets) as server:
            yield World(cluster, kube, server, agents)
    finally:
        cluster.down()


@pytest.fixture
def namespace(world: World) -> Iterator[str]:
    name = f"t-{time.time_ns():x}"
    world.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_for(lambda: world.kube.items(f"/api/v1/namespaces/{name}/serviceaccounts"))
    yield name
    world.kube.delete(f"/api/v1/namespaces/{name}/pods")
    wait_for(lambda: not world.kube.items(f"/api/v1/namespaces/{name}/pods"))


def low(name: str, namespace: str, **option: Any) -> Json:
    config = {"type": "local", "priority": "GLowLatencyPriority", "option": option}
    pod = pod_json(
        name,
        config=json.dumps(config),
        scheduler="measured",
        namespace=namespace,
        requests={"cpu": "100m"},
        terminationGracePeriodSeconds=0,
    )
    pod["spec"]["containers"][0]["command"] = ["sleep", "1000"]
    pod["spec"] = mount_host(pod["spec"])
    return pod


def test_agents_answer_their_routes_with_what_the_links_take(world: World) -> None:
    def measured() -> bool:
        """Nearest first, each about as far as its links; a busy machine needs a moment for that."""
        rows = world.agent("near", "/monitoring/near-nodes/latency?pingSize=8&pingCount=2")
        return [row["node"] for row in rows if row["latency"]] == ["far", "off"] and all(
            NEAR + RTT[row["node"]] <= row["latency"] < 1.35 * (NEAR + RTT[row["node"]])
            for row in rows
        )

    wait_for(measured)
    assert world.agent("near", "/monitoring/node/off/latency")["node"] == "off"
    assert world.agent("near", "/monitoring/node/near/latency")["latency"] == 0
    with pytest.raises(urllib.error.HTTPError) as caught:
        world.agent("near", "/monitoring/near-nodes/latency?pingCount=many")
    assert (caught.value.code, "pingCount" in caught.value.read().decode()) == (400, True)
    with pytest.raises(urllib.error.HTTPError) as caught:
        world.agent("near", "/monitoring/node/nobody/latency")
    assert caught.value.code == 404


def test_prometheus_has_every_pair_with_its_labels(world: World) -> None:
    expression = 'gsch_rtt_seconds{quantile="0.5"}'
    found = wait_for(lambda: f if len(f := world.prometheus.query(expression)) == 6 else None)
    pairs = {(f["metric"]["source"], f["metric"]["target"]): float(f["value"][1]) for f in found}
    wait_for(lambda: NEAR + FAR <= world.prometheus.median_ms("near", "far") < 1.35 * (NEAR + FAR))
    assert {p[::-1] for p in pairs} == set(pairs)
    losses = world.prometheus.query("gsch_rtt_loss_ratio")
    assert len(losses) == 6
    assert world.prometheus.query('sum(gsch_probes_total{way="icmp",result="ok"})')


@pytest.mark.parametrize("source", ["prometheus", "agents"])
def test_a_pod_lands_near_what_it_names_because_the_network_was_measured(
    world: World, namespace: str, tmp_path: Path, source: str
) -> None:
    origin: Json = {"prometheus": {"url": world.prometheus.url}}
    if source == "agents":
        origin = {"agents": {"namespace": SYSTEM, "service": "gsch-agent"}}
    settings: Json = {
        "profiles": [{"schedulerName": "measured"}],
        "latency": {**origin, "intervalSeconds": 0.5, "maxAgeSeconds": 30},
    }
    kube = world.kube
    with Gsch(tmp_path, world.cluster.kubeconfig, **settings) as running:
        wait_for(lambda: running.metric("scheduler_cache_size", type="latency_pairs") == 6)
        kube.create(low("first", namespace, sourceNode="off"))
        assert kube.node_of(namespace, "first", 30) == "off"
        # From there it is nearer to "near" than to "far"; "off" itself is closed.
        kube.patch("/api/v1/nodes/off", {"spec": {"unschedulable": True}})
        try:
            asked = world.prometheus.median_ms
            wait_for(lambda: asked("off", "near") + 2 < asked("off", "far"))
            kube.create(low("second", namespace, mode="frompod", pod_name="first"))
            assert kube.node_of(namespace, "second", 30) == "near"
            # The links change while everything runs: so does the next decision.
            world.cluster.set_delays({"near": 60.0})
            wait_for(lambda: world.prometheus.median_ms("off", "near") > 60)
            wait_for(lambda: not _placed_near(kube, namespace))
        finally:
            world.cluster.set_delays({"near": NEAR})
            kube.patch("/api/v1/nodes/off", {"spec": {"unschedulable": None}})
            wait_for(lambda: world.prometheus.median_ms("off", "near") < 60)


def _placed_near(kube: Kube, namespace: str) -> bool:
    """Whether a further pod that is to be near "off" is sent to "near"."""
    name = f"p-{time.time_ns():x}"
    kube.create(low(name, namespace, sourceNode="off"))
    return kube.node_of(namespace, name, 30) == "near"


def test_with_agents_gone_times_age_and_labels_decide_and_nothing_waits(
    world: World, namespace: str, tmp_path: Path
) -> None:
    kube = world.kube
    settings: Json = {
        "profiles": [{"schedulerName": "measured"}],
        "latency": {
            "prometheus": {"url": world.prometheus.url},
            "intervalSeconds": 0.5,
            "maxAgeSeconds": 2,
        },
    }
    zone = "topology.kubernetes.io/zone"
    for name, place in (("off", "a"), ("far", "a"), ("near", "b")):
        kube.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {zone: place}}})
    stopped = {"spec": {"template": {"spec": {"nodeSelector": {"no": "such"}}}}}
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets/gsch-agent"
    with Gsch(tmp_path, world.cluster.kubeconfig, **settings) as running:
        wait_for(lambda: running.metric("scheduler_cache_size", type="latency_pairs") == 6)
        kube.patch(path, stopped)
        wait_for(lambda: running.metric("scheduler_cache_size", type="latency_pairs") == 0)
        kube.patch("/api/v1/nodes/off", {"spec": {"unschedulable": True}})
        kube.create(low("p", namespace, sourceNode="off"))
        assert kube.node_of(namespace, "p", 30) == "far"
        events = wait_for(lambda: kube.events(namespace, "p", "LatencyUnknown"))
        assert "zone and region labels" in events[0]["note"]
