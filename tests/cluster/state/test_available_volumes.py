"""Volumes that claims may be bound to: how they are grouped, and what a claim is matched with."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.objects.api_objects import PersistentVolume, PersistentVolumeClaim
from cluster.state.available_volumes import AvailableVolumes, affinity_key, hostname_of
from tests.harness.make import Json, node, snapshot
from tests.harness.objects import expression, read
from tests.harness.volumes import claim, local, on_node, volume

GI = 1024**3


def available() -> AvailableVolumes:
    return AvailableVolumes(snapshot(node("a"), node("b")))


def offer(found: AvailableVolumes, raw: Json) -> None:
    new: PersistentVolume = read(raw)
    found.set(new, new.spec.storage_class_name)


def wanting(**spec: Any) -> PersistentVolumeClaim:
    found: PersistentVolumeClaim = read(claim("Pending", **spec))
    return found


def sizes(found: AvailableVolumes, mine: PersistentVolumeClaim, of: str = "late") -> list[int]:
    """Sizes, in GiB, of the volumes that suit the claim."""
    kept = []
    for group in found.groups(mine, of):
        kept += group.pinned.entries()[1].tolist()
        kept += [size for reach in group.reaches.values() for size, _, _ in reach.sizes]
    return sorted(size // GI for size in kept)


@pytest.mark.parametrize(
    ("required", "hostname"),
    [
        (on_node("a")["required"], "a"),
        ({"nodeSelectorTerms": [{"matchExpressions": []}]}, ""),
        ({"nodeSelectorTerms": []}, ""),
        ({"nodeSelectorTerms": on_node("a")["required"]["nodeSelectorTerms"] * 2}, ""),
        ({"nodeSelectorTerms": [
            {"matchExpressions": [expression("kubernetes.io/hostname", "In", "a", "b")]}]}, ""),
        ({"nodeSelectorTerms": [
            {"matchExpressions": [expression("kubernetes.io/hostname", "NotIn", "a")]}]}, ""),
        ({"nodeSelectorTerms": [{"matchExpressions": [expression("zone", "In", "a")]}]}, ""),
        ({"nodeSelectorTerms": [
            {"matchExpressions": [expression("kubernetes.io/hostname", "In", "a")],
             "matchFields": [expression("metadata.name", "In", "a")]}]}, ""),
    ],
)  # fmt: skip
def test_only_a_volume_for_one_hostname_is_pinned(required: Any, hostname: str) -> None:
    assert hostname_of(read(volume(nodeAffinity={"required": required}))) == hostname


def test_a_volume_without_affinity_is_pinned_nowhere() -> None:
    assert hostname_of(read(volume())) == ""
    assert hostname_of(read(volume(nodeAffinity={}))) == ""


def test_equal_affinities_have_equal_keys() -> None:
    one, same, other = (read(volume(nodeAffinity=on_node(host))) for host in ("a", "a", "b"))
    keys = [affinity_key(found.spec.node_affinity.required) for found in (one, same, other)]
    assert keys[0] == keys[1] != keys[2]
    assert affinity_key(None) == b""


@pytest.mark.parametrize(
    ("offered", "asked", "suits"),
    [
        ({}, {}, True),
        ({"storageClassName": "other"}, {}, False),
        ({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}, {"accessModes": ["ReadOnlyMany"]},
         True),
        ({"accessModes": ["ReadWriteOnce"]}, {"accessModes": ["ReadWriteMany"]}, False),
        ({"volumeMode": "Block"}, {}, False),
        ({"volumeMode": "Block"}, {"volumeMode": "Block"}, True),
        ({"volumeAttributesClassName": "fast"}, {}, False),
        ({"volumeAttributesClassName": "fast"}, {"volumeAttributesClassName": "fast"}, True),
    ],
)  # fmt: skip
def test_a_claim_is_matched_by_class_modes_and_attributes(
    offered: Any, asked: Any, suits: bool
) -> None:
    found = available()
    offer(found, volume("v", size="2Gi", **({"storageClassName": "late"} | offered)))
    assert sizes(found, wanting(**asked)) == ([2] if suits else [])


def test_volumes_of_one_reach_are_kept_by_size() -> None:
    found = available()
    for name, size in (("v3", "3Gi"), ("v1", "1Gi"), ("v2", "2Gi")):
        offer(found, volume(name, size=size, storageClassName="late"))
    (group,) = found.groups(wanting(), "late")
    (reach,) = group.reaches.values()
    assert [found.name(id_) for _, _, id_ in reach.sizes] == ["v1", "v2", "v3"]


def test_a_local_volume_is_offered_on_its_host() -> None:
    found = available()
    offer(found, local("v", "b", "4Gi"))
    (group,) = found.groups(wanting(), "late")
    rows, numbers, ids = group.pinned.entries()
    assert (rows.tolist(), numbers.tolist()) == ([1], [4 * GI])
    assert found.name(int(ids[0])) == "v"


def test_a_volume_that_changes_is_offered_once() -> None:
    found = available()
    offer(found, volume("v", size="1Gi", storageClassName="late"))
    offer(found, local("v", "a", "2Gi"))
    assert sizes(found, wanting()) == [2]
    offer(found, volume("v", size="3Gi", storageClassName="late"))
    assert sizes(found, wanting()) == [3]


def test_a_selector_means_the_volumes_of_the_class_that_carry_its_labels() -> None:
    found = available()
    for name, labels, of in (("ssd", {"disk": "ssd"}, "late"), ("hdd", {"disk": "hdd"}, "late"),
                             ("far", {"disk": "ssd"}, "other")):  # fmt: skip
        offer(found, volume(name, {"labels": labels}, storageClassName=of))
    mine = wanting(selector={"matchLabels": {"disk": "ssd"}})
    assert found.selected(mine, "late") == frozenset((found.id("ssd"),))
    assert found.selected(wanting(), "late") is None


def test_a_number_is_another_volume_s_only_once_its_own_is_forgotten() -> None:
    found = available()
    offer(found, volume("old", storageClassName="late"))
    old = found.id("old")
    found.discard("old")
    assert found.id("old") == old
    found.forget("old")
    found.forget("never-there")
    assert found.id("new") == old
    assert found.name(old) == "new"


def test_the_rank_of_a_volume_depends_on_its_name_alone() -> None:
    one, other = available(), available()
    for name in ("a", "b", "c"):
        one.id(name)
    for name in ("c", "b", "a"):
        other.id(name)
    for name in ("a", "b", "c"):
        assert one.ranks[one.id(name)] == other.ranks[other.id(name)]


def test_ranks_shrink_once_most_volumes_are_gone() -> None:
    found = available()
    for number in range(2000):
        found.id(f"v{number}")
    kept = int(found.ranks[found.id("v0")])
    for number in range(1, 2000):
        found.forget(f"v{number}")
    assert len(found.ranks) < 1000
    assert found.ranks[found.id("v0")] == kept


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["v0", "v1", "v2", "v3"]),
            st.sampled_from([None, "", "a", "b"]),
            st.integers(1, 4),
            st.sampled_from(["late", "other"]),
        ),
        max_size=30,
    )
)
def test_what_is_offered_is_what_was_offered_last(steps: list[Any]) -> None:
    found = available()
    known: dict[str, tuple[str, int]] = {}
    for name, host, size, of in steps:
        if host is None:
            found.discard(name)
            known.pop(name, None)
            continue
        affinity: Any = {"nodeAffinity": on_node(host)} if host else {}
        offer(found, volume(name, size=f"{size}Gi", storageClassName=of, **affinity))
        known[name] = of, size
    for of in ("late", "other"):
        expected = sorted(size for known_of, size in known.values() if known_of == of)
        assert sizes(found, wanting(), of) == expected
