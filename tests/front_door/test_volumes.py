"""Claims that wait for their first consumer, with the real volume controller at the other end."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json

pytestmark = pytest.mark.usefixtures("scheduler")

SELECTED = "volume.kubernetes.io/selected-node"


@pytest.fixture(scope="module", autouse=True)
def storage_classes(kube: Kube) -> Iterator[None]:
    """Local volumes made by hand, and volumes that a provisioner would make."""
    path = "/apis/storage.k8s.io/v1/storageclasses"
    for name, provisioner in (("t-local", "kubernetes.io/no-provisioner"), ("t-made", "t.example")):
        body = {"metadata": {"name": name}, "provisioner": provisioner}
        kube.request("POST", path, body | {"volumeBindingMode": "WaitForFirstConsumer"})
    yield
    kube.delete("/api/v1/persistentvolumes")
    for name in ("t-local", "t-made"):
        kube.delete(f"{path}/{name}")


def volume(name: str, host: str, storage_class: str, size: str = "1Gi", **spec: Any) -> Json:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "local": {"path": "/mnt/x"},
            "nodeAffinity": {
                "required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
            },
            **spec,
        },
    }


def claim(kube: Kube, namespace: str, name: str, storage_class: str, size: str = "1Gi") -> None:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
    }
    body = {"metadata": {"name": name}, "spec": spec}
    kube.request("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", body)


def mounting(name: str, namespace: str, *claims: str) -> Json:
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    return pod_json(name, namespace=namespace, volumes=volumes)


def the_claim(kube: Kube, namespace: str, name: str) -> Json:
    return kube.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")


def test_pod_and_claim_meet_where_a_volume_is(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("a"), node_json("b"), node_json("c"))
    kube.create(
        volume("t-large", "b", "t-local", "9Gi"),
        volume("t-fits", "b", "t-local", "2Gi"),
        volume("t-small", "c", "t-local", "1Gi"),
    )
    available = "/api/v1/persistentvolumes/t-fits"
    wait_for(lambda: kube.get(available)["status"]["phase"] == "Available")
    claim(kube, namespace, "data", "t-local", "2Gi")
    kube.create(mounting("p", namespace, "data"))
    assert kube.node_of(namespace, "p", 40) == "b"
    assert the_claim(kube, namespace, "data")["spec"]["volumeName"] == "t-fits"
    # The next one gets what is left, not what was promised.
    claim(kube, namespace, "more", "t-local", "2Gi")
    kube.create(mounting("q", namespace, "more"))
    assert kube.node_of(namespace, "q", 40) == "b"
    assert the_claim(kube, namespace, "more")["spec"]["volumeName"] == "t-large"
    claim(kube, namespace, "third", "t-local", "2Gi")
    kube.create(mounting("r", namespace, "third"))
    assert (
        "3 node(s) didn't find available persistent volumes to bind"
        in (kube.refusal(namespace, "r")["message"])
    )


def test_a_provisioner_is_told_the_node_and_may_say_no(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("a"))
    claim(kube, namespace, "made", "t-made")
    kube.create(mounting("p", namespace, "made"))
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/made"

    def selected() -> str | None:
        annotations: dict[str, str] = kube.get(path)["metadata"].get("annotations") or {}
        return annotations.get(SELECTED)

    assert wait_for(selected) == "a"
    assert not kube.pod(namespace, "p")["spec"].get("nodeName"), "bound before its volume was there"
    # The provisioner could not: it takes the node back, and the pod is decided anew.
    kube.patch(path, {"metadata": {"annotations": {SELECTED: None}}})
    refused = wait_for(lambda: kube.events(namespace, "p", "FailedScheduling"))
    assert "provisioning failed for claim" in refused[0]["note"]
    assert wait_for(selected) == "a"
    # This time it can.
    reference = {"namespace": namespace, "name": "made"}
    uid = kube.get(path)["metadata"]["uid"]
    kube.create(volume("t-made-1", "a", "t-made", claimRef=reference | {"uid": uid}))
    assert kube.node_of(namespace, "p", 40) == "a"


def test_a_pod_that_waits_for_its_volume_makes_room_and_is_not_deleted(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    kube.request("POST", path, {"metadata": {"name": "t-urgent"}, "value": 1000})
    try:
        make_nodes(node_json("only", cpu="2"))
        claim(kube, namespace, "slow", "t-made")
        waiting = mounting("waits", namespace, "slow")
        waiting["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
        kube.create(waiting)

        def selected() -> bool:
            annotations = the_claim(kube, namespace, "slow")["metadata"].get("annotations") or {}
            return bool(annotations.get(SELECTED) == "only")

        wait_for(selected)
        uid = kube.pod(namespace, "waits")["metadata"]["uid"]
        kube.create(
            pod_json("urgent", {"cpu": "2"}, namespace=namespace, priorityClassName="t-urgent")
        )
        assert kube.node_of(namespace, "urgent", 30) == "only"
        left = kube.pod(namespace, "waits")
        assert left["metadata"]["uid"] == uid
        assert not left["metadata"].get("deletionTimestamp")
        assert not left["spec"].get("nodeName")
    finally:
        kube.delete(f"{path}/t-urgent")


def test_a_volume_is_made_only_where_the_driver_has_space(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("a"), node_json("b"))
    storage = "/apis/storage.k8s.io/v1"
    kube.request(
        "POST", f"{storage}/csidrivers",
        {"metadata": {"name": "t.example"}, "spec": {"storageCapacity": True}},
    )  # fmt: skip
    capacities = f"{storage}/namespaces/{namespace}/csistoragecapacities"
    try:
        for host, size in (("a", "1Gi"), ("b", "9Gi")):
            topology = {"matchLabels": {"kubernetes.io/hostname": host}}
            body = {"storageClassName": "t-made", "nodeTopology": topology, "capacity": size}
            kube.request("POST", capacities, body | {"metadata": {"name": host}})
        claim(kube, namespace, "large", "t-made", "5Gi")
        kube.create(mounting("p", namespace, "large"))

        def selected() -> str:
            annotations = the_claim(kube, namespace, "large")["metadata"].get("annotations") or {}
            return str(annotations.get(SELECTED, ""))

        assert wait_for(selected) == "b"
        claim(kube, namespace, "huge", "t-made", "50Gi")
        kube.create(mounting("q", namespace, "huge"))
        message = kube.refusal(namespace, "q")["message"]
        assert "2 node(s) did not have enough free storage" in message
    finally:
        kube.delete(f"{storage}/csidrivers")
