"""Claims, volumes and what CSI says about nodes, as the API server has them.

What this scheduler decided about volumes and the API server does not show yet is kept beside it:
`reserved` volumes are promised to a claim, `selected` claims have a node to be provisioned for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster.related import (
    CsiDriver,
    CsiNode,
    CsiStorageCapacity,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
    VolumeAttachment,
)

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
class Storage:
    """Claims by `namespace/name`, the rest by name (capacities by `namespace/name`)."""

    claims: dict[str, PersistentVolumeClaim] = field(default_factory=dict)
    volumes: dict[str, PersistentVolume] = field(default_factory=dict)
    classes: dict[str, StorageClass] = field(default_factory=dict)
    nodes: dict[str, CsiNode] = field(default_factory=dict)
    drivers: dict[str, CsiDriver] = field(default_factory=dict)
    capacities: dict[str, CsiStorageCapacity] = field(default_factory=dict)
    attachments: dict[str, VolumeAttachment] = field(default_factory=dict)
    reserved: dict[str, str] = field(default_factory=dict)
    selected: dict[str, str] = field(default_factory=dict)
    version: int = 0
    """Grows with every change that the API server tells."""

    def assume(self, plan: VolumePlan) -> None:
        """Keep others from what the plan takes, until `forget`."""
        self.reserved.update(plan.bindings)
        self.selected.update(dict.fromkeys(plan.provisions, plan.node))

    def forget(self, plan: VolumePlan) -> None:
        """The plan is carried out, so that the API server shows it, or given up."""
        for volume, _ in plan.bindings:
            self.reserved.pop(volume, None)
        for claim in plan.provisions:
            self.selected.pop(claim, None)

    def selected_node(self, claim: PersistentVolumeClaim) -> str:
        """The node that the claim's volume is being made for; empty with none."""
        return self.selected.get(claim.key) or claim.annotations.get(SELECTED_NODE, "")

    def waits_for_consumer(self, claim: PersistentVolumeClaim) -> bool:
        """Whether the claim is bound only once a pod that uses it has a node."""
        known = self.classes.get(class_of(claim))
        return known is not None and known.volume_binding_mode == WAITS

    def driver_of(self, claim: PersistentVolumeClaim) -> str:
        """The CSI driver that attaches the claim's volume; empty where that is not known."""
        volume = self.volumes.get(claim.spec.volume_name)
        if volume is not None:
            return volume.spec.csi.driver if volume.spec.csi else ""
        known = self.classes.get(class_of(claim))
        return known.provisioner if known else ""

    def limits(self, driver: str) -> Iterator[tuple[str, int]]:
        """(node, how many of the driver's volumes it can attach) where there is a limit."""
        for name, node in self.nodes.items():
            for known in node.spec.drivers or ():
                limit = known.allocatable
                if known.name == driver and limit is not None and limit.count is not None:
                    yield name, limit.count


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
