"""VolumeRestrictions: disks for one node, and claims for one pod, have no second user (upstream).

ReadWriteOncePod claims are KEP-2485.
"""

from dataclasses import dataclass

import numpy as np

from cluster.objects.core import Disk
from cluster.objects.pod_volumes import disks_of
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from filters.common.plugin import Event, Plugin, PodInfo, Prepared, Rejected, refusals

DISK_CONFLICT = "node(s) had no available disk"
IN_USE = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already "
    "in-use by another pod"
)


@dataclass(frozen=True, slots=True)
class VolumeRestrictionsState:
    disk_taken: Bools
    claim_in_use: bool


class VolumeRestrictions(Plugin):
    NAME = "VolumeRestrictions"
    events = Event.NODE_ADD | Event.POD_GONE | Event.CLAIM
    LOCAL = False

    def pre_filter(
        self, info: PodInfo, snapshot: Snapshot
    ) -> Prepared[VolumeRestrictionsState] | Rejected | None:
        in_use = False
        namespace = info.pod.metadata.namespace
        for volume in info.pod.spec.volumes or ():
            if volume.persistent_volume_claim is None:
                continue
            name = volume.persistent_volume_claim.claim_name
            claim = snapshot.storage.claims.get(f"{namespace}/{name}")
            if claim is None:
                return Rejected(f'persistentvolumeclaim "{name}" not found')
            if "ReadWriteOncePod" in (claim.spec.access_modes or ()):
                in_use = in_use or claim.key in snapshot.index.claim_users
        disks = disks_of(info.pod)
        if not disks and not in_use:
            return None
        taken = np.zeros(len(snapshot), np.bool_)
        for shape in snapshot.index.with_disks() if disks else ():
            if any(_conflict(disk, used_disk) for disk in disks for used_disk in shape.disks):
                taken[list(shape.on)] = True
        return Prepared(VolumeRestrictionsState(taken, in_use), (DISK_CONFLICT, IN_USE))

    def filter(self, prepared: Prepared[VolumeRestrictionsState], view: View) -> Ints:
        state: VolumeRestrictionsState = prepared.state
        bits = refusals(state.disk_taken[view.rows], 1)
        return np.where(bits == 0, 2, bits) if state.claim_in_use else bits


def _conflict(one: tuple[str, Disk], other: tuple[str, Disk]) -> bool:
    """Whether two pods that mount these disks may not share a node."""
    (kind, a), (other_kind, b) = one, other
    if kind != other_kind:
        return False
    if kind == "aws_elastic_block_store":
        return a.volume_id == b.volume_id
    if a.read_only and b.read_only:
        return False
    if kind == "gce_persistent_disk":
        return a.pd_name == b.pd_name
    if kind == "iscsi":
        return a.iqn == b.iqn
    same = (a.pool or "rbd") == (b.pool or "rbd") and a.image == b.image
    return same and bool(set(a.monitors or ()) & set(b.monitors or ()))
