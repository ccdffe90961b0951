"""A control plane for each worker; nodes and a namespace for each test."""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from lab import binaries
from lab.cluster import LabCluster
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json
from tests.harness.process import Gsch

MakeNodes = Callable[..., None]


@pytest.fixture(scope="session")
def lab() -> Iterator[LabCluster]:
    """A cluster that lives as long as this worker."""
    binaries.ensure()
    cluster = LabCluster(f"test-{os.getpid()}")
    cluster.up()
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def kube(lab: LabCluster) -> Kube:
    return Kube(lab.kubeconfig)


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the test's own; its pods are gone at the end."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_for(lambda: kube.items(f"/api/v1/namespaces/{name}/serviceaccounts"))
    yield name
    kube.delete(f"/api/v1/namespaces/{name}/pods")
    kube.delete(f"/api/v1/namespaces/{name}")
    wait_for(lambda: not kube.items(f"/api/v1/namespaces/{name}/pods"))


@pytest.fixture
def make_nodes(kube: Kube) -> Iterator[MakeNodes]:
    """Makes nodes and waits until they are ready; all nodes are gone at the end."""

    def make(*nodes: Json) -> None:
        kube.create(*nodes)
        wait_for(lambda: _ready(kube, len(nodes)))

    yield make
    kube.delete("/api/v1/nodes")
    wait_for(lambda: not kube.items("/api/v1/nodes"))


def _ready(kube: Kube, number: int) -> bool:
    nodes = kube.items("/api/v1/nodes")
    keys = [t["key"] for node in nodes for t in node["spec"].get("taints", ())]
    return len(nodes) >= number and "node.kubernetes.io/not-ready" not in keys


@pytest.fixture(scope="session")
def scheduler(lab: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gsch]:
    """A scheduler with the default profiles, for tests that do it no harm."""
    with Gsch(tmp_path_factory.mktemp("gsch"), lab.kubeconfig) as running:
        yield running
        assert running.stop() == 0, running.text()


@pytest.fixture(scope="session")
def latency_scheduler(lab: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gsch]:
    """A scheduler of profile `near` with a file of round-trip times in its folder."""
    folder = tmp_path_factory.mktemp("near")
    times = folder / "latency.yaml"
    pairs = [("gateway", "near", 1.5), ("gateway", "far", 20), ("third", "near", 3)]
    times.write_text("\n".join(f"- {{source: {a}, target: {b}, rtt_ms: {t}}}" for a, b, t in pairs))
    settings: Json = {
        "profiles": [{"schedulerName": "near"}],
        "latency": {"file": str(times)},
    }
    with Gsch(folder, lab.kubeconfig, **settings) as running:
        yield running
