"""What kube-scheduler sends and expects (k8s.io/kube-scheduler/extender/v1): PascalCase JSON."""

import msgspec

from cluster.objects.core import Node, Pod


class _Struct(msgspec.Struct, rename="pascal", omit_defaults=True, frozen=True):
    """Base of the extender's objects."""


class NodeList(msgspec.Struct, frozen=True):
    """Whole nodes, of which only the names matter here."""

    items: list[Node] | None = None


class ExtenderArgs(_Struct, frozen=True):
    """A pod, and the nodes in question: whole ones, or names (nodeCacheCapable)."""

    pod: Pod
    nodes: NodeList | None = None
    node_names: list[str] | None = None


class PodArgs(_Struct, frozen=True):
    """The pod of `ExtenderArgs` alone."""

    pod: Pod


class RawArgs(_Struct, frozen=True):
    """`ExtenderArgs` whose nodes are kept as they came, to be handed back unread."""

    nodes: msgspec.Raw = msgspec.Raw(b"null")


class RawItems(msgspec.Struct, frozen=True):
    """The nodes of a list, as they came."""

    items: list[msgspec.Raw]


class FilterResult(_Struct, frozen=True):
    """Nodes that are left, and why others are not.

    `node_names` is written even when it is empty: without it kube-scheduler keeps no node and
    knows no reason.
    """

    node_names: list[str] | None = None
    nodes: dict[str, object] | None = None
    failed_nodes: dict[str, str] | None = None
    failed_and_unresolvable_nodes: dict[str, str] | None = None
    error: str = ""


class HostPriority(_Struct, frozen=True, omit_defaults=False):
    """A node's score, 0..10."""

    host: str
    score: int


class MetaPod(_Struct, frozen=True):
    uid: str = msgspec.field(name="UID")


class MetaVictims(_Struct, frozen=True):
    """Pods to be removed from a node, by UID."""

    pods: list[MetaPod] | None = None
    num_pdb_violations: int = msgspec.field(default=0, name="NumPDBViolations")


class Victims(_Struct, frozen=True):
    """Pods to be removed from a node."""

    pods: list[Pod] | None = None
    num_pdb_violations: int = msgspec.field(default=0, name="NumPDBViolations")


class PreemptionArgs(_Struct, frozen=True):
    """A pod, and kube-scheduler's candidates by node: whole victims, or their UIDs."""

    pod: Pod
    node_name_to_victims: dict[str, Victims] | None = None
    node_name_to_meta_victims: dict[str, MetaVictims] | None = None


class PreemptionResult(_Struct, frozen=True, omit_defaults=False):
    """The candidates that are left."""

    node_name_to_meta_victims: dict[str, MetaVictims]


class BindingArgs(_Struct, frozen=True):
    pod_name: str
    pod_namespace: str
    pod_uid: str = msgspec.field(name="PodUID")
    node: str


class BindingResult(_Struct, frozen=True):
    """Empty when the pod is bound."""

    error: str = ""
