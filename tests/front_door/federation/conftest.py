"""Two real clusters, each with a scheduler of its own, shared by the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.forwarding import enable
from tests.harness.kube import wait_for
from tests.harness.layer import (
    Apart,
    Layer,
    Member,
    Servers,
    clear,
    members,
    pod,
    pods_by_request,
)
from tests.harness.proxy import Toxiproxy

WORKERS = "gsch-global-worker"
"""The Deployment of c1 that stands for the layer's workers, where there is one."""
POLICY_NAMESPACE = "policy-workers"
"""Of c1, where workers of registered policies run."""


@pytest.fixture(scope="package")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    with members(tmp_path_factory.mktemp("members"), "c1", "c2") as made:
        yield made


@pytest.fixture(scope="package")
def enabled(clusters: list[Member]) -> list[Member]:
    """c1 may forward pods of its namespace `edge`; c2 has that namespace too."""
    enable(clusters)
    return clusters


@pytest.fixture
def layer(clusters: list[Member], tmp_path: Path) -> Iterator[Layer]:
    """The layer over them, in one process."""
    with Layer(tmp_path, clusters) as running:
        yield running
    clear(clusters)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(proxied=1) as running:
        yield running


@pytest.fixture(scope="module")
def kafka_of_c1(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toxiproxy]:
    """What lies between the agent of c1 and Kafka."""
    (listen, proxy) = servers.kafka.proxied[0]
    folder = tmp_path_factory.mktemp("proxy")
    with Toxiproxy(folder, f"127.0.0.1:{listen}", f"127.0.0.1:{proxy}") as running:
        yield running


@pytest.fixture(scope="module")
def running(
    clusters: list[Member],
    servers: Servers,
    kafka_of_c1: Toxiproxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("layer")
    through = {"c1": kafka_of_c1.listen}
    scaling = {
        "deployments": {"*": WORKERS},
        "namespace": "default",
        "kubeconfig": str(clusters[0].lab.kubeconfig),
        "queueAgeSeconds": 1,
        "policyNamespace": POLICY_NAMESPACE,
    }
    with Apart(folder, clusters, servers, through, legacy=True, scaling=scaling) as layer:
        yield layer


@pytest.fixture
def apart(running: Apart, clusters: list[Member]) -> Iterator[Apart]:
    """The same layer as processes of their own, which stay up from test to test."""
    for one in clusters:
        # A test before may have cut it off: its agent may report, and not hear anything yet.
        running.front.wait_for_heard(one.name)
        probe = running.front.submit(pod(f"probe-{one.name}"), clusters=[one.name])
        assert running.front.ended(probe)["state"] == "completed"
        running.front.ok("DELETE", f"/requests/{probe}")
    wait_for(lambda: not pods_by_request(clusters))
    yield running
    for record in running.front.requests():
        if record["state"] != "canceled":
            running.front.ok("DELETE", f"/requests/{record['id']}")
    wait_for(lambda: not pods_by_request(clusters))
    clear(clusters)
