"""NodeAffinity: nodeSelector, required and preferred node affinity (upstream plugin)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from cluster.objects.core import Labels, NodeSelector, NodeSelectorTerm, PreferredSchedulingTerm
from cluster.objects.core import NodeAffinity as Affinity
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from filters.common.node_selectors import matches_labels, matches_selector, matches_term
from filters.common.plugin import (
    UNRESOLVABLE,
    Event,
    NamedNode,
    Plugin,
    PodInfo,
    Prepared,
    Rejected,
    Remedy,
    default_normalize,
    refusals,
)

REASON = "node(s) didn't match Pod's node affinity/selector"
ENFORCED = "node(s) didn't match scheduler-enforced node affinity"
CONFLICT = "pod affinity terms conflict"

ScoreState = tuple[list[PreferredSchedulingTerm], Snapshot]


class NodeAffinityArgs(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Node affinity of a whole profile (upstream)."""

    added_affinity: Affinity | None = None
    """What every pod of the profile has to meet beside its own node affinity."""


@dataclass(frozen=True, slots=True)
class RequiredNodes:
    """The pod's nodeSelector and required node affinity."""

    labels: Labels | None
    required: NodeSelector | None
    snapshot: Snapshot


class NodeAffinity(Plugin):
    NAME = "NodeAffinity"
    events = Event.NODE_ADD | Event.NODE_LABEL
    RELATIVE = True
    LOOKS_AT_PODS = False

    def __init__(self, args: NodeAffinityArgs = NodeAffinityArgs()) -> None:
        added = args.added_affinity or Affinity()
        self._required = added.required_during_scheduling_ignored_during_execution
        self._preferred = added.preferred_during_scheduling_ignored_during_execution or []

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "NodeAffinity":
        return cls(msgspec.convert(args, NodeAffinityArgs))

    def sign(self, info: PodInfo) -> Any:
        return info.pod.spec.node_selector, _affinity(info)

    def named_node(self, info: PodInfo) -> NamedNode | None:
        """As the DaemonSet controller writes it: a required affinity to one name and nothing
        else."""
        spec = info.pod.spec
        if spec.affinity is None or (affinity := spec.affinity.node_affinity) is None:
            return None
        required = affinity.required_during_scheduling_ignored_during_execution
        if required is None or len(required.node_selector_terms) != 1:
            return None
        term = required.node_selector_terms[0]
        named = _named_by(term)
        if term.match_expressions or named is None or len(named) != 1:
            return None
        if len(term.match_fields or ()) != 1:
            return None
        rest = replace(affinity, required_during_scheduling_ignored_during_execution=None)
        affinities = replace(spec.affinity, node_affinity=rest)
        pod = replace(info.pod, spec=replace(spec, affinity=affinities))
        return NamedNode(next(iter(named)), dataclasses.replace(info, pod=pod))

    def pre_filter(
        self, info: PodInfo, snapshot: Snapshot
    ) -> Prepared[RequiredNodes] | Rejected | None:
        labels = info.pod.spec.node_selector
        affinity = _affinity(info)
        required = (
            affinity.required_during_scheduling_ignored_during_execution if affinity else None
        )
        if not labels and required is None and self._required is None:
            return None
        only = _named_nodes(required) if required else None
        if only is not None and not only:
            return Rejected(CONFLICT)
        return Prepared(RequiredNodes(labels, required, snapshot), (REASON, ENFORCED), only)

    def filter(self, prepared: Prepared[RequiredNodes], view: View) -> Ints:
        own = prepared.state
        bits = refusals(~_matched(own.labels, own.required, own.snapshot, view), 1 | UNRESOLVABLE)
        if self._required is None:
            return bits
        allowed = matches_selector(self._required, view, own.snapshot)
        return np.where(allowed, bits, np.int64(2 | UNRESOLVABLE))

    def remedies(
        self, prepared: Prepared[RequiredNodes], snapshot: Snapshot, row: int
    ) -> list[Remedy]:
        labels, required = prepared.state.labels, prepared.state.required
        view = snapshot.view(np.array([row]))
        node = snapshot.node(snapshot.names[row])
        own = (node.metadata.labels or {}) if node else {}
        remedies = [
            Remedy(f"label {key}={value} on the node (it has {own.get(key, 'none')})")
            for key, value in (labels or {}).items()
            if own.get(key) != value
        ]
        if required is not None and not matches_selector(required, view, snapshot).all():
            remedies.append(Remedy("a node that the required node affinity matches"))
        return remedies

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> ScoreState | None:
        affinity = _affinity(info)
        own = affinity.preferred_during_scheduling_ignored_during_execution if affinity else None
        preferred = [*(own or ()), *self._preferred]
        return (preferred, snapshot) if preferred else None

    def score(self, state: ScoreState, view: View) -> Ints:
        """The weights of the preferred terms that match, summed."""
        preferred, snapshot = state
        total = np.zeros(len(view), np.int64)
        for term in preferred:
            total += term.weight * matches_term(term.preference, view, snapshot)
        return total

    def normalize(self, raw: Ints) -> Ints:
        return default_normalize(raw)


def matches_required(info: PodInfo, view: View, snapshot: Snapshot) -> Bools | None:
    """Nodes that nodeSelector and required affinity leave; None where the pod has neither."""
    affinity, labels = _affinity(info), info.pod.spec.node_selector
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if not labels and required is None:
        return None
    return _matched(labels, required, snapshot, view)


def _matched(
    labels: Labels | None, required: NodeSelector | None, snapshot: Snapshot, view: View
) -> Bools:
    matched = np.ones(len(view), np.bool_)
    if labels:
        matched &= matches_labels(labels, view, snapshot)
    if required is not None:
        matched &= matches_selector(required, view, snapshot)
    return matched


def _affinity(info: PodInfo) -> Affinity | None:
    affinity = info.pod.spec.affinity
    return affinity.node_affinity if affinity else None


def _named_nodes(required: NodeSelector) -> frozenset[str] | None:
    """The nodes that `metadata.name In […]` leaves, None where some term leaves all of them."""
    names: set[str] = set()
    if not required.node_selector_terms:
        return None
    for term in required.node_selector_terms:
        named = _named_by(term)
        if named is None:
            return None
        names |= named
    return frozenset(names)


def _named_by(term: NodeSelectorTerm) -> set[str] | None:
    named: set[str] | None = None
    for field in term.match_fields or ():
        if field.key == "metadata.name" and field.operator == "In":
            values = set(field.values or ())
            named = values if named is None else named & values
    return named
