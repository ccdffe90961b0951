"""Claims, volumes and what CSI says about nodes, as the API server has them.

What this scheduler decided about volumes and the API server does not show yet is kept beside it:
`reserved` volumes are promised to a claim, `selected` claims have a node to be provisioned for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from cluster.objects.api_objects import (
    CsiDriver,
    CsiNode,
    CsiStorageCapacity,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
    VolumeAttachment,
)
from cluster.objects.core import LabelSelector
from cluster.objects.in_tree_volumes import (
    csi_source,
    driver_of_provisioner,
    migrated_plugins,
)
from cluster.objects.pod_volumes import driver_of_inline
from cluster.objects.quantity import value
from cluster.state.attached_volumes import AttachedVolumes
from cluster.state.available_volumes import AvailableVolumes
from cluster.state.by_label import ByLabel
from cluster.state.topology import Rows

WAITS = "WaitForFirstConsumer"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """What has to happen to a pod's claims before it can be bound to `node`.

    `bindings` are (volume, claim); `provisions` are claims whose volume is yet to be made.
    """

    node: str
    bindings: tuple[tuple[str, str], ...] = ()
    provisions: tuple[str, ...] = ()


@dataclass(slots=True)
class ClassCapacity:
    """The CSIStorageCapacity objects of one class: those for one value of a label, and the
    others."""

    pinned: ByLabel
    others: dict[str, tuple[LabelSelector, int]] = field(default_factory=dict)
    """By object: where, and how large a volume there can be made (bytes)."""


class Storage:
    """Claims by `namespace/name`, the rest by name (capacities by `namespace/name`).

    `rows` are the snapshot's; `users` the pods that mount each claim, by row.
    """

    def __init__(self, rows: Rows, users: Mapping[str, Mapping[int, int]]) -> None:
        self.claims: dict[str, PersistentVolumeClaim] = {}
        self.volumes: dict[str, PersistentVolume] = {}
        self.classes: dict[str, StorageClass] = {}
        self.nodes: dict[str, CsiNode] = {}
        self.drivers: dict[str, CsiDriver] = {}
        self.capacities: dict[str, CsiStorageCapacity] = {}
        self.attachments: dict[str, VolumeAttachment] = {}
        self.reserved: dict[str, str] = {}
        self.selected: dict[str, str] = {}
        self.migrated: dict[str, set[str]] = {}
        """By in-tree plugin, the nodes that attach its volumes by their CSI driver."""
        self.migrated_version = 0
        self.version = 0
        """Grows with every change that the API server tells."""
        self.available = AvailableVolumes(rows)
        self.attached = AttachedVolumes(rows, users, self._driver, self._attached_as)
        self._rows = rows
        self._of_class: dict[str, ClassCapacity] = {}
        self._class_of_capacity: dict[str, str] = {}
        self._promised: dict[str, set[str]] = {}
        self._reserved_for: dict[str, set[str]] = {}
        self._claims_by_volume: dict[str, set[str]] = {}
        self._claims_by_class: dict[str, set[str]] = {}

    # -- what was decided ------------------------------------------------------------------

    def assume(self, plan: VolumePlan) -> None:
        """Keep others from what the plan takes, until `forget`."""
        for volume, claim in plan.bindings:
            self.reserved[volume] = claim
            self._reserved_for.setdefault(claim, set()).add(volume)
            self.available.discard(volume)
        self.selected.update(dict.fromkeys(plan.provisions, plan.node))

    def forget(self, plan: VolumePlan) -> None:
        """The plan is carried out, so that the API server shows it, or given up."""
        for volume, claim in plan.bindings:
            if self.reserved.pop(volume, None) is not None:
                _discard(self._reserved_for, claim, volume)
                self._offer(volume)
        for claim in plan.provisions:
            self.selected.pop(claim, None)

    # -- events ----------------------------------------------------------------------------

    def set_claim(self, key: str, item: PersistentVolumeClaim | None) -> None:
        self.version += 1
        old = self.claims.pop(key, None)
        if old is not None:
            _discard(self._claims_by_volume, old.spec.volume_name, key)
            _discard(self._claims_by_class, class_of(old), key)
        if item is not None:
            self.claims[key] = item
            self._claims_by_volume.setdefault(item.spec.volume_name, set()).add(key)
            self._claims_by_class.setdefault(class_of(item), set()).add(key)
        self.attached.claims_changed((key,))

    def set_volume(self, name: str, item: PersistentVolume | None) -> None:
        self.version += 1
        old = self.volumes.pop(name, None)
        if old is not None and old.spec.claim_ref is not None:
            _discard(self._promised, old.spec.claim_ref.key, name)
        if item is None:
            self.available.forget(name)
        else:
            self.volumes[name] = item
            if item.spec.claim_ref is not None:
                self._promised.setdefault(item.spec.claim_ref.key, set()).add(name)
            self._offer(name)
        self.attached.claims_changed(self._claims_by_volume.get(name, ()))
        self.attached.volume_changed(name)

    def set_class(self, name: str, item: StorageClass | None) -> None:
        self.version += 1
        _put(self.classes, name, item)
        self.attached.claims_changed(self._claims_by_class.get(name, ()))

    def set_node(self, name: str, item: CsiNode | None) -> None:
        self.version += 1
        self._migrate(name, self.nodes.get(name), item)
        _put(self.nodes, name, item)
        self.attached.set_node(name, item)

    def set_driver(self, name: str, item: CsiDriver | None) -> None:
        self.version += 1
        _put(self.drivers, name, item)

    def set_attachment(self, name: str, item: VolumeAttachment | None) -> None:
        self.version += 1
        _put(self.attachments, name, item)
        self.attached.set_attachment(name, item)

    def set_capacity(self, key: str, item: CsiStorageCapacity | None) -> None:
        self.version += 1
        _put(self.capacities, key, item)
        name = self._class_of_capacity.pop(key, None)
        limit = None
        if item is not None:
            limit = item.maximum_volume_size
            limit = item.capacity if limit is None else limit
        if item is None or limit is None or item.node_topology is None:
            self._without_capacity(name, key)
            return
        if name != item.storage_class_name:
            self._without_capacity(name, key)
        name = self._class_of_capacity[key] = item.storage_class_name
        of_class = self._of_class.get(name)
        if of_class is None:
            of_class = self._of_class[name] = ClassCapacity(ByLabel(self._rows))
        label = _one_label(item.node_topology)
        if label is None:
            of_class.pinned.discard(key)
            of_class.others[key] = item.node_topology, value(limit)
        else:
            of_class.others.pop(key, None)
            of_class.pinned.set(key, label, value(limit))

    def _migrate(self, name: str, old: CsiNode | None, new: CsiNode | None) -> None:
        before = set(migrated_plugins(old) if old else ())
        after = set(migrated_plugins(new) if new else ())
        if before == after:
            return
        self.migrated_version += 1
        for plugin in before - after:
            _discard(self.migrated, plugin, name)
        for plugin in after - before:
            self.migrated.setdefault(plugin, set()).add(name)

    def _without_capacity(self, name: str | None, key: str) -> None:
        of_class = self._of_class.get(name) if name is not None else None
        if name is not None and of_class is not None:
            of_class.pinned.discard(key)
            of_class.others.pop(key, None)
            if not len(of_class.pinned) and not of_class.others:
                del self._of_class[name]

    def _offer(self, name: str) -> None:
        """Have claims find the volume where it is free, and only there."""
        volume = self.volumes.get(name)
        free = volume is not None and name not in self.reserved
        if (
            volume is not None
            and free
            and volume.spec.claim_ref is None
            and volume.status.phase == "Available"
            and not volume.metadata.deletion_timestamp
        ):
            self.available.set(volume, class_of_volume(volume))
        else:
            self.available.discard(name)

    # -- asking ----------------------------------------------------------------------------

    def capacity(self, storage_class: str) -> ClassCapacity | None:
        """Where how much of the class can be provisioned, as drivers tell; None with no word."""
        return self._of_class.get(storage_class)

    def promised_to(self, claim: PersistentVolumeClaim) -> list[PersistentVolume]:
        """Volumes that are for this very claim, by their own word or by a decision of ours."""
        reserved = self._reserved_for.get(claim.key, set())
        volumes = []
        for name in sorted(reserved | self._promised.get(claim.key, set())):
            volume = self.volumes.get(name)
            if volume is None or volume.metadata.deletion_timestamp:
                continue
            reference = volume.spec.claim_ref
            if name in self.reserved:
                is_promised = name in reserved
            else:
                is_promised = reference is not None and reference.uid in ("", claim.metadata.uid)
            if is_promised and class_of_volume(volume) == class_of(claim):
                volumes.append(volume)
        return volumes

    def selected_node(self, claim: PersistentVolumeClaim) -> str:
        """The node that the claim's volume is being made for; empty with none."""
        return self.selected.get(claim.key) or claim.annotations.get(SELECTED_NODE, "")

    def waits_for_consumer(self, claim: PersistentVolumeClaim) -> bool:
        """Whether the claim is bound only once a pod that uses it has a node."""
        storage_class = self.classes.get(class_of(claim))
        return storage_class is not None and storage_class.volume_binding_mode == WAITS

    def driver_of(self, claim: PersistentVolumeClaim) -> str:
        """The CSI driver that attaches the claim's volume; empty where that is not known."""
        volume = self.volumes.get(claim.spec.volume_name)
        if volume is not None:
            source = csi_source(volume)
            return source.driver if source else ""
        storage_class = self.classes.get(class_of(claim))
        return driver_of_provisioner(storage_class.provisioner) if storage_class else ""

    def _driver(self, claim: str) -> str:
        inline = driver_of_inline(claim)
        if inline:
            return inline
        pvc = self.claims.get(claim)
        return self.driver_of(pvc) if pvc is not None else ""

    def _attached_as(self, name: str) -> str | None:
        """What an attached volume is counted as: its claim, where it has one."""
        volume = self.volumes.get(name)
        if volume is None or volume.spec.csi is None:
            return None
        reference = volume.spec.claim_ref
        return reference.key if reference else f"/{name}"


T = TypeVar("T")


def _put(store: dict[str, T], key: str, item: T | None) -> None:
    if item is None:
        store.pop(key, None)
    else:
        store[key] = item


def _discard(sets: dict[str, set[str]], key: str, item: str) -> None:
    if key in sets:
        sets[key].discard(item)
        if not sets[key]:
            del sets[key]


def _one_label(topology: LabelSelector) -> tuple[str, str] | None:
    """The (key, value) that is all that the topology asks for; None where it asks for more, or
    less."""
    labels, expressions = topology.match_labels or {}, topology.match_expressions or ()
    pairs = list(labels.items())
    for one in expressions:
        if one.operator != "In" or len(one.values or ()) != 1:
            return None
        pairs += [(one.key, value) for value in one.values or ()]
    return pairs[0] if len(pairs) == 1 else None


def class_of(claim: PersistentVolumeClaim) -> str:
    """The name of the claim's storage class; empty with none."""
    beta = claim.annotations.get(BETA_CLASS)
    return (claim.spec.storage_class_name or "") if beta is None else beta


def class_of_volume(volume: PersistentVolume) -> str:
    """The name of the volume's storage class; empty with none."""
    beta = (volume.metadata.annotations or {}).get(BETA_CLASS)
    return volume.spec.storage_class_name if beta is None else beta


def bound(claim: PersistentVolumeClaim) -> bool:
    """Whether claim and volume are bound to one another, both ways."""
    return bool(claim.spec.volume_name) and BIND_COMPLETED in claim.annotations
