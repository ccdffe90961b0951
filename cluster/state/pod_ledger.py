"""What pods hold on nodes: their records, and sums of what they ask for.

The ledger knows rows, not nodes: `Snapshot` says on which row a pod is, and how many rows there
are."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from cluster.state.records import PodRecord
from cluster.state.view import Ints

_NOTHING: Counter[str] = Counter()


class PodLedger:
    """Every pod that holds room on a node, by key, by row, by priority and by namespace."""

    def __init__(self, capacity: int) -> None:
        """`capacity` is the length of every column."""
        self.records: dict[str, PodRecord] = {}
        self.members: Counter[str] = Counter()
        """Pods by PodGroup."""
        self._capacity = capacity
        self._on_row: list[dict[str, PodRecord]] = []
        self._priorities: Counter[int] = Counter()
        self._in_namespace: dict[str, Counter[str]] = {}
        self._requested_at: dict[int, dict[str, Ints]] = {}
        """By priority and resource, what the pods of exactly that priority ask for, by row."""
        self._askers: Counter[tuple[int, str]] = Counter()
        """How many pods of a priority ask for a resource."""

    # -- reading ---------------------------------------------------------------------------

    @property
    def least_priority(self) -> int:
        """The lowest priority of all pods; the highest possible with none."""
        return min(self._priorities, default=2**31)

    def requested_below(self, priority: int, resource: str) -> Ints:
        """What pods of a lower priority ask for of the resource, by row. Not to be written to."""
        columns = [
            columns[resource]
            for of, columns in self._requested_at.items()
            if of < priority and resource in columns
        ]
        rows = len(self._on_row)
        if len(columns) == 1:
            return columns[0][:rows]
        total: Ints = np.sum(columns, axis=0) if columns else np.zeros(rows, np.int64)
        return total[:rows]

    def requested_in(self, namespace: str) -> Mapping[str, int]:
        """What the namespace's pods ask for, by resource. Not to be written to."""
        return self._in_namespace.get(namespace, _NOTHING)

    def on_row(self, row: int) -> Mapping[str, PodRecord]:
        """The row's pods by key. Not to be written to."""
        return self._on_row[row]

    # -- writing ---------------------------------------------------------------------------

    def add(self, record: PodRecord, row: int) -> None:
        self.records[record.key] = record
        self._on_row[row][record.key] = record
        self._priorities[record.priority] += 1
        if record.group:
            self.members[record.group] += 1
        self._count(row, record, +1)

    def remove(self, record: PodRecord, row: int) -> None:
        del self.records[record.key], self._on_row[row][record.key]
        self._count(row, record, -1)
        if record.group:
            self.members[record.group] -= 1
            if not self.members[record.group]:
                del self.members[record.group]
        self._priorities[record.priority] -= 1
        if not self._priorities[record.priority]:
            del self._priorities[record.priority]
            self._requested_at.pop(record.priority, None)

    def add_row(self) -> None:
        """There is one more row, without pods, after the last one."""
        self._on_row.append({})

    def drop_last_row(self) -> None:
        self._on_row.pop()

    def grow(self, capacity: int) -> None:
        """Make every column `capacity` long."""
        for columns in self._requested_at.values():
            for name, column in columns.items():
                columns[name] = np.pad(column, (0, capacity - len(column)))
        self._capacity = capacity

    def _count(self, row: int, record: PodRecord, sign: int) -> None:
        sums = self._in_namespace.setdefault(record.shape.namespace, Counter())
        of_priority = self._requested_at.setdefault(record.priority, {})
        for name, amount in record.requests.items():
            sums[name] += sign * amount
            if not sums[name]:
                del sums[name]
            column = of_priority.get(name)
            if column is None:
                column = of_priority[name] = np.zeros(self._capacity, np.int64)
            column[row] += sign * amount
            asker = record.priority, name
            self._askers[asker] += sign
            if not self._askers[asker]:
                del self._askers[asker], of_priority[name]
        if not sums:
            del self._in_namespace[record.shape.namespace]
