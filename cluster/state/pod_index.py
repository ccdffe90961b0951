"""Pods counted by node, for everything that asks about other pods.

Pods that are alike in what other pods can see of them share a `Shape`. A question ("how many pods
of namespace n match selector s on each node?") is registered once and its array is kept up to date
by the events that place and remove pods; no pod is looked at when it is asked again.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from cluster.objects.core import Disk, Labels, Pod
from cluster.objects.label_selectors import Selector
from cluster.objects.pod_volumes import claims_of, disks_of, inline_claims_of
from cluster.state.host_ports import ANY_ADDRESS, HostPort, host_ports
from cluster.state.pod_terms import Term, terms_of

Counts = NDArray[np.int64]

QUERIES_KEPT = 1024
MIN_QUERIES = 64
MAX_QUERY_BYTES = 64 * 1024 * 1024
"""Of the arrays of kept queries, beyond MIN_QUERIES of them."""

_encode = msgspec.json.Encoder(order="deterministic").encode

TermPlace = tuple[str | None, tuple[str, str] | None]
"""(namespace, label) that every pod meant by a term has; None where it asks for no one of them."""
MatchingTerm = tuple[Term, Counts]
"""A term with the number of placed pods that have it, by row."""


@dataclass(frozen=True, slots=True)
class PodQuery:
    """Pods that meet every term: (namespaces, selector), namespaces None for all of them.

    With `terminating`, pods that are being deleted count too; with `below`, only pods of a lower
    priority do.
    """

    terms: tuple[tuple[frozenset[str] | None, Selector], ...]
    terminating: bool = True
    below: int | None = None

    @property
    def namespaces(self) -> frozenset[str | None]:
        """Namespaces that the first term leaves; None alone for all of them."""
        first = self.terms[0][0] if self.terms else None
        return frozenset((None,)) if first is None else frozenset[str | None](first)

    def matches(self, shape: "Shape") -> bool:
        if shape.terminating and not self.terminating:
            return False
        if self.below is not None and shape.priority >= self.below:
            return False
        return all(
            (namespaces is None or shape.namespace in namespaces) and selector.matches(shape.labels)
            for namespaces, selector in self.terms
        )


@dataclass(slots=True, eq=False)
class RowCount:
    """A number for each row, and their sum."""

    rows: Counts
    total: int = 0

    def add(self, row: int, number: int) -> None:
        self.rows[row] += number
        self.total += number


@dataclass(slots=True, eq=False)
class Shape:
    """What other pods can see of a pod; shared by all pods that look the same."""

    key: bytes
    namespace: str
    priority: int
    labels: Labels
    terminating: bool
    terms: tuple[Term, ...]
    ports: tuple[HostPort, ...]
    claims: tuple[str, ...]
    disks: tuple[tuple[str, Disk], ...]
    on: dict[int, int] = field(default_factory=dict)
    """Pods of this shape by row."""
    counts: list[RowCount] = field(default_factory=list)
    """Every kept number that a pod of this shape adds to."""


def _labelled(pod: Pod, more: tuple[tuple[str, str], ...]) -> Pod:
    labels = {**(pod.metadata.labels or {}), **dict(more)}
    return msgspec.structs.replace(
        pod, metadata=msgspec.structs.replace(pod.metadata, labels=labels)
    )


def _same_look(one: Pod, other: Pod) -> bool:
    """Whether two pods differ in nothing that other pods can see."""
    a, b = one.metadata, other.metadata
    return (
        a.namespace == b.namespace
        and a.labels == b.labels
        and (a.deletion_timestamp is None) is (b.deletion_timestamp is None)
        and one.spec == other.spec
    )


def conflicting(port: HostPort, shape: Shape) -> int:
    """How many of the shape's host ports conflict with this one."""
    return sum(port.conflicts(shape_port) for shape_port in shape.ports)


def _places(term: Term) -> list[TermPlace]:
    """Where pods that the term means look for it."""
    label = next(
        ((key, next(iter(values))) for key, operator, values in term.selector.requirements
         if operator == "In" and len(values) == 1),
        None,
    )  # fmt: skip
    within = [None] if not term.namespace_selector.nothing else sorted(term.namespaces)
    return [(namespace, label) for namespace in within]


K = TypeVar("K")


def _drop(sets: dict[K, set[Shape]], key: K, shape: Shape) -> None:
    if key in sets:
        sets[key].discard(shape)
        if not sets[key]:
            del sets[key]


class PodIndex:
    """All shapes with their counts. The snapshot that owns it tells it about every pod."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._shapes: dict[bytes, Shape] = {}
        self._of_namespace: dict[str, dict[bytes, Shape]] = {}
        self._queries: OrderedDict[PodQuery, RowCount] = OrderedDict()
        self._asked_of: dict[str | None, dict[PodQuery, RowCount]] = {}
        self._terms: dict[Term, RowCount] = {}
        self._with_term: dict[Term, set[Shape]] = {}
        self._ports: dict[tuple[str, int] | HostPort, RowCount] = {}
        self._with_port: dict[tuple[str, int], set[Shape]] = {}
        self._with_disks: set[Shape] = set()
        self._last: tuple[Pod, dict[tuple[tuple[str, str], ...], Shape]] | None = None
        """The last pod that was asked about, with its shapes by further labels."""
        self.claim_users: dict[str, dict[int, int]] = {}
        """By claim (`namespace/name`), how many pods on which row mount it."""
        self.on_claim_use: Callable[[str, int, int], None] = lambda claim, row, change: None
        """Called as (claim, row, +1 or -1) when a row gets its first or loses its last user."""
        self._meeting: dict[TermPlace, dict[Term, RowCount]] = {}
        """Terms by what the pods that they mean have in common: a namespace and a label."""

    def grow(self, capacity: int) -> None:
        self._capacity = capacity
        for kept in (self._queries, self._terms, self._ports):
            for count in kept.values():
                count.rows = np.pad(count.rows, (0, capacity - len(count.rows)))

    # -- telling ---------------------------------------------------------------------------

    def shape(self, pod: Pod, more: tuple[tuple[str, str], ...] = ()) -> Shape:
        """The shape of the pod, with these labels beside its own; one that is in use already if
        there is one."""
        if self._last is None or not _same_look(self._last[0], pod):
            self._last = pod, {}
        shapes = self._last[1]
        shape = shapes.get(more)
        if shape is None:
            shape = self._shape(_labelled(pod, more) if more else pod)
            # Claims of ephemeral volumes are named by the pod.
            if all(v.ephemeral is None for v in pod.spec.volumes or ()):
                shapes[more] = shape
        # Identical pods often come in a row.
        return self._shapes.get(shape.key, shape)

    def _shape(self, pod: Pod) -> Shape:
        meta, spec = pod.metadata, pod.spec
        affinity = spec.affinity
        terminating = meta.deletion_timestamp is not None
        ports, claims, disks = host_ports(pod), claims_of(pod), disks_of(pod)
        claims += inline_claims_of(pod)
        among = (affinity.pod_affinity, affinity.pod_anti_affinity) if affinity else None
        priority = spec.priority
        key = _encode(
            (meta.namespace, priority, meta.labels, terminating, among, ports, claims, disks)
        )
        shape = self._shapes.get(key)
        if shape is not None:
            return shape
        labels = meta.labels or {}
        terms = terms_of(pod)
        return Shape(
            key, meta.namespace, priority, labels, terminating, terms, ports, claims, disks
        )

    def place(self, shape: Shape, row: int) -> Shape:
        """Count one more pod of this shape on the row; returns the shape to keep."""
        kept = self._shapes.get(shape.key)
        if kept is None:
            kept = self._shapes[shape.key] = shape
            self._join(shape)
        kept.on[row] = kept.on.get(row, 0) + 1
        for count in kept.counts:
            count.add(row, 1)
        for claim in kept.claims:
            rows = self.claim_users.setdefault(claim, {})
            rows[row] = rows.get(row, 0) + 1
            if rows[row] == 1:
                self.on_claim_use(claim, row, +1)
        return kept

    def remove(self, shape: Shape, row: int) -> None:
        """One pod of this shape less on the row."""
        left = shape.on[row] - 1
        if left:
            shape.on[row] = left
        else:
            del shape.on[row]
        for count in shape.counts:
            count.add(row, -1)
        for claim in shape.claims:
            self._release(claim, row)
        if not shape.on:
            self._leave(shape)

    def _release(self, claim: str, row: int) -> None:
        rows = self.claim_users[claim]
        rows[row] -= 1
        if not rows[row]:
            del rows[row]
            if not rows:
                del self.claim_users[claim]
            self.on_claim_use(claim, row, -1)

    def _join(self, shape: Shape) -> None:
        self._of_namespace.setdefault(shape.namespace, {})[shape.key] = shape
        asked = (*self._asked_of.get(shape.namespace, {}).items(),
                 *self._asked_of.get(None, {}).items())  # fmt: skip
        shape.counts = [count for query, count in asked if query.matches(shape)]
        for term in shape.terms:
            if term not in self._terms:
                self._terms[term] = self._zeros()
                for term_place in _places(term):
                    self._meeting.setdefault(term_place, {})[term] = self._terms[term]
            shape.counts.append(self._terms[term])
            self._with_term.setdefault(term, set()).add(shape)
        for port in shape.ports:
            self._with_port.setdefault(port[:2], set()).add(shape)
            for key in (port[:2], port):
                shape.counts.append(self._ports.setdefault(key, self._zeros()))
        if shape.disks:
            self._with_disks.add(shape)

    def _leave(self, shape: Shape) -> None:
        del self._shapes[shape.key]
        del self._of_namespace[shape.namespace][shape.key]
        if not self._of_namespace[shape.namespace]:
            del self._of_namespace[shape.namespace]
        self._with_disks.discard(shape)
        for term in shape.terms:
            _drop(self._with_term, term, shape)
            if term in self._terms and not self._terms[term].total:
                del self._terms[term]
                for term_place in _places(term):
                    del self._meeting[term_place][term]
                    if not self._meeting[term_place]:
                        del self._meeting[term_place]
        for port in shape.ports:
            _drop(self._with_port, port[:2], shape)
            for key in (port[:2], port):
                if key in self._ports and not self._ports[key].total:
                    del self._ports[key]

    # -- asking ----------------------------------------------------------------------------

    def count(self, query: PodQuery) -> Counts:
        """Pods that the query means, by row of the whole snapshot. Not to be written to."""
        counts = self._queries.get(query)
        if counts is None:
            counts = self._queries[query] = self._zeros()
            for namespace in query.namespaces:
                self._asked_of.setdefault(namespace, {})[query] = counts
            for shape in self._candidates(query):
                if query.matches(shape):
                    shape.counts.append(counts)
                    for row, number in shape.on.items():
                        counts.add(row, number)
            self._drop_oldest()
        self._queries.move_to_end(query)
        return counts.rows

    def _drop_oldest(self) -> None:
        max_queries = max(MAX_QUERY_BYTES // (8 * self._capacity), MIN_QUERIES)
        if len(self._queries) <= min(max_queries, QUERIES_KEPT):
            return
        dropped = set()
        for query in list(self._queries)[: len(self._queries) // 2]:
            dropped.add(id(self._queries.pop(query)))
            for namespace in query.namespaces:
                del self._asked_of[namespace][query]
                if not self._asked_of[namespace]:
                    del self._asked_of[namespace]
        for shape in self._shapes.values():
            shape.counts = [count for count in shape.counts if id(count) not in dropped]

    def _candidates(self, query: PodQuery) -> Iterable[Shape]:
        """Every shape of the query's namespaces."""
        if None in query.namespaces:
            return self._shapes.values()
        shapes = (self._of_namespace.get(name, {}) for name in query.namespaces if name)
        return (shape for by_key in shapes for shape in by_key.values())

    def matching_terms(self, pod: Pod, of_namespace: Labels) -> list[MatchingTerm]:
        """The affinity terms of placed pods that mean this pod, whose namespace is so labelled."""
        if not self._terms:
            return []
        namespace, labels = pod.metadata.namespace, pod.metadata.labels or {}
        return [
            (term, count.rows)
            for within in (namespace, None)
            for label in (None, *labels.items())
            for term, count in self._meeting.get((within, label), {}).items()
            if term.matches(namespace, labels, of_namespace)
        ]

    def ports_in_use(self, port: HostPort) -> Counts | None:
        """By row, pods whose host ports conflict with this one; None where nowhere.

        The address 0.0.0.0 conflicts with every address, any other with itself and 0.0.0.0.
        """
        protocol, number, address = port
        if address == ANY_ADDRESS:
            usage = self._ports.get((protocol, number))
            return usage.rows if usage else None
        usages = [self._ports.get(HostPort(protocol, number, a)) for a in (ANY_ADDRESS, address)]
        rows = [count.rows for count in usages if count is not None]
        return np.sum(rows, axis=0) if rows else None

    def with_term_below(self, term: Term, priority: int) -> Counts:
        """Pods of a lower priority that have this affinity term, by row of the whole snapshot."""
        return self._placed(
            (shape, 1) for shape in self._with_term.get(term, ()) if shape.priority < priority
        )

    def ports_below(self, port: HostPort, priority: int) -> Counts:
        """As `ports_in_use`, of pods of a lower priority."""
        return self._placed(
            (shape, conflicting(port, shape))
            for shape in self._with_port.get(port[:2], ())
            if shape.priority < priority
        )

    def _placed(self, shapes: Iterable[tuple[Shape, int]]) -> Counts:
        """Pods of these shapes by row, each counted so many times."""
        rows = np.zeros(self._capacity, np.int64)
        for shape, times in shapes:
            rows[list(shape.on)] += times * np.fromiter(shape.on.values(), np.int64, len(shape.on))
        return rows

    def with_disks(self) -> set[Shape]:
        """The shapes of placed pods that mount in-tree disks of their own."""
        return self._with_disks

    def _zeros(self) -> RowCount:
        return RowCount(np.zeros(self._capacity, np.int64))
