"""VolumeBinding: a pod's claims are bound where it goes, or can be.

Source: upstream's volumebinding plugin. A claim of a class that waits for its first consumer is
matched with the smallest volume that the node can reach, or provisioned for the node; `reserve`
says what has to be written for that before the pod is bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cluster.label_selectors import selector_of
from cluster.objects import LabelSelector, NodeSelector, NodeSelectorTerm, Pod, Requirement
from cluster.pod_index import claims_of
from cluster.quantity import value
from cluster.related import PersistentVolume, PersistentVolumeClaim, StorageClass
from cluster.snapshot import Bools, Ints, Snapshot, View
from cluster.storage import VolumePlan, bound, class_of, class_of_volume
from filters.framework import (
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Rejected,
    refusals,
)
from filters.selectors import matches_selector

CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NOTHING_TO_BIND = "node(s) didn't find available persistent volumes to bind"
NO_SPACE = "node(s) did not have enough free storage"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
NO_PROVISIONER = ("", "kubernetes.io/no-provisioner")


@dataclass(frozen=True, slots=True)
class Answer:
    """For every row: the refusal's bits, and for each claim that waits the volume it would get.

    `matched` pairs a claim with the index in `volumes` by row, -1 where one is to be provisioned.
    """

    bits: Ints
    volumes: list[str]
    matched: list[tuple[str, Ints]]


class VolumeBinding(Plugin):
    NAME = "VolumeBinding"
    events = (
        Event.NODE_ADD | Event.NODE_LABEL | Event.CLAIM | Event.VOLUME | Event.STORAGE_CLASS
        | Event.CSI
    )  # fmt: skip
    LOCAL = False
    LOOKS_AT_PODS = False

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | Rejected | None:
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
        answer = _Search(snapshot).run([c for c in claims if bound(c)], waiting)
        return Prepared(answer, (CONFLICT, NOTHING_TO_BIND, NO_SPACE, NO_VOLUME))

    def filter(self, prepared: Prepared, view: View) -> Ints:
        answer: Answer = prepared.state
        bits: Ints = answer.bits[view.rows]
        return bits

    def reserve(self, prepared: Prepared, snapshot: Snapshot, row: int) -> VolumePlan | None:
        """What to write before the pod can run on the row's node; None where nothing is."""
        answer: Answer = prepared.state
        bindings, provisions = [], []
        for claim, chosen in answer.matched:
            if chosen[row] >= 0:
                bindings.append((answer.volumes[chosen[row]], claim))
            else:
                provisions.append(claim)
        if not bindings and not provisions:
            return None
        return VolumePlan(snapshot.names[row], tuple(bindings), tuple(provisions))


def _problem(pod: Pod, key: str, claim: PersistentVolumeClaim | None, ephemeral: bool) -> str:
    """Why the claim keeps the pod from every node; empty where it does not."""
    name = key.partition("/")[2]
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

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._storage = snapshot, snapshot.storage
        self._view = snapshot.view()
        self._bits = np.zeros(len(snapshot), np.int64)
        self._volumes: list[str] = []
        self._indices: dict[str, int] = {}

    def run(
        self, bound_claims: list[PersistentVolumeClaim], waiting: list[PersistentVolumeClaim]
    ) -> Answer:
        self._check_bound(bound_claims)
        matched = self._match(waiting)
        self._bits |= refusals(self._bits != 0, UNRESOLVABLE)
        return Answer(self._bits, self._volumes, matched)

    def _check_bound(self, claims: list[PersistentVolumeClaim]) -> None:
        """The first volume that is missing or out of reach decides, node by node."""
        undecided = np.ones(len(self._view), np.bool_)
        for claim in claims:
            volume = self._storage.volumes.get(claim.spec.volume_name)
            if volume is None:
                self._bits[undecided] |= 8
                return
            refused = undecided & ~self._reach(volume)
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
        """By row, the index of the claim's volume in `_volumes`; -1 where there is none."""
        chosen = np.full(len(self._view), -1, np.int64)
        candidates = sorted(self._candidates(claim), key=lambda found: (not found[1], found[2]))
        for volume, promised, _ in candidates:
            index = self._index(volume.metadata.name)
            free = self._reach(volume)
            for other in taken:
                free = free & (other != index)
            chosen[free & (chosen < 0)] = index
            if promised:
                # Bound to this claim from its side: no other volume will do.
                break
        return chosen

    def _candidates(
        self, claim: PersistentVolumeClaim
    ) -> Iterator[tuple[PersistentVolume, bool, int]]:
        """(volume, whether it is promised to this very claim, its size) that suit the claim."""
        storage_class, size = class_of(claim), _size(claim)
        for volume in self._storage.volumes.values():
            spec = volume.spec
            if class_of_volume(volume) != storage_class or volume.metadata.deletion_timestamp:
                continue
            promised = self._promised_to(volume)
            mine = promised is not None and _is(promised, claim)
            if promised is not None and not mine:
                continue
            offered = value((spec.capacity or {}).get("storage", 0))
            if offered < size or spec.volume_mode != claim.spec.volume_mode:
                continue
            if spec.volume_attributes_class_name != claim.spec.volume_attributes_class_name:
                continue
            if mine or _suits(volume, claim):
                yield volume, mine, offered

    def _promised_to(self, volume: PersistentVolume) -> tuple[str, str] | None:
        """(`namespace/name`, uid) of the claim that the volume is for."""
        name = volume.metadata.name
        if name in self._storage.reserved:
            return self._storage.reserved[name], ""
        reference = volume.spec.claim_ref
        return (f"{reference.namespace}/{reference.name}", reference.uid) if reference else None

    def _index(self, volume: str) -> int:
        known = self._indices.get(volume)
        if known is None:
            known = self._indices[volume] = len(self._volumes)
            self._volumes.append(volume)
        return known

    def _reach(self, volume: PersistentVolume) -> Bools:
        affinity = volume.spec.node_affinity
        if affinity is None or affinity.required is None:
            return np.ones(len(self._view), np.bool_)
        return matches_selector(affinity.required, self._view, self._snapshot)

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
        for capacity in self._storage.capacities.values():
            limit = capacity.maximum_volume_size
            limit = capacity.capacity if limit is None else limit
            topology = capacity.node_topology
            if (
                capacity.storage_class_name == storage_class.metadata.name
                and limit is not None
                and value(limit) >= _size(claim)
                and topology is not None
            ):
                enough |= _labelled(topology, self._view, self._snapshot)
        return enough


def _labelled(selector: LabelSelector, view: View, snapshot: Snapshot) -> Bools:
    """Nodes whose labels a LabelSelector matches."""
    requirements = [
        Requirement(key, operator, sorted(values))
        for key, operator, values in selector_of(selector).requirements
    ]
    if not requirements:
        return np.ones(len(view), np.bool_)
    return matches_selector(NodeSelector([NodeSelectorTerm(requirements)]), view, snapshot)


def _is(promised: tuple[str, str], claim: PersistentVolumeClaim) -> bool:
    key, uid = promised
    return key == claim.key and uid in ("", claim.metadata.uid)


def _suits(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    if volume.status.phase != "Available":
        return False
    if not set(claim.spec.access_modes or ()) <= set(volume.spec.access_modes or ()):
        return False
    selector = claim.spec.selector
    return selector is None or selector_of(selector).matches(volume.metadata.labels or {})


def _has_size(claim: PersistentVolumeClaim) -> bool:
    wanted = claim.spec.resources
    return wanted is not None and "storage" in (wanted.requests or {})


def _size(claim: PersistentVolumeClaim) -> int:
    """Bytes that the claim asks for."""
    wanted = claim.spec.resources
    return value((wanted.requests or {}).get("storage", 0)) if wanted else 0
