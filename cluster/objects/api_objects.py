"""The kinds that nodes and pods lean on, as msgspec structs: storage, owners, budgets, groups."""

from typing import Any

from cluster.objects.core import (
    AnnotatedMeta,
    Disk,
    Labels,
    LabelSelector,
    NodeSelector,
    ObjectMeta,
    Quantities,
    ResourceRequirements,
    Struct,
)


class ClaimSpec(Struct, frozen=True):
    volume_name: str = ""
    storage_class_name: str | None = None
    access_modes: list[str] | None = None
    resources: ResourceRequirements | None = None
    volume_mode: str = "Filesystem"
    selector: LabelSelector | None = None
    volume_attributes_class_name: str = ""


class ClaimStatus(Struct, frozen=True):
    phase: str = ""


class PersistentVolumeClaim(Struct, frozen=True):
    metadata: AnnotatedMeta
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def annotations(self) -> Labels:
        return self.metadata.annotations or {}


class VolumeNodeAffinity(Struct, frozen=True):
    required: NodeSelector | None = None


class ClaimReference(Struct, frozen=True):
    """The claim that a volume is for."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class CsiSource(Struct, frozen=True):
    driver: str = ""
    volume_handle: str = ""


class VolumeSpec(Struct, frozen=True):
    node_affinity: VolumeNodeAffinity | None = None
    capacity: Quantities | None = None
    access_modes: list[str] | None = None
    claim_ref: ClaimReference | None = None
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    volume_attributes_class_name: str = ""
    csi: CsiSource | None = None
    gce_persistent_disk: Disk | None = None
    aws_elastic_block_store: Disk | None = None
    azure_disk: Disk | None = None
    cinder: Disk | None = None
    portworx_volume: Disk | None = None


class VolumeStatus(Struct, frozen=True):
    phase: str = ""


class PersistentVolume(Struct, frozen=True):
    metadata: AnnotatedMeta
    spec: VolumeSpec = VolumeSpec()
    status: VolumeStatus = VolumeStatus()


class TopologyRequirement(Struct, frozen=True):
    key: str
    values: list[str] | None = None


class TopologySelectorTerm(Struct, frozen=True):
    match_label_expressions: list[TopologyRequirement] | None = None


class StorageClass(Struct, frozen=True):
    metadata: ObjectMeta
    provisioner: str = ""
    volume_binding_mode: str = "Immediate"
    allowed_topologies: list[TopologySelectorTerm] | None = None


class VolumeNodeResources(Struct, frozen=True):
    count: int | None = None


class CsiNodeDriver(Struct, frozen=True):
    name: str
    allocatable: VolumeNodeResources | None = None


class CsiNodeSpec(Struct, frozen=True):
    drivers: list[CsiNodeDriver] | None = None


class CsiNode(Struct, frozen=True):
    """Of a node by the same name: its CSI drivers and how many volumes each can attach."""

    metadata: AnnotatedMeta
    spec: CsiNodeSpec = CsiNodeSpec()


class CsiDriverSpec(Struct, frozen=True):
    storage_capacity: bool = False


class CsiDriver(Struct, frozen=True):
    metadata: ObjectMeta
    spec: CsiDriverSpec = CsiDriverSpec()


class CsiStorageCapacity(Struct, frozen=True):
    metadata: ObjectMeta
    storage_class_name: str = ""
    node_topology: LabelSelector | None = None
    capacity: str | int | None = None
    maximum_volume_size: str | int | None = None


class AttachmentSource(Struct, frozen=True):
    persistent_volume_name: str = ""


class AttachmentSpec(Struct, frozen=True):
    attacher: str = ""
    node_name: str = ""
    source: AttachmentSource = AttachmentSource()


class VolumeAttachment(Struct, frozen=True):
    metadata: ObjectMeta
    spec: AttachmentSpec = AttachmentSpec()


class ServiceSpec(Struct, frozen=True):
    selector: Labels | None = None


class Service(Struct, frozen=True):
    """Also a ReplicationController, whose selector is a plain map too."""

    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()


class ControllerSpec(Struct, frozen=True):
    selector: LabelSelector | None = None


class Controller(Struct, frozen=True):
    """A ReplicaSet or StatefulSet."""

    metadata: ObjectMeta
    spec: ControllerSpec = ControllerSpec()


class Namespace(Struct, frozen=True):
    metadata: ObjectMeta


class GangPolicy(Struct, frozen=True):
    min_count: int = 0


class SchedulingPolicy(Struct, frozen=True):
    gang: GangPolicy | None = None


class PodGroupSpec(Struct, frozen=True):
    scheduling_policy: SchedulingPolicy = SchedulingPolicy()
    scheduling_constraints: Any = None
    resource_claims: Any = None
    disruption_mode: str = ""
    priority_class_name: str = ""

    @property
    def not_honoured(self) -> list[str]:
        """Fields that ask for something which nothing here does."""
        asked = {
            "schedulingConstraints": bool(self.scheduling_constraints),
            "resourceClaims": bool(self.resource_claims),
            "disruptionMode": self.disruption_mode not in ("", "Pod"),
            "priorityClassName": bool(self.priority_class_name),
        }
        return [name for name, given in asked.items() if given]


class PodGroup(Struct, frozen=True):
    """Pods that belong together (scheduling.k8s.io/v1alpha2, KEP-4671)."""

    metadata: ObjectMeta
    spec: PodGroupSpec = PodGroupSpec()


class DisruptionBudgetSpec(Struct, frozen=True):
    selector: LabelSelector | None = None


class DisruptionBudgetStatus(Struct, frozen=True):
    disruptions_allowed: int = 0
    disrupted_pods: dict[str, str] | None = None


class PodDisruptionBudget(Struct, frozen=True):
    metadata: ObjectMeta
    spec: DisruptionBudgetSpec = DisruptionBudgetSpec()
    status: DisruptionBudgetStatus = DisruptionBudgetStatus()
