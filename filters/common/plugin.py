"""The extension points between the scheduling cycle and its plugins.

Names and meaning are kube-scheduler's (KEP-624), with one difference: a call handles all nodes at
once. `filter` and `score` get a `View`, whose arrays have one element a node, and return an array
of the same length.

The answers of a LOCAL plugin depend on what it signs of the pod and on a node's own row, so they
are kept for all pods that sign alike and asked again for just the rows that changed. The others
(those that look at other pods, at volumes, …) are asked anew for every pod; their `score` gets a
view of exactly the feasible nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cluster.objects.core import Pod
from cluster.state.host_ports import HostPort
from cluster.state.pod_index import PodQuery
from cluster.state.pod_terms import Term, terms_of
from cluster.state.records import PodAmounts, amounts_of
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from filters.common.handle import Handle, WatchedKind
from filters.common.member import PipelineMember

MAX_SCORE: Final = 100

UNRESOLVABLE: Final = 1 << 62
"""Flag in a filter's answer: removing pods from the node would not help."""


class Event(Flag):
    """Changes of a cluster that may make a refused pod schedulable."""

    NONE = 0
    NODE_ADD = auto()
    NODE_GONE = auto()
    NODE_ALLOCATABLE = auto()
    NODE_LABEL = auto()
    NODE_TAINT = auto()
    POD_GONE = auto()
    POD_PLACED = auto()
    CLAIM = auto()
    VOLUME = auto()
    STORAGE_CLASS = auto()
    POD_LABEL = auto()
    NODE_FEATURE = auto()
    CSI = auto()
    NAMESPACE = auto()
    LATENCY = auto()
    PLUGIN = auto()
    """A change of a kind that some plugin watches."""


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod with what its plugins would otherwise work out again and again.

    The rest comes from the pod's gschConfig, under the low-latency policy alone: `near_node` or
    `near_pod` (namespace/name), `max_latency_ms` as a hard limit, `weights` of nearness and packing
    (0..100 each), and the `member` that says what else it is to be placed with.
    """

    pod: Pod
    needs: PodAmounts
    terms: tuple[Term, ...] = ()
    policy: str = ""
    near_node: str | None = None
    near_pod: str | None = None
    max_latency_ms: float | None = None
    weights: tuple[int, int] | None = None
    member: PipelineMember | None = None

    @classmethod
    def of(cls, pod: Pod, **policy: Any) -> "PodInfo":
        """Raises QuantityError for a request that is no quantity."""
        return cls(pod, amounts_of(pod), terms_of(pod), **policy)


State = TypeVar("State", covariant=True)


@dataclass(frozen=True, slots=True)
class Prepared(Generic[State]):
    """What `pre_filter` worked out for the whole pod, in a form of the plugin's own (`state`).

    `reasons` are the texts that bits 0, 1, … of `filter`'s answer stand for. `only`, where given,
    names the nodes that can come into question at all.
    """

    state: State
    reasons: tuple[str, ...] = ()
    only: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class NamedNode:
    """A pod that may go to one node only, and the same pod without what says so."""

    node: str
    without: PodInfo


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change that would take a refusal away; `lack` says how large a change, 1 at most.

    For an amount of a resource, `lack` is its share of what the node offers.
    """

    text: str
    lack: float = 1.0


@dataclass(frozen=True, slots=True)
class Rejected:
    """`pre_filter` found that no node can do, and why.

    `resolvable` where removing other pods could help.
    """

    reason: str
    resolvable: bool = False


class Removed(Protocol):
    """Pods that are thought away from `rows`, for each row by itself: while one row is judged, the
    pods of all others are there. Every answer has one element a row."""

    rows: NDArray[np.intp]

    def requested(self, resource: str) -> Ints:
        """What they ask for, in the units of `View.requested`."""

    def matching(self, query: PodQuery) -> Ints:
        """How many of them the query means."""

    def with_term(self, term: Term) -> Ints:
        """How many of them have this affinity term."""

    def with_port(self, port: HostPort) -> Ints:
        """How many of their host ports conflict with this one."""


@dataclass(frozen=True, slots=True)
class PostFilterResult:
    """`nominated` is the node that the pod will fit on once what the plugin began is done;
    `message` is added to what the pod's owner reads."""

    nominated: str = ""
    message: str = ""


class Refusal(Exception):
    """Raised by `reserve`, `permit` or `pre_bind`: the pod is not to run on this node now, and
    why."""


class Unsignable(Exception):
    """The pod's fate in this plugin is its own: it shares no result with other pods."""


class Plugin:
    """Base of all plugins.

    `events` may make a pod that this plugin refused schedulable. RELATIVE scores mean something
    only beside those of the other feasible nodes, so they pass through `normalize`. A plugin that
    reads nothing of the pods on nodes says so by LOOKS_AT_PODS; one that reads of them only what
    the view has (sums of requests), by BY_COLUMNS: what it will say once more pods of a class are
    placed is then worked out ahead of time. WATCHES names further kinds that it reads by
    `handle.objects`; a change of one of them is Event.PLUGIN."""

    NAME: ClassVar[str]
    events: ClassVar[Event] = Event.NONE
    LOCAL: ClassVar[bool] = True
    LOOKS_AT_PODS: ClassVar[bool] = True
    BY_COLUMNS: ClassVar[bool] = False
    RELATIVE: ClassVar[bool] = False
    WATCHES: ClassVar[tuple[WatchedKind, ...]] = ()
    handle: Handle = Handle()

    def start(self, handle: Handle) -> None:
        """Called once, before anything else, with what the scheduler gives."""
        self.handle = handle

    def watched(self, old: Any, new: Any) -> None:
        """An object of a kind of WATCHES came (`old` None), changed, or went (`new` None)."""

    def normalize(self, raw: Ints) -> Ints:
        return raw

    def filter_without(self, prepared: Prepared[Any], view: View, removed: Removed) -> Ints | None:
        """`filter` of `removed.rows` as if the removed pods were gone (upstream's RemovePod).

        None where the plugin cannot tell from counts: pods are then really taken out of the
        snapshot, node by node, which is slow. `view` shows the rows as they are.
        """
        plugin = cast(FilterPlugin, self)
        return None if self.LOOKS_AT_PODS else plugin.filter(prepared, view)

    def remedies(self, prepared: Prepared[Any], snapshot: Snapshot, row: int) -> list[Remedy]:
        """What would have to change for the plugin to admit this row; empty where it cannot say.

        Only for people who ask why: never called in a scheduling cycle.
        """
        return []

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "Plugin":
        """Raises ValueError, naming the field, for arguments that do not hold."""
        if args:
            raise ValueError(f"{cls.NAME} takes no arguments, got {', '.join(sorted(args))}")
        return cls()

    def named_node(self, info: PodInfo) -> NamedNode | None:
        """The one node that the pod asks for, where this plugin lets it go nowhere else.

        Pods that differ in it alone then share all results but this plugin's. None, as for a plugin
        that does not say: there is no such node.
        """
        return None

    def sign(self, info: PodInfo) -> Any:
        """All that this plugin reads of the pod, as a value that msgspec can encode.

        Pods that sign alike are treated alike, and results are kept for them together (KEP-5598).
        Only LOCAL plugins are asked. Raises Unsignable where the outcome depends on more than the
        pod and the nodes' rows, as is assumed of a plugin that does not say.
        """
        raise Unsignable


class FilterPlugin(Protocol):
    NAME: ClassVar[str]
    events: ClassVar[Event]
    LOCAL: ClassVar[bool]
    LOOKS_AT_PODS: ClassVar[bool]
    BY_COLUMNS: ClassVar[bool]

    def named_node(self, info: PodInfo) -> NamedNode | None: ...

    def sign(self, info: PodInfo) -> Any: ...

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Any] | Rejected | None:
        """None where the plugin has nothing to say about this pod."""

    def filter(self, prepared: Prepared[Any], view: View) -> Ints:
        """0 where the pod fits, else bits that index `prepared.reasons`, and UNRESOLVABLE."""

    def filter_without(
        self, prepared: Prepared[Any], view: View, removed: Removed
    ) -> Ints | None: ...

    def remedies(self, prepared: Prepared[Any], snapshot: Snapshot, row: int) -> list[Remedy]: ...


class ScorePlugin(Protocol):
    NAME: ClassVar[str]
    LOCAL: ClassVar[bool]
    LOOKS_AT_PODS: ClassVar[bool]
    BY_COLUMNS: ClassVar[bool]
    RELATIVE: ClassVar[bool]

    def sign(self, info: PodInfo) -> Any: ...

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> Any | None:
        """The state for `score`; None where the plugin does not tell nodes apart for this pod."""

    def score(self, state: Any, view: View) -> Ints:
        """Raw scores, one a node; 0..100 already, unless the plugin is RELATIVE."""

    def normalize(self, raw: Ints) -> Ints:
        """Raw scores of the feasible nodes, brought to 0..100."""


class PostFilterPlugin(Protocol):
    """Asked, before preemption, about a pod that no node fits."""

    NAME: ClassVar[str]

    def post_filter(self, info: PodInfo, snapshot: Snapshot) -> PostFilterResult | None:
        """None where the plugin can do nothing for the pod."""


class ReservePlugin(Protocol):
    """Holds something for a pod from the decision until it is bound, or given up."""

    NAME: ClassVar[str]
    events: ClassVar[Event]

    def reserve(
        self, info: PodInfo, prepared: Prepared[Any] | None, snapshot: Snapshot, row: int
    ) -> Any | None:
        """What is held, for the calls that follow; None for nothing. Raises Refusal.

        `prepared` is what `pre_filter` returned for the pod, which is counted on the row already.
        """

    def unreserve(self, info: PodInfo, held: Any, snapshot: Snapshot) -> None:
        """Give it back. Must not fail."""


class PermitPlugin(Protocol):
    """Has the last word before the binding cycle, and may ask for time."""

    NAME: ClassVar[str]

    def permit(self, info: PodInfo, held: Any, snapshot: Snapshot, row: int) -> float:
        """0 to allow the pod, or the seconds that it waits at most for `handle.allow`. Raises
        Refusal."""


class PreBindPlugin(Protocol):
    """Does what has to be done before the bind: the one point where plugins may wait for I/O."""

    NAME: ClassVar[str]

    async def pre_bind(self, info: PodInfo, held: Any, node: str) -> None:
        """Raises Refusal where the pod cannot be bound there."""


class PreferPlugin(Protocol):
    """Not upstream's: scores of 0..100 cannot order round-trip times that lie close together."""

    NAME: ClassVar[str]

    def prefer(self, info: PodInfo, snapshot: Snapshot, feasible: Bools) -> Bools | None:
        """The feasible nodes that go before all others; None for no preference."""


def default_normalize(raw: Ints, reverse: bool = False) -> Ints:
    """Upstream's DefaultNormalizeScore: scale to 0..100 by the greatest, optionally reversed."""
    highest = int(raw.max(initial=0))
    if highest == 0:
        return np.full_like(raw, MAX_SCORE if reverse else 0)
    scaled = raw * MAX_SCORE // highest
    return MAX_SCORE - scaled if reverse else scaled


def refusals(refused: Bools, bits: int) -> Ints:
    """`bits` where refused, 0 elsewhere."""
    return np.where(refused, np.int64(bits), np.int64(0))
