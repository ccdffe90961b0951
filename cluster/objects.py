"""The fields of Kubernetes objects that gsch reads, as msgspec structs.

Everything else in the JSON is skipped while decoding, which is what makes a decode fifty times
cheaper than the official models. Field meaning is the Kubernetes API's own (core/v1, storage/v1).
"""

from typing import Any, Generic, TypeVar

import msgspec

Quantities = dict[str, str | int | float]
Labels = dict[str, str]


class Struct(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Base of every API struct: camelCase in JSON, unset fields left out, immutable."""


class OwnerReference(Struct, frozen=True):
    uid: str = ""
    controller: bool = False


class ObjectMeta(Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    labels: Labels | None = None
    owner_references: list[OwnerReference] | None = None


class Requirement(Struct, frozen=True):
    """A label or field requirement; operator In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: list[str] | None = None


class NodeSelectorTerm(Struct, frozen=True):
    match_expressions: list[Requirement] | None = None
    match_fields: list[Requirement] | None = None


class NodeSelector(Struct, frozen=True):
    node_selector_terms: list[NodeSelectorTerm]


class PreferredSchedulingTerm(Struct, frozen=True):
    weight: int
    preference: NodeSelectorTerm


class NodeAffinity(Struct, frozen=True):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: list[PreferredSchedulingTerm] | None = (
        None
    )


class PodAffinity(Struct, frozen=True):
    """Only whether hard terms exist is read so far."""

    required_during_scheduling_ignored_during_execution: list[Any] | None = None


class Affinity(Struct, frozen=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class Taint(Struct, frozen=True):
    key: str
    effect: str
    value: str = ""


class Toleration(Struct, frozen=True):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class ResourceRequirements(Struct, frozen=True):
    requests: Quantities | None = None


class EnvVar(Struct, frozen=True):
    name: str
    value: str = ""
    value_from: Any = None


class ContainerPort(Struct, frozen=True):
    host_port: int = 0


class Container(Struct, frozen=True):
    name: str
    resources: ResourceRequirements | None = None
    env: list[EnvVar] | None = None
    ports: list[ContainerPort] | None = None
    restart_policy: str = ""


class ClaimSource(Struct, frozen=True):
    claim_name: str = ""


class Volume(Struct, frozen=True):
    name: str
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: Any = None
    gce_persistent_disk: Any = None
    aws_elastic_block_store: Any = None
    iscsi: Any = None
    rbd: Any = None


class TopologySpreadConstraint(Struct, frozen=True):
    when_unsatisfiable: str = ""


class PodSchedulingGate(Struct, frozen=True):
    name: str


class PodSpec(Struct, frozen=True):
    containers: list[Container]
    init_containers: list[Container] | None = None
    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    node_selector: Labels | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] | None = None
    overhead: Quantities | None = None
    resources: ResourceRequirements | None = None
    volumes: list[Volume] | None = None
    topology_spread_constraints: list[TopologySpreadConstraint] | None = None
    scheduling_gates: list[PodSchedulingGate] | None = None
    resource_claims: list[Any] | None = None
    scheduling_group: Any = None


class PodCondition(Struct, frozen=True):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class ContainerStatus(Struct, frozen=True):
    name: str
    resources: ResourceRequirements | None = None
    allocated_resources: Quantities | None = None


class PodStatus(Struct, frozen=True):
    phase: str = ""
    conditions: list[PodCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    resources: ResourceRequirements | None = None
    allocated_resources: Quantities | None = None


class Pod(Struct, frozen=True):
    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def key(self) -> str:
        """`namespace/name`, the pod's name everywhere in gsch."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def terminal(self) -> bool:
        """Whether the pod has finished and so uses nothing any more."""
        return self.status.phase in ("Succeeded", "Failed")


class NodeSpec(Struct, frozen=True):
    unschedulable: bool = False
    taints: list[Taint] | None = None


class NodeStatus(Struct, frozen=True):
    allocatable: Quantities | None = None


class Node(Struct, frozen=True):
    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ClaimSpec(Struct, frozen=True):
    volume_name: str = ""
    storage_class_name: str | None = None
    access_modes: list[str] | None = None


class ClaimStatus(Struct, frozen=True):
    phase: str = ""


class PersistentVolumeClaim(Struct, frozen=True):
    metadata: ObjectMeta
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class VolumeNodeAffinity(Struct, frozen=True):
    required: NodeSelector | None = None


class VolumeSpec(Struct, frozen=True):
    node_affinity: VolumeNodeAffinity | None = None
    csi: Any = None


class PersistentVolume(Struct, frozen=True):
    metadata: ObjectMeta
    spec: VolumeSpec = VolumeSpec()


class StorageClass(Struct, frozen=True):
    metadata: ObjectMeta
    volume_binding_mode: str = "Immediate"


class ConfigMap(Struct, frozen=True):
    metadata: ObjectMeta
    data: dict[str, str] | None = None


T = TypeVar("T")


class ListMeta(Struct, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class ObjectList(Struct, Generic[T], frozen=True):
    metadata: ListMeta
    items: list[T] | None = None


class WatchEvent(Struct, frozen=True):
    """One line of a watch; `object` stays raw until the type says how to read it."""

    type: str
    object: msgspec.Raw


class Bookmark(Struct, frozen=True):
    metadata: ObjectMeta


class Status(Struct, frozen=True):
    """The API server's answer to what it refused (meta/v1 Status)."""

    code: int = 0
    reason: str = ""
    message: str = ""
