"""VolumeZone: bound volumes that carry zone or region labels are in the node's (upstream)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cluster.objects.api_objects import PersistentVolume
from cluster.objects.keys import ObjectKey
from cluster.objects.pod_volumes import mounted_claims_of
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from cluster.state.storage import class_of
from filters.common.plugin import UNRESOLVABLE, Event, Plugin, PodInfo, Prepared, Rejected, refusals

REASON = "node(s) had no available volume zone"

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
OLD_NAMES = {
    "failure-domain.beta.kubernetes.io/zone": ZONE,
    "failure-domain.beta.kubernetes.io/region": REGION,
}
LABELS = (*OLD_NAMES, ZONE, REGION)


@dataclass(frozen=True, slots=True)
class Zones:
    """By label, the values that will do."""

    required: list[tuple[str, list[str]]]
    snapshot: Snapshot


class VolumeZone(Plugin):
    NAME = "VolumeZone"
    events = Event.NODE_ADD | Event.NODE_LABEL | Event.CLAIM | Event.VOLUME | Event.STORAGE_CLASS
    LOCAL = False
    LOOKS_AT_PODS = False

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Zones] | Rejected | None:
        storage = snapshot.storage
        required: list[tuple[str, list[str]]] = []
        # Claims of generic ephemeral volumes are not looked at, as upstream's are not.
        for key in mounted_claims_of(info.pod):
            claim = storage.claims.get(key)
            if claim is None:
                return Rejected(f'persistentvolumeclaim "{ObjectKey.parse(key).name}" not found')
            if not claim.spec.volume_name:
                if not class_of(claim):
                    return Rejected("PersistentVolumeClaim had no pv name and storageClass name")
                if class_of(claim) not in storage.classes:
                    return Rejected(f'storageclass.storage.k8s.io "{class_of(claim)}" not found')
                if not storage.waits_for_consumer(claim):
                    return Rejected("PersistentVolume had no name")
                continue
            volume = storage.volumes.get(claim.spec.volume_name)
            if volume is None:
                return Rejected(f'persistentvolume "{claim.spec.volume_name}" not found')
            required += _zones(volume)
        return Prepared(Zones(required, snapshot), (REASON,)) if required else None

    def filter(self, prepared: Prepared[Zones], view: View) -> Ints:
        zones = prepared.state
        matching = np.ones(len(view), np.bool_)
        for label, values in zones.required:
            matching = matching & _has_one(label, values, view, zones.snapshot)
        # A node without any of these labels is in a cluster of one zone.
        zonal = np.zeros(len(view), np.bool_)
        for label in LABELS:
            zonal |= _present(label, view)
        return refusals(zonal & ~matching, 1 | UNRESOLVABLE)


def _zones(volume: PersistentVolume) -> Iterator[tuple[str, list[str]]]:
    """(label, values that will do); several zones are joined by `__`."""
    labels = volume.metadata.labels or {}
    for label in LABELS:
        if label in labels:
            values = labels[label].split("__")
            if all(value.strip() for value in values):
                yield label, [value.strip() for value in values]


def _present(label: str, view: View) -> Bools:
    column = view.label(label)
    return np.zeros(len(view), np.bool_) if column is None else column != 0


def _has_one(label: str, values: list[str], view: View, snapshot: Snapshot) -> Bools:
    """Nodes whose label, or the newer one in its place, has one of the values."""
    result = np.zeros(len(view), np.bool_)
    missing = np.ones(len(view), np.bool_)
    for name in (label, OLD_NAMES.get(label, label)):
        column = view.label(name)
        if column is not None:
            label_values = snapshot.label_values(name)
            result |= missing & np.isin(column, [label_values.find(value) for value in values])
            missing &= column == 0
    return result
