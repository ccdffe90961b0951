"""InterPodAffinity: near pods that one wants, away from those that one does not, both ways.

Source: upstream's interpodaffinity plugin, with namespaceSelector (KEP-2249) and matchLabelKeys
(KEP-3633). "Both ways": the terms of pods that run already count for the pod that comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from cluster.pod_index import PodQuery
from cluster.pod_terms import Term, TermKind
from cluster.snapshot import Bools, Ints, Snapshot, View
from filters.framework import MAX_SCORE, UNRESOLVABLE, Event, Plugin, PodInfo, Prepared, Remedy
from filters.topology import sums

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"

Tables = list[tuple[str, Bools]]
"""(topology key, by value of that label whether it holds)."""


class Args(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """InterPodAffinityArgs: what a running pod's required affinity to the new pod weighs (0..100),
    and whether running pods' preferences are left aside for pods without any of their own."""

    hard_pod_affinity_weight: int = 1
    ignore_preferred_terms_of_existing_pods: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """`wanted` must all hold, unless `first`: the pod is the first that its own terms mean."""

    wanted: Tables
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

    def __init__(self, args: Args = Args()) -> None:
        if not 0 <= args.hard_pod_affinity_weight <= 100:
            raise ValueError(f"hardPodAffinityWeight: 0..100, got {args.hard_pod_affinity_weight}")
        self._args = args

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "InterPodAffinity":
        return cls(msgspec.convert(args, Args))

    # -- filter ----------------------------------------------------------------------------

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | None:
        met = snapshot.terms_meeting(info.pod)
        guarding = [(t.topology_key, rows) for t, rows in met if t.kind is TermKind.ANTI_AFFINITY]
        wanted = [t for t in info.terms if t.kind is TermKind.AFFINITY]
        unwanted = [t for t in info.terms if t.kind is TermKind.ANTI_AFFINITY]
        if not guarding and not wanted and not unwanted:
            return None
        near = _wanted(wanted, snapshot)
        first = bool(wanted) and not any(table.any() for _, table in near)
        rules = Rules(
            near,
            first and all(_means(term, info, snapshot) for term in wanted),
            [(t.topology_key, _held(t.topology_key, _count([t], snapshot), snapshot))
             for t in unwanted],
            [(key, _held(key, rows, snapshot)) for key, rows in guarding],
        )  # fmt: skip
        return Prepared(rules, (AFFINITY, ANTI_AFFINITY, EXISTING))

    def filter(self, prepared: Prepared, view: View) -> Ints:
        rules: Rules = prepared.state
        bits = np.zeros(len(view), np.int64)
        guarded = _any(rules.guarded, view)
        bits[guarded] = 4
        bits[_any(rules.unwanted, view)] = 2
        for key, table in rules.wanted:
            column = view.label(key)
            if column is None:
                bits[:] = 1 | UNRESOLVABLE
            elif rules.first:
                bits[column == 0] = 1 | UNRESOLVABLE
            else:
                bits[~table[column]] = 1 | UNRESOLVABLE
        return bits

    def remedies(self, prepared: Prepared, snapshot: Snapshot, row: int) -> list[Remedy]:
        rules: Rules = prepared.state
        view = snapshot.view(np.array([row]))
        found = []
        for key, table in rules.wanted:
            column = view.label(key)
            if column is None or not column[0]:
                found.append(Remedy(f"label {key} on the node"))
            elif not rules.first and not table[column[0]]:
                found.append(Remedy(f"a pod that the affinity wants under the same {key}"))
        for what, tables in (("the pod's", rules.unwanted), ("running pods'", rules.guarded)):
            found += [
                Remedy(f"no pod under the same {key} that {what} anti-affinity keeps apart")
                for key, table in tables
                if _any([(key, table)], view).any()
            ]
        return found

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
        for term, rows in snapshot.terms_meeting(info.pod):
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
        least, most = int(raw.min()), int(raw.max())
        if most == least:
            return np.zeros_like(raw)
        scaled: Ints = (MAX_SCORE * ((raw - least) / (most - least))).astype(np.int64)
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


def _count(terms: Sequence[Term], snapshot: Snapshot) -> Ints:
    """By row, pods that all of these terms mean."""
    query = PodQuery(tuple((_namespaces(term, snapshot), term.selector) for term in terms))
    return snapshot.index.count(query)


def _held(key: str, rows: Ints, snapshot: Snapshot) -> Bools:
    """By value of the label `key`, whether some node with it has a pod that counts."""
    held: Bools = sums(snapshot, key, rows) > 0
    return held


def _wanted(terms: Sequence[Term], snapshot: Snapshot) -> Tables:
    if not terms:
        return []
    # One and the same pod has to be meant by all terms.
    rows = _count(terms, snapshot)
    return [(term.topology_key, _held(term.topology_key, rows, snapshot)) for term in terms]


def _means(term: Term, info: PodInfo, snapshot: Snapshot) -> bool:
    meta = info.pod.metadata
    namespaces = _namespaces(term, snapshot)
    within = namespaces is None or meta.namespace in namespaces
    return within and term.selector.matches(meta.labels or {})


def _any(tables: Tables, view: View) -> Bools:
    result = np.zeros(len(view), np.bool_)
    for key, table in tables:
        column = view.label(key)
        if column is not None:
            result |= table[column]
    return result


def _add(tables: dict[str, Ints], key: str, rows: Ints, snapshot: Snapshot) -> None:
    table = sums(snapshot, key, rows)
    tables[key] = tables[key] + table if key in tables else table
