"""Storage as the API server tells it, with what was decided and does not show yet."""

from typing import Any

import pytest

from cluster.state.resource_types import RESOURCES, put
from cluster.state.snapshot import Snapshot
from cluster.state.storage import SELECTED_NODE, VolumePlan, bound, class_of, class_of_volume
from tests.harness.make import Json, node, snapshot
from tests.harness.objects import read
from tests.harness.volumes import claim, late, local, volume, waiting

BETA = "volume.beta.kubernetes.io/storage-class"


def world(*objects: Json) -> Snapshot:
    found = snapshot(node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}))
    for raw in objects:
        put(found, raw["kind"], read(raw))
    return found


def offered(found: Snapshot) -> list[str]:
    """Volumes that a claim without a volume is matched with."""
    available = found.storage.available
    names = []
    for group in available.groups(read(waiting()), "late"):
        names += [available.name(int(id_)) for id_ in group.pinned.entries()[2]]
        names += [available.name(i) for r in group.reaches.values() for _, _, i in r.sizes]
    return sorted(names)


def test_what_a_plan_takes_is_kept_from_others_until_it_is_forgotten() -> None:
    found = world(late(), local("v", "a"), waiting())
    plan = VolumePlan("a", (("v", "default/data"),), ("default/more",))
    assert offered(found) == ["v"]
    found.storage.assume(plan)
    assert offered(found) == []
    # A change of the volume does not offer it anew.
    put(found, "PersistentVolume", read(local("v", "a", "2Gi")))
    assert offered(found) == []
    more: Any = read(waiting("more"))
    assert found.storage.selected_node(more) == "a"
    mine = found.storage.promised_to(read(waiting()))
    assert [v.metadata.name for v in mine] == ["v"]
    found.storage.forget(plan)
    found.storage.forget(plan)
    assert offered(found) == ["v"]
    assert found.storage.selected_node(more) == ""
    assert found.storage.promised_to(read(waiting())) == []


@pytest.mark.parametrize(
    "raw",
    [
        volume("v", phase="Bound", storageClassName="late"),
        volume("v", phase="Released", storageClassName="late"),
        volume("v", phase="Available", storageClassName="late",
               claimRef={"namespace": "default", "name": "other"}),
        volume("v", {"deletionTimestamp": "2024-01-01T00:00:00Z"}, "Available",
               storageClassName="late"),
        volume("v", phase="Available", storageClassName="other"),
    ],
)  # fmt: skip
def test_only_a_volume_that_is_free_is_offered(raw: Json) -> None:
    found = world(volume("v", phase="Available", storageClassName="late"))
    assert offered(found) == ["v"]
    put(found, "PersistentVolume", read(raw))
    assert offered(found) == []
    RESOURCES["PersistentVolume"].put(found, "v", None)
    assert offered(found) == []


@pytest.mark.parametrize(
    ("uid", "mine"), [("", True), ("uid-data", True), ("uid-of-an-older-claim", False)]
)
def test_a_volume_is_promised_to_the_very_claim_that_it_names(uid: str, mine: bool) -> None:
    reference = {"namespace": "default", "name": "data", "uid": uid}
    found = world(volume("v", storageClassName="late", claimRef=reference))
    asking: Any = read(waiting(metadata={"uid": "uid-data"}))
    assert bool(found.storage.promised_to(asking)) is mine
    other_class: Any = read(waiting(storageClassName="other", metadata={"uid": "uid-data"}))
    assert found.storage.promised_to(other_class) == []
    RESOURCES["PersistentVolume"].put(found, "v", None)
    assert found.storage.promised_to(asking) == []


def test_a_class_is_named_by_the_old_annotation_before_the_field() -> None:
    plain, old = {"storageClassName": "new"}, {"annotations": {BETA: "old"}}
    assert class_of(read(claim(**plain))) == "new"
    assert class_of(read(claim(metadata=old, **plain))) == "old"
    assert class_of(read(claim())) == ""
    assert class_of_volume(read(volume(metadata=old, **plain))) == "old"
    assert class_of_volume(read(volume(**plain))) == "new"


def test_a_claim_is_bound_once_both_sides_say_so() -> None:
    assert bound(read(claim()))
    assert not bound(read(claim("Pending")))
    assert not bound(read(claim(volumeName="")))


def test_a_claim_s_own_annotation_tells_the_node_that_was_selected() -> None:
    chosen: Any = read(waiting(metadata={"annotations": {SELECTED_NODE: "b"}}))
    assert world().storage.selected_node(chosen) == "b"


@pytest.mark.parametrize(
    ("objects", "driver"),
    [
        ((claim(), volume(csi={"driver": "d", "volumeHandle": "h"})), "d"),
        ((claim(), volume()), ""),
        ((claim("Pending", volumeName="", storageClassName="late"), late("made.example")),
         "made.example"),
        ((claim("Pending", volumeName="", storageClassName="late"),), ""),
    ],
)  # fmt: skip
def test_the_driver_of_a_claim_is_its_volume_s_or_its_class_s(objects: Any, driver: str) -> None:
    assert world(*objects).storage.driver_of(read(objects[0])) == driver


def capacity(name: str, topology: Any, size: str | None = "5Gi", of: str = "late") -> Json:
    raw = {
        "kind": "CSIStorageCapacity",
        "metadata": {"name": name, "namespace": "kube-system"},
        "storageClassName": of,
        "nodeTopology": topology,
    }
    return raw if size is None else raw | {"capacity": size}


ONE: Any = {"matchLabels": {"zone": "1"}}
EXPRESSION: Any = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}]}
TWO: Any = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1", "2"]}]}


def told(found: Snapshot, of: str = "late") -> Any:
    """(numbers of entries by label, of others) of the class; None with no word."""
    known = found.storage.capacity(of)
    return None if known is None else (len(known.pinned), len(known.others))


@pytest.mark.parametrize(
    ("topology", "size", "expected"),
    [
        (ONE, "5Gi", (1, 0)),
        (EXPRESSION, "5Gi", (1, 0)),
        (TWO, "5Gi", (0, 1)),
        ({}, "5Gi", (0, 1)),
        ({"matchLabels": {"zone": "1", "rack": "2"}}, "5Gi", (0, 1)),
        (ONE, None, None),
        (None, "5Gi", None),
    ],
)
def test_capacities_of_one_label_are_columns_and_the_others_are_few(
    topology: Any, size: str | None, expected: Any
) -> None:
    assert told(world(capacity("c", topology, size))) == expected


def test_a_capacity_that_changes_is_counted_where_it_is_now() -> None:
    found = world(capacity("c", ONE), capacity("d", TWO))
    assert told(found) == (1, 1)
    put(found, "CSIStorageCapacity", read(capacity("c", TWO)))
    assert told(found) == (0, 2)
    put(found, "CSIStorageCapacity", read(capacity("c", ONE)))
    assert told(found) == (1, 1)
    put(found, "CSIStorageCapacity", read(capacity("c", ONE, of="other")))
    assert (told(found), told(found, "other")) == ((0, 1), (1, 0))
    for name in ("c", "d"):
        RESOURCES["CSIStorageCapacity"].put(found, f"kube-system/{name}", None)
    assert (told(found), told(found, "other")) == (None, None)
