"""Every kind beside nodes and pods: where it goes in the snapshot, and that it goes out again."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cluster.objects.label_selectors import equal_to
from cluster.state.resource_types import RESOURCES, key_of, put
from cluster.state.snapshot import Snapshot
from tests.harness.make import Json, labelled, pod
from tests.harness.objects import read

Look = Callable[[Snapshot], Any]


def named(kind: str, name: str = "x", namespace: str = "shop", **fields: Any) -> Json:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}


def owned(owner: str) -> Look:
    """What the controller says that the pod belongs to."""

    def look(snapshot: Snapshot) -> Any:
        raw = labelled(pod("p", namespace="shop"), app="web")
        owners: Any = [{"apiVersion": "v1" if owner == "ReplicationController" else "apps/v1",
                        "kind": owner, "name": "x", "controller": True}]  # fmt: skip
        meta = msgspec.convert(
            msgspec.to_builtins(raw.metadata) | {"ownerReferences": owners}, type(raw.metadata)
        )
        return snapshot.default_selectors.selector(msgspec.structs.replace(raw, metadata=meta))

    return look


WEB: Any = {"matchLabels": {"app": "web"}}
APP = equal_to({"app": "web"})


@pytest.mark.parametrize(
    ("raw", "look", "there"),
    [
        (named("Service", spec={"selector": {"app": "web"}}),
         lambda s: s.default_selectors.service("shop", "x"), {"app": "web"}),
        (named("ReplicationController", spec={"selector": {"app": "web"}}),
         owned("ReplicationController"), APP),
        (named("ReplicaSet", spec={"selector": WEB}), owned("ReplicaSet"), APP),
        (named("StatefulSet", spec={"selector": WEB}), owned("StatefulSet"), APP),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) and "kind" in value else "",
)  # fmt: skip
def test_what_selects_pods_is_there_until_it_is_gone(raw: Json, look: Look, there: Any) -> None:
    found = Snapshot()
    put(found, raw["kind"], read(raw))
    assert look(found) == there
    RESOURCES[raw["kind"]].put(found, "shop/x", None)
    assert look(found) is None


@pytest.mark.parametrize(
    ("kind", "store"),
    [
        ("PodDisruptionBudget", lambda s: s.budgets),
        ("PodGroup", lambda s: s.groups),
        ("PersistentVolumeClaim", lambda s: s.storage.claims),
        ("PersistentVolume", lambda s: s.storage.volumes),
        ("StorageClass", lambda s: s.storage.classes),
        ("CSINode", lambda s: s.storage.nodes),
        ("CSIDriver", lambda s: s.storage.drivers),
        ("CSIStorageCapacity", lambda s: s.storage.capacities),
        ("VolumeAttachment", lambda s: s.storage.attachments),
    ],
)
def test_an_object_is_kept_by_its_key_until_it_is_gone(kind: str, store: Look) -> None:
    found = Snapshot()
    raw = named(kind, spec={}) if RESOURCES[kind].namespaced else {
        "kind": kind, "metadata": {"name": "x"}, "spec": {},
    }  # fmt: skip
    if kind == "CSIStorageCapacity":
        raw["storageClassName"] = "late"
    item = read(raw)
    key = "shop/x" if RESOURCES[kind].namespaced else "x"
    assert key_of(item) == key
    put(found, kind, item)
    assert store(found) == {key: item}
    RESOURCES[kind].put(found, key, None)
    RESOURCES[kind].put(found, key, None)
    assert store(found) == {}


def test_of_namespaces_the_labels_are_kept() -> None:
    found = Snapshot()
    for labels in ({"team": "a"}, None):
        raw = {"kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}
        put(found, "Namespace", read(raw))
        assert found.namespaces == {"shop": labels or {}}
    RESOURCES["Namespace"].put(found, "shop", None)
    assert found.namespaces == {}
