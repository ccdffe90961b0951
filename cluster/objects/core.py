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
    api_version: str = ""
    kind: str = ""
    name: str = ""
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


class AnnotatedMeta(ObjectMeta, frozen=True):
    """For the kinds whose annotations matter; those of pods and nodes can be large and do not."""

    annotations: Labels | None = None


class Requirement(Struct, frozen=True):
    """A label or field requirement; operator In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: list[str] | None = None


class LabelSelector(Struct, frozen=True):
    """Requirements that all hold; without any it selects everything, and None selects nothing."""

    match_labels: Labels | None = None
    match_expressions: list[Requirement] | None = None


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


class PodAffinityTerm(Struct, frozen=True):
    topology_key: str = ""
    label_selector: LabelSelector | None = None
    namespaces: list[str] | None = None
    namespace_selector: LabelSelector | None = None
    match_label_keys: list[str] | None = None
    mismatch_label_keys: list[str] | None = None


class WeightedPodAffinityTerm(Struct, frozen=True):
    weight: int
    pod_affinity_term: PodAffinityTerm


class PodAffinity(Struct, frozen=True):
    """Affinity or anti-affinity to other pods; both have these fields."""

    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] | None = None
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] | None = (
        None
    )


class Affinity(Struct, frozen=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class Taint(Struct, frozen=True):
    key: str
    effect: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"


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
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = "TCP"


class RestartRule(Struct, frozen=True):
    action: str = ""


class Container(Struct, frozen=True):
    name: str
    image: str = ""
    resources: ResourceRequirements | None = None
    env: list[EnvVar] | None = None
    ports: list[ContainerPort] | None = None
    restart_policy: str = ""
    restart_policy_rules: list[RestartRule] | None = None


class ClaimSource(Struct, frozen=True):
    claim_name: str = ""


class Disk(Struct, frozen=True):
    """An in-tree volume: the fields that tell two disks apart."""

    pd_name: str = ""
    volume_id: str = msgspec.field(default="", name="volumeID")
    disk_uri: str = msgspec.field(default="", name="diskURI")
    kind: str = ""
    iqn: str = ""
    monitors: list[str] | None = None
    pool: str = ""
    image: str = ""
    read_only: bool = False


class ImageSource(Struct, frozen=True):
    reference: str = ""


class Volume(Struct, frozen=True):
    name: str
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: Any = None
    gce_persistent_disk: Disk | None = None
    aws_elastic_block_store: Disk | None = None
    azure_disk: Disk | None = None
    cinder: Disk | None = None
    portworx_volume: Disk | None = None
    iscsi: Disk | None = None
    rbd: Disk | None = None
    csi: Any = None
    image: ImageSource | None = None


class TopologySpreadConstraint(Struct, frozen=True):
    max_skew: int = 1
    topology_key: str = ""
    when_unsatisfiable: str = ""
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    match_label_keys: list[str] | None = None
    node_affinity_policy: str = "Honor"
    node_taints_policy: str = "Ignore"


class PodSchedulingGate(Struct, frozen=True):
    name: str


class SchedulingGroup(Struct, frozen=True):
    pod_group_name: str = ""


class PodSpec(Struct, frozen=True):
    containers: list[Container]
    init_containers: list[Container] | None = None
    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    preemption_policy: str = ""
    host_network: bool = False
    host_users: bool = True
    node_selector: Labels | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] | None = None
    overhead: Quantities | None = None
    resources: ResourceRequirements | None = None
    volumes: list[Volume] | None = None
    topology_spread_constraints: list[TopologySpreadConstraint] | None = None
    scheduling_gates: list[PodSchedulingGate] | None = None
    resource_claims: list[Any] | None = None
    scheduling_group: SchedulingGroup | None = None


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
    start_time: str = ""
    nominated_node_name: str = ""
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
    def group(self) -> str:
        """`namespace/name` of its PodGroup; empty with none."""
        group = self.spec.scheduling_group
        return f"{self.metadata.namespace}/{group.pod_group_name}" if group is not None else ""

    @property
    def terminal(self) -> bool:
        """Whether the pod has finished and so uses nothing any more."""
        return self.status.phase in ("Succeeded", "Failed")


class NodeSpec(Struct, frozen=True):
    unschedulable: bool = False
    taints: list[Taint] | None = None


class ContainerImage(Struct, frozen=True):
    names: list[str] | None = None
    size_bytes: int = 0


class NodeStatus(Struct, frozen=True):
    allocatable: Quantities | None = None
    images: list[ContainerImage] | None = None
    declared_features: list[str] | None = None


class Node(Struct, frozen=True):
    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ConfigMap(Struct, frozen=True):
    metadata: ObjectMeta
    data: dict[str, str] | None = None


class EndpointConditions(Struct, frozen=True):
    ready: bool | None = None


class Endpoint(Struct, frozen=True):
    addresses: list[str]
    node_name: str = ""
    conditions: EndpointConditions = EndpointConditions()


class EndpointSlice(Struct, frozen=True):
    """Where the pods of a Service listen."""

    metadata: ObjectMeta
    endpoints: list[Endpoint] | None = None


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
