"""Claims without a volume, as VolumeZone tells of them (upstream's reasons)."""

from typing import Any

import pytest

from cluster.state.resource_types import put
from filters.common.plugin import PodInfo, Prepared, Rejected
from filters.volume_zone import VolumeZone
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import read
from tests.harness.volumes import MOUNTS, claim, late, volume

IMMEDIATE: Any = late("x") | {"volumeBindingMode": "Immediate"}


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ((), 'persistentvolumeclaim "data" not found'),
        ((claim("Pending", volumeName=""),),
         "PersistentVolumeClaim had no pv name and storageClass name"),
        ((claim("Pending", volumeName="", storageClassName="late"),),
         'storageclass.storage.k8s.io "late" not found'),
        ((claim("Pending", volumeName="", storageClassName="late"), IMMEDIATE),
         "PersistentVolume had no name"),
        ((claim("Pending", volumeName="", storageClassName="late"), late()), None),
        ((claim(),), 'persistentvolume "pv" not found'),
        ((claim(), volume()), None),
    ],
)  # fmt: skip
def test_a_claim_without_a_volume_is_said_why(others: Any, reason: str | None) -> None:
    found = snapshot(node("a"))
    for raw in others:
        put(found, raw["kind"], read(raw))
    answer = VolumeZone().pre_filter(PodInfo.of(pod(**MOUNTS)), found)
    assert (answer.reason if isinstance(answer, Rejected) else answer) == reason


def test_white_space_around_zones_does_not_count_and_an_empty_zone_voids_the_label() -> None:
    zone = "topology.kubernetes.io/zone"
    found = snapshot(node("one", labels={zone: "1"}), node("two", labels={zone: "2"}))
    put(found, "PersistentVolumeClaim", read(claim()))
    plugin = VolumeZone()
    for value, fits in ((" 1 __3", [True, False]), ("1__", None)):
        put(found, "PersistentVolume", read(volume(metadata={"labels": {zone: value}})))
        prepared = plugin.pre_filter(PodInfo.of(pod(**MOUNTS)), found)
        if fits is None:
            assert prepared is None
        else:
            assert isinstance(prepared, Prepared)
            assert (plugin.filter(prepared, found.view()) == 0).tolist() == fits
