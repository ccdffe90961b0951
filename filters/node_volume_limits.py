"""NodeVolumeLimits: the node can attach as many more volumes of each CSI driver (upstream's CSI).

In-tree volumes that were migrated to CSI are not translated and so not counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cluster.pod_index import claims_of
from cluster.related import PersistentVolumeClaim
from cluster.snapshot import Ints, Snapshot, View
from filters.framework import Event, Plugin, PodInfo, Prepared, refusals

REASON = "node(s) exceed max volume count"


class NodeVolumeLimits(Plugin):
    NAME = "NodeVolumeLimits"
    events = Event.NODE_ADD | Event.POD_GONE | Event.CLAIM | Event.VOLUME | Event.CSI
    LOCAL = False

    def __init__(self) -> None:
        self._kept: dict[str, _Attached] = {}

    def _attached(self, driver: str, snapshot: Snapshot) -> Ints:
        kept = self._kept.get(driver)
        if kept is None or kept.snapshot is not snapshot:
            kept = self._kept[driver] = _Attached(snapshot, driver)
        return kept.current()

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
                more = self._attached(driver, snapshot) + _new(mine, snapshot)
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


@dataclass(slots=True)
class _Attached:
    """By row, the volumes of one driver: those that pods mount, and those still attached without.

    Kept up to date by the journal of claims that got their first, or lost their last, user on a
    row; counted anew when the API server tells of any change in storage, or nodes come or go.
    """

    snapshot: Snapshot
    driver: str
    counts: Ints = field(init=False)
    lingering: set[tuple[str, int]] = field(init=False)
    """(claim, row) of attached volumes, whether or not a pod mounts them."""
    _versions: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._count()

    def current(self) -> Ints:
        """By row of the snapshot."""
        index = self.snapshot.index
        storage, nodes, claims = self._versions
        behind = index.claims_version - claims
        if (storage, nodes) != self._shape() or behind > len(index.claim_journal):
            self._count()
            return self.counts
        for position in range(-behind, 0):
            claim, row, change = index.claim_journal[position]
            if self._mine(claim) and (claim, row) not in self.lingering:
                self.counts[row] += change
        self._versions = storage, nodes, index.claims_version
        return self.counts

    def _shape(self) -> tuple[int, int]:
        return self.snapshot.storage.version, self.snapshot.nodes_version

    def _mine(self, key: str) -> bool:
        claim = self.snapshot.storage.claims.get(key)
        return claim is not None and self.snapshot.storage.driver_of(claim) == self.driver

    def _count(self) -> None:
        snapshot = self.snapshot
        self._versions = *self._shape(), snapshot.index.claims_version
        self.lingering = set(self._attachments())
        pairs = self.lingering | {
            (key, row)
            for key, rows in snapshot.index.claim_users.items()
            if self._mine(key)
            for row in rows
        }
        self.counts = np.zeros(len(snapshot), np.int64)
        for _, row in pairs:
            self.counts[row] += 1

    def _attachments(self) -> Iterator[tuple[str, int]]:
        storage = self.snapshot.storage
        for name, attachment in storage.attachments.items():
            spec = attachment.spec
            volume = storage.volumes.get(spec.source.persistent_volume_name)
            row = self.snapshot.row(spec.node_name)
            if spec.attacher != self.driver or row < 0 or volume is None or not volume.spec.csi:
                continue
            reference = volume.spec.claim_ref
            yield f"{reference.namespace}/{reference.name}" if reference else f"/{name}", row
