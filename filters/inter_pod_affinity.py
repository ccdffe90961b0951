"""InterPodAffinity: near pods that one wants, away from those that one does not, both ways.

Source: upstream's interpodaffinity plugin, with namespaceSelector (KEP-2249) and matchLabelKeys
(KEP-3633). "Both ways": the terms of pods that run already count for the pod that comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from cluster.state.pod_index import PodQuery
from cluster.state.pod_terms import Term, TermKind
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from filters.common.plugin import (
    MAX_SCORE,
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Remedy,
    Removed,
)
from filters.common.topology import KeptSums, sums

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"

Source = PodQuery | Term
"""Whom a table counts: pods that a query means, or pods that have a term."""


@dataclass(frozen=True, slots=True)
class TermTable:
    """By value of the node label `key` the pods that count, and whether there are any."""

    key: str
    source: Source
    counts: Ints
    held: Bools

    @classmethod
    def of(
        cls, key: str, source: Source, rows: Ints, snapshot: Snapshot, kept: KeptSums
    ) -> "TermTable":
        """`rows` are the pods by row."""
        counts = kept.of(snapshot, key, source, rows)
        return cls(key, source, counts, counts > 0)


Tables = list[TermTable]


class InterPodAffinityArgs(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """What affinity between pods weighs (upstream)."""

    hard_pod_affinity_weight: int = 1
    """Weight of a running pod's required affinity to the new pod, 0..100."""
    ignore_preferred_terms_of_existing_pods: bool = False
    """Whether running pods' preferences are left aside for pods without any of their own."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`wanted` must all hold, unless `first`: the pod is the first that its own terms mean.

    `own` says whether they mean the pod itself.
    """

    wanted: Tables
    own: bool
    first: bool
    unwanted: Tables
    guarded: Tables


class InterPodAffinity(Plugin):
    NAME = "InterPodAffinity"
    events = (
        Event.NODE_ADD | Event.NODE_LABEL | Event.POD_PLACED | Event.POD_GONE | Event.POD_LABEL
        | Event.NAMESPACE
    )  # fmt: skip
    LOCAL = False
    RELATIVE = True

    def __init__(self, args: InterPodAffinityArgs = InterPodAffinityArgs()) -> None:
        if not 0 <= args.hard_pod_affinity_weight <= 100:
            raise ValueError(f"hardPodAffinityWeight: 0..100, got {args.hard_pod_affinity_weight}")
        self._args = args
        self._sums = KeptSums()

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "InterPodAffinity":
        return cls(msgspec.convert(args, InterPodAffinityArgs))

    # -- filter ----------------------------------------------------------------------------

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Rules] | None:
        met = snapshot.matching_terms(info.pod)
        guarding = [(term, rows) for term, rows in met if term.kind is TermKind.ANTI_AFFINITY]
        wanted = [t for t in info.terms if t.kind is TermKind.AFFINITY]
        unwanted = [t for t in info.terms if t.kind is TermKind.ANTI_AFFINITY]
        if not guarding and not wanted and not unwanted:
            return None
        kept = self._sums
        near = _wanted(wanted, snapshot, kept)
        own = bool(wanted) and all(_means(term, info, snapshot) for term in wanted)
        rules = Rules(
            near,
            own,
            own and not any(table.held.any() for table in near),
            [_table([t], t.topology_key, snapshot, kept) for t in unwanted],
            [TermTable.of(t.topology_key, t, rows, snapshot, kept) for t, rows in guarding],
        )
        return Prepared(rules, (AFFINITY, ANTI_AFFINITY, EXISTING))

    def filter(self, prepared: Prepared[Rules], view: View) -> Ints:
        rules: Rules = prepared.state
        bits = np.zeros(len(view), np.int64)
        bits[_any(rules.guarded, view)] = 4
        bits[_any(rules.unwanted, view)] = 2
        for table in rules.wanted:
            column = view.label(table.key)
            if column is None:
                bits[:] = 1 | UNRESOLVABLE
            elif rules.first:
                bits[column == 0] = 1 | UNRESOLVABLE
            else:
                bits[~table.held[column]] = 1 | UNRESOLVABLE
        return bits

    def filter_without(self, prepared: Prepared[Rules], view: View, removed: Removed) -> Ints:
        rules: Rules = prepared.state
        bits = np.zeros(len(view), np.int64)
        for tables, bit in ((rules.guarded, 4), (rules.unwanted, 2)):
            for table in tables:
                bits[_left(table, view, removed) > 0] = bit
        if not rules.wanted:
            return bits
        # With the last pod that its terms mean gone, a pod that they mean itself is the first.
        removed_counts = [_removed(table, view, removed) for table in rules.wanted]
        pairs = list(zip(rules.wanted, removed_counts, strict=True))
        first = rules.own & (sum(int(t.counts.sum()) - g for t, g in pairs) == 0)
        for table in rules.wanted:
            column = view.label(table.key)
            if column is None:
                bits[:] = 1 | UNRESOLVABLE
                continue
            held = np.where(first, column != 0, _left(table, view, removed) > 0)
            bits[~held] = 1 | UNRESOLVABLE
        return bits

    def remedies(self, prepared: Prepared[Rules], snapshot: Snapshot, row: int) -> list[Remedy]:
        rules: Rules = prepared.state
        view = snapshot.view(np.array([row]))
        remedies = []
        for table in rules.wanted:
            column = view.label(table.key)
            if column is None or not column[0]:
                remedies.append(Remedy(f"label {table.key} on the node"))
            elif not rules.first and not table.held[column[0]]:
                remedies.append(Remedy(f"a pod that the affinity wants under the same {table.key}"))
        for what, tables in (("the pod's", rules.unwanted), ("running pods'", rules.guarded)):
            remedies += [
                Remedy(f"no pod under the same {table.key} that {what} anti-affinity keeps apart")
                for table in tables
                if _any([table], view).any()
            ]
        return remedies

    # -- score -----------------------------------------------------------------------------

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> dict[str, Ints] | None:
        """By topology key, what each value of the label adds to a node's score."""
        own = [t for t in info.terms if t.weight]
        if self._args.ignore_preferred_terms_of_existing_pods and not own:
            return None
        tables: dict[str, Ints] = {}
        for term in own:
            weight = term.weight if term.kind is TermKind.PREFERRED else -term.weight
            _add(tables, term.topology_key, weight * _count([term], snapshot), snapshot)
        for term, rows in snapshot.matching_terms(info.pod):
            weight = self._weight(term)
            if weight:
                _add(tables, term.topology_key, weight * rows, snapshot)
        return tables or None

    def _weight(self, term: Term) -> int:
        match term.kind:
            case TermKind.AFFINITY:
                return self._args.hard_pod_affinity_weight
            case TermKind.PREFERRED:
                return term.weight
            case TermKind.PREFERRED_ANTI:
                return -term.weight
        return 0

    def score(self, state: dict[str, Ints], view: View) -> Ints:
        total = np.zeros(len(view), np.int64)
        for key, table in state.items():
            column = view.label(key)
            if column is not None:
                total += table[column]
        return total

    def normalize(self, raw: Ints) -> Ints:
        """The least becomes 0, the most 100."""
        if not len(raw):
            return raw
        lowest, highest = int(raw.min()), int(raw.max())
        if highest == lowest:
            return np.zeros_like(raw)
        scaled: Ints = (MAX_SCORE * ((raw - lowest) / (highest - lowest))).astype(np.int64)
        return scaled


def _namespaces(term: Term, snapshot: Snapshot) -> frozenset[str] | None:
    """The namespaces that an incoming pod's term means, None for all."""
    among = term.namespace_selector
    if among.everything:
        return None
    if among.nothing:
        return term.namespaces
    named = (name for name, labels in snapshot.namespaces.items() if among.matches(labels))
    return term.namespaces | frozenset(named)


def _query(terms: Sequence[Term], snapshot: Snapshot) -> PodQuery:
    """Pods that all of these terms mean."""
    return PodQuery(tuple((_namespaces(term, snapshot), term.selector) for term in terms))


def _count(terms: Sequence[Term], snapshot: Snapshot) -> Ints:
    """By row, pods that all of these terms mean."""
    return snapshot.index.count(_query(terms, snapshot))


def _table(terms: Sequence[Term], key: str, snapshot: Snapshot, kept: KeptSums) -> TermTable:
    query = _query(terms, snapshot)
    return TermTable.of(key, query, snapshot.index.count(query), snapshot, kept)


def _wanted(terms: Sequence[Term], snapshot: Snapshot, kept: KeptSums) -> Tables:
    # One and the same pod has to be meant by all terms.
    return [_table(terms, term.topology_key, snapshot, kept) for term in terms]


def _removed(table: TermTable, view: View, removed: Removed) -> Ints:
    """By row, how many removed pods the table counts."""
    column = view.label(table.key)
    if column is None:
        return np.zeros(len(view), np.int64)
    source = table.source
    counts = removed.with_term(source) if isinstance(source, Term) else removed.matching(source)
    return np.where(column != 0, counts, 0)


def _left(table: TermTable, view: View, removed: Removed) -> Ints:
    """By row, the pods that count where its value of the label is, less the removed ones."""
    column = view.label(table.key)
    if column is None:
        return np.zeros(len(view), np.int64)
    left: Ints = table.counts[column] - _removed(table, view, removed)
    return left


def _means(term: Term, info: PodInfo, snapshot: Snapshot) -> bool:
    meta = info.pod.metadata
    namespaces = _namespaces(term, snapshot)
    within = namespaces is None or meta.namespace in namespaces
    return within and term.selector.matches(meta.labels or {})


def _any(tables: Tables, view: View) -> Bools:
    result = np.zeros(len(view), np.bool_)
    for table in tables:
        column = view.label(table.key)
        if column is not None:
            result |= table.held[column]
    return result


def _add(tables: dict[str, Ints], key: str, rows: Ints, snapshot: Snapshot) -> None:
    table = sums(snapshot, key, rows)
    tables[key] = tables[key] + table if key in tables else table
