"""PodTopologySpread: as many matching pods in one zone, host, … as in another (KEP-895).

Source: upstream's podtopologyspread plugin, with minDomains (KEP-3022), node inclusion policies
(KEP-3094), matchLabelKeys (KEP-3243) and default constraints (KEP-1258).
"""

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from cluster.objects.core import TopologySpreadConstraint
from cluster.objects.label_selectors import NOTHING, Selector, same_values, selector_of
from cluster.state.pod_index import PodQuery
from cluster.state.snapshot import Bools, Ids, Ints, Snapshot, View
from filters.common.plugin import (
    MAX_SCORE,
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Remedy,
    Removed,
    refusals,
)
from filters.common.topology import HOSTNAME, KeptSums, sums, values
from filters.node_affinity import matches_required
from filters.taint_toleration import untolerated

SKEWED = "node(s) didn't match pod topology spread constraints"
NO_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
HARD, SOFT = "DoNotSchedule", "ScheduleAnyway"
IGNORED = -1
MAX_NODES_KEPT = 64

_encode = msgspec.json.Encoder(order="deterministic").encode

SYSTEM_DEFAULTS = (
    TopologySpreadConstraint(3, HOSTNAME, SOFT),
    TopologySpreadConstraint(5, "topology.kubernetes.io/zone", SOFT),
)


class PodTopologySpreadArgs(
    msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"
):
    """Constraints for pods that bring none (upstream)."""

    default_constraints: tuple[TopologySpreadConstraint, ...] = ()
    """With `defaultingType: List`, the constraints."""
    defaulting_type: str = "System"
    """System takes kube-scheduler's own constraints, List those of `defaultConstraints`."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint with the selector that its pods meet."""

    max_skew: int
    key: str
    selector: Selector
    min_domains: int
    honour_affinity: bool
    honour_taints: bool


@dataclass(frozen=True, slots=True)
class Hard:
    """A required constraint as it stands: matching pods by value of the label, over the nodes
    `among`, and which values are `domains`."""

    constraint: Constraint
    own: int
    among: Bools
    matching: Ints
    domains: Ints

    def least(self) -> int:
        """The global minimum (KEP-3022 for `min_domains`)."""
        if not len(self.domains) or len(self.domains) < self.constraint.min_domains:
            return 0
        return int(self.matching[self.domains].min())

    def skewed(self) -> Bools:
        """By value, whether one more pod there is too many."""
        skewed: Bools = self.matching + self.own - self.least() > self.constraint.max_skew
        return skewed

    def codes(self) -> Ints:
        """By value, the answer of `filter` for nodes with it; of 0, for nodes without the label."""
        codes = refusals(self.skewed(), 1)
        codes[0] = 2 | UNRESOLVABLE
        return codes

    def skewed_without(self, column: Ids, removed_counts: Ints) -> Bools:
        """By row, whether its domain is too full without `gone` pods of that row."""
        left = self.matching[column] - removed_counts
        least = np.zeros(len(column), np.int64)
        if len(self.domains) and len(self.domains) >= self.constraint.min_domains:
            counts = self.matching[self.domains]
            lowest = np.sort(counts)[:2]
            # The minimum over the other domains: the second lowest where this one is the lowest.
            alone = self.matching[column] == lowest[0]
            if np.count_nonzero(counts == lowest[0]) > 1:
                alone = np.zeros(len(column), np.bool_)
            others = np.where(
                alone, lowest[-1] if len(lowest) > 1 else np.iinfo(np.int64).max, lowest[0]
            )
            in_domains = np.isin(column, self.domains)
            least = np.where(in_domains, np.minimum(others, left), lowest[0])
        skewed: Bools = left + self.own - least > self.constraint.max_skew
        return skewed


@dataclass(frozen=True, slots=True)
class HardConstraints:
    """A pod's required constraints, each with its `codes`."""

    namespace: str
    with_codes: list[tuple[Hard, Ints]]


@dataclass(frozen=True, slots=True)
class CountedNodes:
    """Which nodes take part in a constraint, and the domains that they make up; `key` stands for
    both."""

    key: Hashable
    among: Bools
    domains: Ints
    version: int


@dataclass(frozen=True, slots=True)
class Soft:
    """What `score` needs; with `every`, nodes that lack one of the labels get no score."""

    constraints: Sequence[Constraint]
    every: bool
    info: PodInfo
    snapshot: Snapshot


class PodTopologySpread(Plugin):
    NAME = "PodTopologySpread"
    events = (
        Event.NODE_ADD | Event.NODE_GONE | Event.NODE_LABEL | Event.NODE_TAINT
        | Event.POD_PLACED | Event.POD_GONE | Event.POD_LABEL
    )  # fmt: skip
    LOCAL = False
    RELATIVE = True

    def __init__(self, args: PodTopologySpreadArgs = PodTopologySpreadArgs()) -> None:
        if args.defaulting_type not in ("System", "List"):
            raise ValueError(f"defaultingType: System or List, got {args.defaulting_type}")
        if args.default_constraints and args.defaulting_type != "List":
            raise ValueError("defaultConstraints: only with defaultingType List")
        for index, given in enumerate(args.default_constraints):
            _check(given, f"defaultConstraints[{index}]")
        self._system = args.defaulting_type == "System"
        self._defaults = SYSTEM_DEFAULTS if self._system else args.default_constraints
        self._sums = KeptSums()
        self._kept_nodes: OrderedDict[Hashable, CountedNodes] = OrderedDict()
        self._snapshot: Snapshot | None = None

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "PodTopologySpread":
        return cls(msgspec.convert(args, PodTopologySpreadArgs))

    # -- filter ----------------------------------------------------------------------------

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[HardConstraints] | None:
        constraints = self._constraints(info, snapshot, HARD)
        if not constraints:
            return None
        labels = info.pod.metadata.labels or {}
        hard = []
        for constraint in constraints:
            nodes = self._nodes(constraint, constraints, info, snapshot)
            numbers = _matching(constraint, info, snapshot)
            source = nodes.key, info.pod.metadata.namespace
            matching = self._sums.of(snapshot, constraint.key, source, numbers, nodes.among)
            own = int(constraint.selector.matches(labels))
            hard.append(Hard(constraint, own, nodes.among, matching, nodes.domains))
        state = HardConstraints(info.pod.metadata.namespace, [(one, one.codes()) for one in hard])
        return Prepared(state, (SKEWED, NO_LABEL))

    def filter(self, prepared: Prepared[HardConstraints], view: View) -> Ints:
        """The first constraint that a node does not meet decides."""
        bits = np.zeros(len(view), np.int64)
        for index, (one, codes) in enumerate(prepared.state.with_codes):
            column = view.label(one.constraint.key)
            if index == 0 and column is not None:
                bits = codes[column]
                continue
            new = np.int64(2 | UNRESOLVABLE) if column is None else codes[column]
            bits = np.where(bits == 0, new, bits)
        return bits

    def filter_without(
        self, prepared: Prepared[HardConstraints], view: View, removed: Removed
    ) -> Ints:
        bits = np.zeros(len(view), np.int64)
        namespace = prepared.state.namespace
        for one, _ in prepared.state.with_codes:
            column = view.label(one.constraint.key)
            skewed = None
            if column is not None:
                removed_counts = (
                    removed.matching(_query(one.constraint, namespace)) * one.among[view.rows]
                )
                skewed = one.skewed_without(column, removed_counts)
            bits = _first(bits, column, skewed)
        return bits

    def remedies(
        self, prepared: Prepared[HardConstraints], snapshot: Snapshot, row: int
    ) -> list[Remedy]:
        view = snapshot.view(np.array([row]))
        remedies = []
        for one, codes in prepared.state.with_codes:
            key = one.constraint.key
            column = view.label(key)
            if column is None or not column[0]:
                remedies.append(Remedy(f"label {key} on the node"))
            elif codes[column[0]]:
                value = snapshot.label_values(key).values[column[0]]
                remedies.append(
                    Remedy(f"fewer pods that the constraint counts where {key}={value}")
                )
        return remedies

    # -- score -----------------------------------------------------------------------------

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> Soft | None:
        constraints = self._constraints(info, snapshot, SOFT)
        if not constraints:
            return None
        every = bool(info.pod.spec.topology_spread_constraints) or not self._system
        return Soft(constraints, every, info, snapshot)

    def score(self, state: Soft, view: View) -> Ints:
        """Matching pods in each node's domains, weighted by how many domains there are."""
        snapshot = state.snapshot
        rows = np.zeros(len(snapshot), np.bool_)
        rows[view.rows] = True
        everywhere = np.ones(len(snapshot), np.bool_)
        labelled = _with_all_labels(state.constraints, snapshot) if state.every else everywhere
        candidates = rows & labelled
        total = np.zeros(len(view))
        for constraint in state.constraints:
            column = view.label(constraint.key)
            counted = _matching(constraint, state.info, snapshot)
            if constraint.key == HOSTNAME:
                weight = math.log(int(np.count_nonzero(candidates)) + 2)
                matching = counted[: len(snapshot)][view.rows]
            else:
                weight = math.log(len(values(snapshot, constraint.key, candidates)) + 2)
                among = labelled & _included(constraint, state.info, snapshot)
                table = sums(snapshot, constraint.key, counted, among)
                matching = table[column] if column is not None else np.zeros(len(view), np.int64)
            if column is not None:
                total += (matching * weight + (constraint.max_skew - 1)) * (column != 0)
        raw = np.floor(total + 0.5).astype(np.int64)
        return np.where(labelled[view.rows], raw, IGNORED)

    def normalize(self, raw: Ints) -> Ints:
        """Fewer matching pods score more; nodes without the labels score nothing."""
        scored = raw != IGNORED
        if not scored.any():
            return np.zeros_like(raw)
        lowest, highest = int(raw[scored].min()), int(raw[scored].max())
        if highest == 0:
            return np.where(scored, MAX_SCORE, 0)
        return np.where(scored, MAX_SCORE * (highest + lowest - raw) // highest, 0)

    # -- both ------------------------------------------------------------------------------

    def _nodes(
        self,
        constraint: Constraint,
        constraints: Sequence[Constraint],
        info: PodInfo,
        snapshot: Snapshot,
    ) -> CountedNodes:
        """Kept for pods that are alike in what this depends on, until some node changes."""
        spec = info.pod.spec
        node_affinity = spec.affinity.node_affinity if spec.affinity else None
        honoured = (
            _encode((spec.node_selector, node_affinity)) if constraint.honour_affinity else b"",
            _encode(spec.tolerations) if constraint.honour_taints else b"",
        )
        key = constraint, tuple(one.key for one in constraints), honoured
        if self._snapshot is not snapshot:
            self._snapshot = snapshot
            self._kept_nodes.clear()
        kept = self._kept_nodes.get(key)
        if kept is None or kept.version < snapshot.nodes_touched or snapshot.asking:
            among = _with_all_labels(constraints, snapshot) & _included(constraint, info, snapshot)
            domains = values(snapshot, constraint.key, among)
            kept = CountedNodes(key, among, domains, snapshot.version)
            if not snapshot.asking:
                self._kept_nodes[key] = kept
                if len(self._kept_nodes) > MAX_NODES_KEPT:
                    self._kept_nodes.popitem(last=False)
        return kept

    def _constraints(self, info: PodInfo, snapshot: Snapshot, action: str) -> Sequence[Constraint]:
        own = info.pod.spec.topology_spread_constraints
        if own:
            return [_compiled(c, info) for c in own if _action(c) == action]
        defaults = [c for c in self._defaults if _action(c) == action]
        selector = snapshot.default_selectors.selector(info.pod) if defaults else None
        if selector is None:
            return ()
        return [replace(_compiled(c, info), selector=selector) for c in defaults]


def _action(constraint: TopologySpreadConstraint) -> str:
    return constraint.when_unsatisfiable or HARD


def _compiled(given: TopologySpreadConstraint, info: PodInfo) -> Constraint:
    selector = selector_of(given.label_selector)
    if given.match_label_keys:
        selector = selector.both(same_values(info.pod.metadata.labels, given.match_label_keys))
    return Constraint(
        given.max_skew,
        given.topology_key,
        selector,
        1 if given.min_domains is None else given.min_domains,
        given.node_affinity_policy == "Honor",
        given.node_taints_policy == "Honor",
    )


def _matching(constraint: Constraint, info: PodInfo, snapshot: Snapshot) -> Ints:
    """Pods by row that count: of the pod's namespace, selected, not being deleted."""
    return snapshot.index.count(_query(constraint, info.pod.metadata.namespace))


def _query(constraint: Constraint, namespace: str) -> PodQuery:
    # Upstream counts nothing for a selector without requirements.
    selector = NOTHING if constraint.selector.everything else constraint.selector
    return PodQuery(((frozenset((namespace,)), selector),), terminating=False)


def _first(bits: Ints, column: Ids | None, skewed: Bools | None) -> Ints:
    """The answer so far, and where it is still 0 that of one more constraint."""
    if column is None or skewed is None:
        return np.where(bits == 0, np.int64(2 | UNRESOLVABLE), bits)
    new = refusals(column == 0, 2 | UNRESOLVABLE) | refusals(skewed & (column != 0), 1)
    return np.where(bits == 0, new, bits)


def _with_all_labels(constraints: Sequence[Constraint], snapshot: Snapshot) -> Bools:
    view = snapshot.view()
    result = view.valid.copy()
    for constraint in constraints:
        column = view.label(constraint.key)
        result &= column != 0 if column is not None else False
    return result


def _included(constraint: Constraint, info: PodInfo, snapshot: Snapshot) -> Bools:
    """Nodes that the constraint's node inclusion policies let take part."""
    view = snapshot.view()
    result = view.valid
    if constraint.honour_affinity:
        matched = matches_required(info, view, snapshot)
        result = result if matched is None else result & matched
    if constraint.honour_taints:
        result = result & (untolerated(info, snapshot).of(view) == 0)
    return result


def _check(given: TopologySpreadConstraint, where: str) -> None:
    if given.max_skew < 1:
        raise ValueError(f"{where}.maxSkew: at least 1, got {given.max_skew}")
    if not given.topology_key:
        raise ValueError(f"{where}.topologyKey: must not be empty")
    if given.when_unsatisfiable not in (HARD, SOFT):
        raise ValueError(f"{where}.whenUnsatisfiable: {HARD} or {SOFT}")
    if given.label_selector is not None:
        raise ValueError(f"{where}.labelSelector: is worked out from the pod's owners")
