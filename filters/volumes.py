"""VolumeBinding, so far as claims that are already bound: they exist, and their volume is in reach.

Source: upstream's volumebinding plugin. What waits for its first consumer, volume limits, zones
and exclusive access have no plugin yet: `filters.unsupported` keeps such pods Pending.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cluster.objects import NodeSelector, PersistentVolumeClaim, Pod
from cluster.snapshot import Ints, Snapshot, View
from filters.framework import (
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Rejected,
    Unsignable,
    refusals,
)
from filters.selectors import matches_selector

CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
WAITS = "WaitForFirstConsumer"


def claim_names(pod: Pod) -> Iterator[str]:
    """`namespace/name` of every claim that the pod mounts, generic ephemeral volumes included."""
    namespace = pod.metadata.namespace
    for volume in pod.spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            yield f"{namespace}/{volume.persistent_volume_claim.claim_name}"
        elif volume.ephemeral is not None:
            yield f"{namespace}/{pod.metadata.name}-{volume.name}"


def _owned(claim: PersistentVolumeClaim, pod: Pod) -> bool:
    """Whether a claim of a generic ephemeral volume was made for this very pod."""
    made = {f"{pod.metadata.name}-{v.name}" for v in pod.spec.volumes or () if v.ephemeral}
    if claim.metadata.name not in made:
        return True
    owners = claim.metadata.owner_references or ()
    return any(owner.controller and owner.uid == pod.metadata.uid for owner in owners)


def waits_for_consumer(claim: PersistentVolumeClaim, snapshot: Snapshot) -> bool:
    """Whether the claim is bound only once a pod that uses it has a node."""
    if claim.spec.volume_name:
        return False
    known = snapshot.storage_classes.get(f"/{claim.spec.storage_class_name or ''}")
    return known is not None and known.volume_binding_mode == WAITS


class VolumeBinding(Plugin):
    NAME = "VolumeBinding"
    events = Event.NODE_ADD | Event.NODE_LABEL | Event.CLAIM | Event.VOLUME | Event.STORAGE_CLASS

    def sign(self, info: PodInfo) -> Any:
        if any(claim_names(info.pod)):
            raise Unsignable
        return None

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | Rejected | None:
        selectors: list[NodeSelector] = []
        for key in claim_names(info.pod):
            name = key.partition("/")[2]
            claim = snapshot.claims.get(key)
            if claim is None:
                return Rejected(f'persistentvolumeclaim "{name}" not found')
            if not _owned(claim, info.pod):
                return Rejected(
                    f"PVC {key} was not created for pod {info.pod.key} (pod is not owner)"
                )
            if claim.status.phase == "Lost":
                return Rejected(
                    f'persistentvolumeclaim "{name}" bound to non-existent '
                    f'persistentvolume "{claim.spec.volume_name}"'
                )
            if claim.metadata.deletion_timestamp:
                return Rejected(f'persistentvolumeclaim "{name}" is being deleted')
            if not claim.spec.volume_name or claim.status.phase != "Bound":
                if waits_for_consumer(claim, snapshot):
                    continue
                return Rejected(UNBOUND)
            volume = snapshot.volumes.get(f"/{claim.spec.volume_name}")
            if volume is None:
                return Rejected(f'persistentvolume "{claim.spec.volume_name}" not found')
            affinity = volume.spec.node_affinity
            if affinity is not None and affinity.required is not None:
                selectors.append(affinity.required)
        return Prepared((selectors, snapshot), (CONFLICT,)) if selectors else None

    def filter(self, prepared: Prepared, view: View) -> Ints:
        selectors, snapshot = prepared.state
        reachable = np.ones(len(view), np.bool_)
        for selector in selectors:
            reachable &= matches_selector(selector, view, snapshot)
        return refusals(~reachable, 1 | UNRESOLVABLE)
