"""VolumeBinding: a pod's claims are bound where it goes, or can be.

Source: upstream's volumebinding plugin. A claim of a class that waits for its first consumer is
matched with the smallest volume that the node can reach, or provisioned for the node; `reserve`
says what has to be written for that before the pod is bound.
"""

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from cluster.objects.api_objects import PersistentVolume, PersistentVolumeClaim, StorageClass
from cluster.objects.core import NodeSelector, NodeSelectorTerm, Pod, Requirement
from cluster.objects.keys import ObjectKey
from cluster.objects.pod_volumes import claims_of
from cluster.objects.quantity import value
from cluster.state.available_volumes import Reach
from cluster.state.by_label import ByLabel
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from cluster.state.storage import VolumePlan, bound, class_of
from filters.common.node_selectors import matches_selector
from filters.common.plugin import (
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Rejected,
    refusals,
)
from filters.common.smallest_volumes import SmallestVolumes
from filters.common.volume_reach import SelectorMasks, VolumeReach

CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NOTHING_TO_BIND = "node(s) didn't find available persistent volumes to bind"
NO_SPACE = "node(s) did not have enough free storage"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
NO_PROVISIONER = ("", "kubernetes.io/no-provisioner")


class VolumeBindingArgs(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """How long volumes are waited for (upstream)."""

    bind_timeout_seconds: float = 600.0
    """Seconds that volumes may take to be bound or made."""


@dataclass(frozen=True, slots=True)
class Answer:
    """For every row: the refusal's bits, and for each claim that waits the volume it would get.

    `matched` pairs a claim with the volume's number in `storage.available` by row, -1 where one is
    to be provisioned."""

    bits: Ints
    matched: list[tuple[str, Ints]]


class VolumeBinding(Plugin):
    NAME = "VolumeBinding"
    events = (
        Event.NODE_ADD | Event.NODE_LABEL | Event.CLAIM | Event.VOLUME | Event.STORAGE_CLASS
        | Event.CSI
    )  # fmt: skip
    LOCAL = False
    LOOKS_AT_PODS = False

    def __init__(self, args: VolumeBindingArgs = VolumeBindingArgs()) -> None:
        if not 0 < args.bind_timeout_seconds < math.inf:
            raise ValueError(f"bindTimeoutSeconds: above 0, got {args.bind_timeout_seconds:g}")
        self.bind_timeout_s = args.bind_timeout_seconds
        self._masks = SelectorMasks()

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "VolumeBinding":
        return cls(msgspec.convert(args, VolumeBindingArgs))

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Answer] | Rejected | None:
        keys = claims_of(info.pod)
        if not keys:
            return None
        storage = snapshot.storage
        made = {f"{info.pod.key}-{v.name}" for v in info.pod.spec.volumes or () if v.ephemeral}
        claims: list[PersistentVolumeClaim] = []
        for key in keys:
            claim = storage.claims.get(key)
            problem = _problem(info.pod, key, claim, key in made)
            if problem or claim is None:
                return Rejected(problem)
            claims.append(claim)
        waiting = [c for c in claims if not bound(c)]
        if any(c.spec.volume_name or not storage.waits_for_consumer(c) for c in waiting):
            return Rejected(UNBOUND)
        answer = _Search(snapshot, self._masks).run([c for c in claims if bound(c)], waiting)
        return Prepared(answer, (CONFLICT, NOTHING_TO_BIND, NO_SPACE, NO_VOLUME))

    def filter(self, prepared: Prepared[Answer], view: View) -> Ints:
        answer: Answer = prepared.state
        bits: Ints = answer.bits[view.rows]
        return bits

    def reserve(
        self, info: PodInfo, prepared: Prepared[Answer] | None, snapshot: Snapshot, row: int
    ) -> VolumePlan | None:
        """What to write before the pod can run on the row's node, kept from others meanwhile."""
        plan = self.plan(prepared, snapshot, row) if prepared is not None else None
        if plan is not None:
            snapshot.storage.assume(plan)
        return plan

    def unreserve(self, info: PodInfo, held: VolumePlan, snapshot: Snapshot) -> None:
        snapshot.storage.forget(held)

    async def pre_bind(self, info: PodInfo, held: VolumePlan, node: str) -> None:
        """Have the claims bound; what the API server shows by then need not be assumed any more."""
        await self.handle.bind_volumes(info.pod, held, self.bind_timeout_s)

    def plan(self, prepared: Prepared[Answer], snapshot: Snapshot, row: int) -> VolumePlan | None:
        """What to write before the pod can run on the row's node; None where nothing is."""
        answer: Answer = prepared.state
        bindings, provisions = [], []
        for claim, chosen in answer.matched:
            if chosen[row] >= 0:
                bindings.append((snapshot.storage.available.name(chosen[row]), claim))
            else:
                provisions.append(claim)
        if not bindings and not provisions:
            return None
        return VolumePlan(snapshot.names[row], tuple(bindings), tuple(provisions))


def _problem(pod: Pod, key: str, claim: PersistentVolumeClaim | None, ephemeral: bool) -> str:
    """Why the claim keeps the pod from every node; empty where it does not."""
    name = ObjectKey.parse(key).name
    if claim is None:
        if ephemeral:
            return (
                "waiting for ephemeral volume controller to create the persistentvolumeclaim "
                f'"{name}"'
            )
        return f'persistentvolumeclaim "{name}" not found'
    if claim.status.phase == "Lost":
        return (
            f'persistentvolumeclaim "{name}" bound to non-existent '
            f'persistentvolume "{claim.spec.volume_name}"'
        )
    if claim.metadata.deletion_timestamp:
        return f'persistentvolumeclaim "{name}" is being deleted'
    owners = claim.metadata.owner_references or ()
    if ephemeral and not any(o.controller and o.uid == pod.metadata.uid for o in owners):
        return f"PVC {key} was not created for pod {pod.key} (pod is not owner)"
    return ""


class _Search:
    """One pod's claims against every node at once."""

    def __init__(self, snapshot: Snapshot, masks: SelectorMasks) -> None:
        self._snapshot, self._storage = snapshot, snapshot.storage
        self._reach = VolumeReach(snapshot, masks)
        self._view = snapshot.view()
        self._bits = np.zeros(len(snapshot), np.int64)

    def run(
        self, bound_claims: list[PersistentVolumeClaim], waiting: list[PersistentVolumeClaim]
    ) -> Answer:
        self._check_bound(bound_claims)
        matched = self._match(waiting)
        self._bits |= refusals(self._bits != 0, UNRESOLVABLE)
        return Answer(self._bits, matched)

    def _check_bound(self, claims: list[PersistentVolumeClaim]) -> None:
        """The first volume that is missing or out of reach decides, node by node."""
        undecided = np.ones(len(self._view), np.bool_)
        for claim in claims:
            volume = self._storage.volumes.get(claim.spec.volume_name)
            if volume is None:
                self._bits[undecided] |= 8
                return
            refused = undecided & ~self._reach.of_bound(volume)
            self._bits[refused] |= 1
            undecided &= ~refused

    def _match(self, waiting: list[PersistentVolumeClaim]) -> list[tuple[str, Ints]]:
        """Volumes for the claims that wait, the smallest claim first, or room to make them."""
        matched: list[tuple[str, Ints]] = []
        if not waiting:
            return matched
        decided = np.zeros(len(self._view), np.bool_)
        for claim in waiting:
            selected = self._storage.selected_node(claim)
            if selected:
                elsewhere = ~self._view.is_row(self._snapshot.row(selected))
                self._bits[elsewhere] |= 2
                decided |= elsewhere
        to_make: list[tuple[PersistentVolumeClaim, Bools]] = []
        everywhere = np.ones(len(self._view), np.bool_)
        for claim in sorted(waiting, key=_size):
            if self._storage.selected_node(claim):
                to_make.insert(0, (claim, everywhere))
                matched.append((claim.key, np.full(len(self._view), -1, np.int64)))
                continue
            chosen = self._choose(claim, [c for _, c in matched])
            matched.append((claim.key, chosen))
            to_make.append((claim, chosen < 0))
        for claim, missing in to_make:
            storage_class = self._storage.classes[class_of(claim)]
            impossible = missing & ~decided & ~self._can_provision(storage_class)
            self._bits[impossible] |= 2
            decided |= impossible
            full = missing & ~decided & ~self._has_space(claim, storage_class)
            self._bits[full] |= 4
            decided |= full
        return matched

    def _choose(self, claim: PersistentVolumeClaim, taken: list[Ints]) -> Ints:
        """By row, the number of the claim's volume in `storage.available`; -1 where there is none.

        The smallest that is large enough; one that is promised to this very claim goes before, and
        then no other will do."""
        promised = self._promised(claim)
        if promised is not None:
            free = self._reach.of(promised)
            id_ = self._storage.available.id(promised.metadata.name)
            for taken_ids in taken:
                free = free & (taken_ids != id_)
            return np.where(free, id_, -1)
        available = self._storage.available
        best = SmallestVolumes(len(self._view), available.ranks)
        only = available.selected(claim, class_of(claim))
        for group in available.groups(claim, class_of(claim)):
            self._choose_pinned(best, group.pinned, _size(claim), only, taken)
            for key, reach in group.reaches.items():
                free = self._reach.selected(reach.affinity, key)
                self._choose_reached(best, reach, free, _size(claim), only, taken)
        return best.ids

    def _choose_pinned(
        self,
        best: "SmallestVolumes",
        pinned: ByLabel,
        size: int,
        only: frozenset[int] | None,
        taken: list[Ints],
    ) -> None:
        if not len(pinned):
            return
        rows, sizes, ids = pinned.entries()
        fits = sizes >= size
        if only is not None:
            fits &= np.isin(ids, list(only))
        for taken_ids in taken:
            fits &= taken_ids[rows] != ids
        best.offer(rows[fits], sizes[fits], ids[fits])

    def _choose_reached(
        self,
        best: "SmallestVolumes",
        reach: Reach,
        free: Bools,
        size: int,
        only: frozenset[int] | None,
        taken: list[Ints],
    ) -> None:
        """Of volumes that reach the same nodes each claim before takes one at most from a row."""
        rows = np.flatnonzero(free)
        tried = 0
        for offered, _, id_ in reach.sizes[bisect.bisect_left(reach.sizes, (size,)) :]:
            if not len(rows) or tried > len(taken):
                return
            if only is not None and id_ not in only:
                continue
            tried += 1
            open_ = np.ones(len(rows), np.bool_)
            for taken_ids in taken:
                open_ &= taken_ids[rows] != id_
            taking = int(open_.sum())
            best.offer(rows[open_], np.full(taking, offered), np.full(taking, id_))
            rows = rows[~open_]

    def _promised(self, claim: PersistentVolumeClaim) -> PersistentVolume | None:
        """The smallest volume that is for this very claim, and suits it."""
        spec = claim.spec
        suitable = [
            (value((volume.spec.capacity or {}).get("storage", 0)), volume.metadata.name, volume)
            for volume in self._storage.promised_to(claim)
            if volume.spec.volume_mode == spec.volume_mode
            and volume.spec.volume_attributes_class_name == spec.volume_attributes_class_name
        ]
        suitable = [entry for entry in suitable if entry[0] >= _size(claim)]
        return min(suitable, key=lambda entry: entry[:2])[2] if suitable else None

    def _can_provision(self, storage_class: StorageClass) -> Bools:
        """Nodes that the class has a provisioner for."""
        if storage_class.provisioner in NO_PROVISIONER:
            return np.zeros(len(self._view), np.bool_)
        if not storage_class.allowed_topologies:
            return np.ones(len(self._view), np.bool_)
        terms = [
            NodeSelectorTerm(
                [Requirement(r.key, "In", r.values) for r in t.match_label_expressions or ()]
            )
            for t in storage_class.allowed_topologies
        ]
        return matches_selector(NodeSelector(terms), self._view, self._snapshot)

    def _has_space(self, claim: PersistentVolumeClaim, storage_class: StorageClass) -> Bools:
        """Nodes that reach enough of the driver's free space, where it tells (KEP-1472)."""
        everywhere = np.ones(len(self._view), np.bool_)
        driver = self._storage.drivers.get(storage_class.provisioner)
        if driver is None or not driver.spec.storage_capacity or not _has_size(claim):
            return everywhere
        enough = ~everywhere
        of_class = self._storage.capacity(storage_class.metadata.name)
        if of_class is None:
            return enough
        size = _size(claim)
        if len(of_class.pinned):
            rows, limits, _ = of_class.pinned.entries()
            enough[rows[limits >= size]] = True
        for topology, limit in of_class.others.values():
            if limit >= size:
                enough |= self._reach.of_topology(topology)
        return enough


def _has_size(claim: PersistentVolumeClaim) -> bool:
    wanted = claim.spec.resources
    return wanted is not None and "storage" in (wanted.requests or {})


def _size(claim: PersistentVolumeClaim) -> int:
    """Bytes that the claim asks for."""
    wanted = claim.spec.resources
    return value((wanted.requests or {}).get("storage", 0)) if wanted else 0
