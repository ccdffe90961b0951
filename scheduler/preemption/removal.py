"""Pods that are thought away from rows, as the counts that filters ask for.

Nothing is taken out of the snapshot: each row is judged with its own removed pods subtracted, while
the pods of all others are there, as upstream's dry run does node by node.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cluster.state.host_ports import HostPort
from cluster.state.pod_index import PodQuery, Shape, conflicting
from cluster.state.pod_terms import Term
from cluster.state.records import PodRecord
from cluster.state.snapshot import Ints, Snapshot


class AllBelow:
    """All pods below a priority are removed (`filters.common.plugin.Removed`)."""

    def __init__(self, snapshot: Snapshot, rows: NDArray[np.intp], priority: int) -> None:
        self._snapshot, self.rows, self._priority = snapshot, rows, priority

    def requested(self, resource: str) -> Ints:
        return self._snapshot.ledger.requested_below(self._priority, resource)[self.rows]

    def matching(self, query: PodQuery) -> Ints:
        return self._snapshot.index.count(replace(query, below=self._priority))[self.rows]

    def with_term(self, term: Term) -> Ints:
        return self._snapshot.index.with_term_below(term, self._priority)[self.rows]

    def with_port(self, port: HostPort) -> Ints:
        return self._snapshot.index.ports_below(port, self._priority)[self.rows]


@dataclass(slots=True)
class _Count:
    """How many of each row's removed pods meet `test`, which is asked once a shape."""

    test: Callable[[Shape], int]
    numbers: Ints
    kept: dict[Shape, int] = field(default_factory=dict)

    def add(self, index: int, shape: Shape, change: int) -> None:
        number = self.kept.get(shape)
        if number is None:
            number = self.kept[shape] = self.test(shape)
        if number:
            self.numbers[index] += change * number


class Removal:
    """Chosen pods are removed; they come and go one by one (`filters.common.plugin.Removed`)."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = np.array(rows, np.intp)
        self._requested: dict[str, Ints] = {}
        self._shapes: list[Counter[Shape]] = [Counter() for _ in rows]
        self._counts: dict[Hashable, _Count] = {}

    def remove(self, index: int, record: PodRecord) -> None:
        """Think the pod away from the row at `index` of `rows`."""
        self._change(index, record, +1)

    def put_back(self, index: int, record: PodRecord) -> None:
        self._change(index, record, -1)

    def _change(self, index: int, record: PodRecord, change: int) -> None:
        for name, amount in record.requests.items():
            column = self._requested.get(name)
            if column is None:
                column = self._requested[name] = np.zeros(len(self.rows), np.int64)
            column[index] += change * amount
        self._shapes[index][record.shape] += change
        for count in self._counts.values():
            count.add(index, record.shape, change)

    def requested(self, resource: str) -> Ints:
        column = self._requested.get(resource)
        return np.zeros(len(self.rows), np.int64) if column is None else column

    def matching(self, query: PodQuery) -> Ints:
        return self._count(query, lambda shape: int(query.matches(shape)))

    def with_term(self, term: Term) -> Ints:
        return self._count(term, lambda shape: shape.terms.count(term))

    def with_port(self, port: HostPort) -> Ints:
        return self._count(port, lambda shape: conflicting(port, shape))

    def _count(self, key: Hashable, test: Callable[[Shape], int]) -> Ints:
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count(test, np.zeros(len(self.rows), np.int64))
            for index, shapes in enumerate(self._shapes):
                for shape, number in shapes.items():
                    count.add(index, shape, number)
        return count.numbers
