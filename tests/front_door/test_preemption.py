"""Room is made for pods of higher priority: on a real API server, with real deletions."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch

pytestmark = pytest.mark.usefixtures("scheduler")

CLASSES = {"t-low": (10, {}), "t-high": (1000, {}), "t-meek": (1000, {"preemptionPolicy": "Never"})}
HOLD = "gsch.io/test-hold"


@pytest.fixture(scope="module", autouse=True)
def priority_classes(kube: Kube) -> Iterator[None]:
    """Priorities low, high, and high but without the right to preempt."""
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    for name, (value, more) in CLASSES.items():
        kube.request("POST", path, {"metadata": {"name": name}, "value": value, **more})
    yield
    for name in CLASSES:
        kube.delete(f"{path}/{name}")


def pod(name: str, namespace: str, cpu: str, priority: str, **spec: Any) -> Json:
    return pod_json(
        name,
        {"cpu": cpu},
        namespace=namespace,
        priorityClassName=priority,
        terminationGracePeriodSeconds=0,
        **spec,
    )


def fill(kube: Kube, namespace: str, *names: str, **spec: Any) -> None:
    """A node of 2 cpus full with one pod of low priority for each name."""
    for name in names:
        body = pod(name, namespace, "2", "t-low", **spec)
        body["metadata"]["labels"] = {"app": name}
        kube.create(body)
    for name in names:
        kube.node_of(namespace, name)


def test_a_lesser_pod_makes_room_and_is_told_why(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("only", cpu="2"))
    held = pod("victim", namespace, "2", "t-low")
    held["metadata"]["finalizers"] = [HOLD]
    kube.create(held)
    kube.node_of(namespace, "victim")
    kube.create(pod("greater", namespace, "2", "t-high"))
    path = f"/api/v1/namespaces/{namespace}/pods/victim"

    def nominated() -> bool:
        status: Json = kube.pod(namespace, "greater")["status"]
        return status.get("nominatedNodeName") == "only"

    wait_for(nominated)
    condition = kube.refusal(namespace, "greater")
    assert condition["message"] == "0/1 nodes are available: 1 Insufficient cpu."
    victim = wait_for(lambda: (p := kube.get(path))["metadata"].get("deletionTimestamp") and p)
    marks = [c for c in victim["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert marks[0]["reason"] == "PreemptionByScheduler"
    assert wait_for(lambda: kube.events(namespace, "victim", "Preempted"))[0]["type"] == "Normal"
    # While the victim is on its way out, the room it leaves is nobody else's.
    kube.create(pod("lesser", namespace, "1", "t-low"))
    assert "Insufficient cpu" in kube.refusal(namespace, "lesser")["message"]
    kube.patch(path, {"metadata": {"finalizers": None}})
    assert kube.node_of(namespace, "greater") == "only"
    assert not kube.pod(namespace, "lesser")["spec"].get("nodeName")


def test_a_budget_decides_who_goes(kube: Kube, namespace: str, make_nodes: MakeNodes) -> None:
    make_nodes(node_json("a", cpu="2"), node_json("b", cpu="2"))
    kube.create(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "guarded", "namespace": namespace},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}},
        }
    )
    fill(kube, namespace, "guarded", "free")
    kube.create(pod("greater", namespace, "2", "t-high"))
    kube.node_of(namespace, "greater")
    assert set(kube.pods(namespace)) == {"guarded", "greater"}


def test_a_pod_that_may_not_preempt_waits(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("only", cpu="2"))
    fill(kube, namespace, "victim")
    kube.create(pod("meek", namespace, "2", "t-meek"))
    assert kube.refusal(namespace, "meek")["message"] == (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "not eligible due to preemptionPolicy=Never."
    )
    kube.delete(f"/api/v1/namespaces/{namespace}/pods/victim")
    assert kube.node_of(namespace, "meek") == "only"


def test_preemption_is_counted(
    scheduler: Gsch, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("only", cpu="2"))
    before = scheduler.metric("scheduler_preemption_victims_sum")
    for name in ("one", "two"):
        kube.create(pod(name, namespace, "1", "t-low"))
        kube.node_of(namespace, name)
    kube.create(pod("greater", namespace, "2", "t-high"))
    kube.node_of(namespace, "greater")
    assert scheduler.metric("scheduler_preemption_victims_sum") == before + 2
