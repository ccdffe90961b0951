"""Rows of a snapshot as the arrays that plugins read."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.objects.requests import CPU, MEMORY
from cluster.state.columns import LabelColumn, ResourceColumn
from cluster.state.records import PodAmounts

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = slice | NDArray[np.intp]


NONZERO = (CPU, MEMORY)
"""The order of `PodAmounts.nonzero`."""


class Columns(Protocol):
    """The columns of a snapshot, as views and what is kept for whole views read them
    (`NodeColumns`)."""

    valid: Bools
    unschedulable: Bools
    taint_set: Ids
    feature_set: Ids
    nothing: Ints
    version: int
    nodes_version: int
    nodes_touched: int

    @property
    def resources(self) -> Mapping[str, ResourceColumn]: ...

    @property
    def labels(self) -> Mapping[str, LabelColumn]: ...

    @property
    def asking(self) -> bool: ...

    def __len__(self) -> int: ...

    def view(self, rows: Rows | None = None) -> "View": ...

    def changed_since(self, version: int) -> NDArray[np.intp]: ...


class View:
    """Rows of a snapshot as arrays of one length. Whole views are the columns themselves."""

    __slots__ = ("_snapshot", "rows")

    def __init__(self, snapshot: Columns, rows: Rows) -> None:
        self._snapshot = snapshot
        self.rows = rows

    def __len__(self) -> int:
        rows = self.rows
        return rows.stop if isinstance(rows, slice) else len(rows)

    @property
    def whole(self) -> Columns | None:
        """The snapshot, where this is all of it as it is; else None."""
        return self._snapshot if isinstance(self.rows, slice) else None

    @property
    def valid(self) -> Bools:
        """Whether the row is a node (not the hole that a removed one left)."""
        return self._snapshot.valid[self.rows]

    @property
    def unschedulable(self) -> Bools:
        return self._snapshot.unschedulable[self.rows]

    @property
    def taint_set(self) -> Ids:
        """Number of the node's set of taints in `snapshot.taint_sets`; 0 with no taint."""
        return self._snapshot.taint_set[self.rows]

    @property
    def feature_set(self) -> Ids:
        """Number of the node's declared features in `snapshot.feature_sets`; 0 with none."""
        return self._snapshot.feature_set[self.rows]

    def allocatable(self, resource: str) -> Ints:
        """What the node offers: milli-CPU, bytes or counts."""
        column = self._snapshot.resources.get(resource)
        return (self._snapshot.nothing if column is None else column.allocatable)[self.rows]

    def requested(self, resource: str) -> Ints:
        """What the node's pods ask for, in the units of `allocatable`."""
        column = self._snapshot.resources.get(resource)
        return (self._snapshot.nothing if column is None else column.requested)[self.rows]

    def free(self, resource: str) -> Ints:
        """What is left of `allocatable`; less than 0 on a node that was overcommitted."""
        column = self._snapshot.resources.get(resource)
        return (self._snapshot.nothing if column is None else column.free)[self.rows]

    def short_nowhere(self, resource: str, amount: int) -> bool:
        """Whether it is known at once that every row has so much free; False says nothing."""
        column, snapshot = self._snapshot.resources.get(resource), self._snapshot
        return column is not None and column.short_nowhere(
            amount, len(snapshot), snapshot.nodes_version
        )

    def real(self, resource: str) -> tuple[Floats, Floats, Floats]:
        """(allocatable, requested, scored): the last as `requested`, for cpu and memory with
        upstream's defaults for containers that ask for nothing. Whole numbers, exact below 2^53."""
        column = self._snapshot.resources.get(resource)
        if column is None:
            nothing = np.zeros(len(self))
            return nothing, nothing, nothing
        offered, asked, scored = column.real
        return offered[self.rows], asked[self.rows], scored[self.rows]

    def offered_everywhere(self, resource: str) -> bool:
        """Whether every row of the snapshot is a node that offers some of it."""
        column = self._snapshot.resources.get(resource)
        return column is not None and column.offering == len(self._snapshot)

    def largest(self, resource: str) -> int:
        """An amount of the resource that no node of the cluster exceeds."""
        column = self._snapshot.resources.get(resource)
        return 0 if column is None else column.largest

    def label(self, key: str) -> Ids | None:
        """Number of the label's value in `snapshot.label_values(key)`, 0 where absent.

        None where no node has the label.
        """
        column = self._snapshot.labels.get(key)
        return None if column is None else column.rows[self.rows]

    def is_row(self, row: int | None) -> Bools:
        """Which of these rows is `row` of the snapshot (none for None)."""
        result: Bools
        if isinstance(self.rows, slice):
            result = np.zeros(len(self), np.bool_)
            if row is not None:
                result[row] = True
        else:
            result = self.rows == row
        return result


class PlacedView(View):
    """Rows as if so many more pods with these requests ran on them: `times` has one number a
    row."""

    __slots__ = ("_needs", "_times")

    def __init__(
        self,
        snapshot: Columns,
        rows: NDArray[np.intp],
        times: Ints | int,
        needs: PodAmounts,
    ) -> None:
        super().__init__(snapshot, rows)
        self._times, self._needs = times, needs

    def requested(self, resource: str) -> Ints:
        amount = self._needs.requests.get(resource, 0)
        return super().requested(resource) + self._times * amount

    def short_nowhere(self, resource: str, amount: int) -> bool:
        return False

    def free(self, resource: str) -> Ints:
        amount = self._needs.requests.get(resource, 0)
        return super().free(resource) - self._times * amount

    def real(self, resource: str) -> tuple[Floats, Floats, Floats]:
        offered, asked, scored = super().real(resource)
        amount = self._needs.requests.get(resource, 0)
        more = amount
        if resource in NONZERO:
            more = self._needs.nonzero[NONZERO.index(resource)]
        return offered, asked + self._times * amount, scored + self._times * more
