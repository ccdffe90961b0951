"""NodeVolumeLimits: the node can attach as many more volumes of each CSI driver (upstream's CSI).

In-tree volumes that were migrated to CSI are not translated and so not counted.
"""

from collections import Counter

import numpy as np

from cluster.objects import PersistentVolumeClaim
from cluster.pod_index import claims_of
from cluster.snapshot import Ints, Snapshot, View
from filters.framework import Event, Plugin, PodInfo, Prepared, refusals

REASON = "node(s) exceed max volume count"


class NodeVolumeLimits(Plugin):
    NAME = "NodeVolumeLimits"
    events = Event.NODE_ADD | Event.POD_GONE | Event.CLAIM | Event.VOLUME | Event.CSI
    LOCAL = False

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | None:
        storage = snapshot.storage
        if not storage.nodes:
            return None
        claims = [storage.claims.get(key) for key in dict.fromkeys(claims_of(info.pod))]
        by_driver: dict[str, list[PersistentVolumeClaim]] = {}
        for claim in claims:
            driver = storage.driver_of(claim) if claim is not None else ""
            if claim is not None and driver:
                by_driver.setdefault(driver, []).append(claim)
        refused = np.zeros(len(snapshot), np.bool_)
        for driver, mine in by_driver.items():
            rows, limits = _limits(driver, snapshot)
            if len(rows):
                more = _attached(driver, snapshot) + _new(mine, snapshot)
                # With no new volume for a node its limit does not matter.
                refused[rows] |= (more[rows] > limits) & (_new(mine, snapshot)[rows] > 0)
        return Prepared(refused, (REASON,)) if refused.any() else None

    def filter(self, prepared: Prepared, view: View) -> Ints:
        return refusals(prepared.state[view.rows], 1)


def _limits(driver: str, snapshot: Snapshot) -> tuple[Ints, Ints]:
    """The rows that have a limit, and the limits."""
    found = [(snapshot.row(name), limit) for name, limit in snapshot.storage.limits(driver)]
    pairs = np.array([p for p in found if p[0] >= 0], np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _new(claims: list[PersistentVolumeClaim], snapshot: Snapshot) -> Ints:
    """By row, how many of these claims no pod of the node mounts already."""
    new = np.full(len(snapshot), len(claims), np.int64)
    for claim in claims:
        new[list(snapshot.index.claim_users.get(claim.key, ()))] -= 1
    return new


def _attached(driver: str, snapshot: Snapshot) -> Ints:
    """By row, the driver's volumes: those that pods mount, and those still attached without."""
    storage, users = snapshot.storage, snapshot.index.claim_users
    counts: Counter[int] = Counter()
    for key, rows in users.items():
        claim = storage.claims.get(key)
        if claim is not None and storage.driver_of(claim) == driver:
            counts.update(rows.keys())
    for attachment in storage.attachments.values():
        spec = attachment.spec
        volume = storage.volumes.get(spec.source.persistent_volume_name)
        row = snapshot.row(spec.node_name)
        if spec.attacher != driver or row < 0 or volume is None or volume.spec.csi is None:
            continue
        reference = volume.spec.claim_ref
        key = f"{reference.namespace}/{reference.name}" if reference else ""
        if row not in users.get(key, ()):
            counts[row] += 1
    attached = np.zeros(len(snapshot), np.int64)
    attached[list(counts)] = list(counts.values())
    return attached
