"""Nodes as columns: one row a node, one NumPy array a property.

`version` grows with every change that a filter or a score could see, and each row has the version
at which it last changed, so that a kept result is brought up to date by computing the changed rows
again. `nodes_version` grows when nodes come or go, `labels_version` with their labels."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Flag, auto
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from cluster.objects.core import Labels, Node, Taint
from cluster.objects.requests import CPU, EPHEMERAL_STORAGE, MEMORY, PODS, amounts
from cluster.state.columns import CountedInterner, LabelColumn, ResourceColumn, RowJournal
from cluster.state.images import ImageIndex
from cluster.state.view import Ids, Rows, View

FIRST_CAPACITY = 64
NATIVE = (CPU, MEMORY, EPHEMERAL_STORAGE, PODS)

Scalar = TypeVar("Scalar", bound=np.generic)


class Change(Flag):
    """What an update of a node changed, as far as scheduling can see."""

    NONE = 0
    ADDED = auto()
    REMOVED = auto()
    ALLOCATABLE = auto()
    LABELS = auto()
    TAINTS = auto()
    FEATURES = auto()


class NodeColumns:
    """All nodes. A row whose node is removed stays until nothing uses it (`_occupied`)."""

    def __init__(self) -> None:
        self.version = 0
        self.nodes_version = self.labels_version = 0
        self.nodes_touched = 0
        """The version at which a node itself (not its pods) last changed."""
        self.names: list[str] = []
        self.taint_sets: CountedInterner[tuple[Taint, ...]] = CountedInterner()
        self.feature_sets: CountedInterner[frozenset[str]] = CountedInterner()
        self.images = ImageIndex()
        self.node_count = 0
        self._rows: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        self._free: list[int] = []
        self._nodes: list[Node | None] = []
        self._labelled: dict[str, dict[str, list[int]]] = {}
        self._labelled_topology = (-1, -1)
        # The columns, `capacity` long. Plugins read them by a View.
        self.labels: dict[str, LabelColumn] = {}
        self.resources: dict[str, ResourceColumn] = {}
        self.valid = np.zeros(FIRST_CAPACITY, np.bool_)
        self.unschedulable = np.zeros(FIRST_CAPACITY, np.bool_)
        self.taint_set = np.zeros(FIRST_CAPACITY, np.int32)
        self.feature_set = np.zeros(FIRST_CAPACITY, np.int32)
        self.nothing = np.zeros(FIRST_CAPACITY, np.int64)
        """Of a resource that nobody offers or asks for."""
        self._row_versions = np.zeros(FIRST_CAPACITY, np.int64)
        self._journal = RowJournal()
        self._undo: list[tuple[int, int]] | None = None
        """(row, its version before) of every change, while a question is asked."""
        for name in NATIVE:
            # Never given back: there is always one more user.
            self._resource(name).users = 1

    # -- reading ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Rows in use, holes of removed nodes included: the length of every array."""
        return len(self.names)

    def view(self, rows: Rows | None = None) -> "View":
        """All rows, or the given ones, as the arrays that plugins read."""
        return View(self, slice(0, len(self.names)) if rows is None else rows)

    def changed_since(self, version: int) -> NDArray[np.intp]:
        """Rows that changed after `version`."""
        rows = self._journal.since(version, self.version)
        if rows is not None:
            count = len(self.names)
            return np.array(sorted(row for row in rows if row < count), np.intp)
        return np.flatnonzero(self._row_versions[: len(self.names)] > version)

    @property
    def asking(self) -> bool:
        """Whether a question changes the columns for now (`versions_kept`): nothing may be kept by
        version meanwhile."""
        return self._undo is not None

    @property
    def resource_names(self) -> list[str]:
        """Resources that some node offers or some pod on a node asks for."""
        return list(self.resources)

    def label_values(self, key: str) -> CountedInterner[str]:
        """The values that nodes carry of this label, by the numbers in `View.label`."""
        column = self.labels.get(key)
        return _NO_VALUES if column is None else column.values

    @property
    def rows_by_name(self) -> Mapping[str, int]:
        """Row of every name that is a node now. Not to be written to."""
        return self._by_name

    def row(self, node: str) -> int | None:
        """The node's row; None where there is no such node."""
        return self._by_name.get(node)

    @property
    def capacity(self) -> int:
        """The length of every column, rows not in use included."""
        return len(self.valid)

    @property
    def topology(self) -> tuple[int, int]:
        """Changes with every node that comes or goes, and with every label of one."""
        return self.nodes_version, self.labels_version

    def with_label(self, key: str, value: str) -> Sequence[int]:
        """Rows of the nodes that carry the label."""
        if self._labelled_topology != self.topology:
            self._labelled_topology = self.topology
            self._labelled.clear()
        rows = self._labelled.get(key)
        if rows is None:
            rows = self._labelled[key] = {}
            for row, node in enumerate(self._nodes):
                own = node.metadata.labels.get(key) if node and node.metadata.labels else None
                if own is not None:
                    rows.setdefault(own, []).append(row)
        return rows.get(value, ())

    def node(self, name: str) -> Node | None:
        row = self._rows.get(name)
        return None if row is None else self._nodes[row]

    # -- changes ---------------------------------------------------------------------------

    def set_node(self, node: Node) -> Change:
        """Add or update a node; says what changed for scheduling. Raises QuantityError."""
        # Parsed first: a node that cannot be read must leave the row as it was.
        offered = amounts(node.status.allocatable)
        row = self._claim_row(node.metadata.name)
        old = self._nodes[row]
        change = Change.NONE
        if old is None:
            change = Change.ADDED
            self.node_count += 1
            self.nodes_version += 1
            self.valid[row] = True
            self._by_name[node.metadata.name] = row
        if old is None or offered != amounts(old.status.allocatable):
            change |= Change.ALLOCATABLE
            self._set_allocatable(row, offered)
        if old is None or node.metadata.labels != old.metadata.labels:
            change |= Change.LABELS
            self._set_labels(row, old.metadata.labels if old else None, node.metadata.labels)
        if old is None or node.spec != old.spec:
            change |= Change.TAINTS
            self.unschedulable[row] = node.spec.unschedulable
            self._put(self.taint_sets, self.taint_set, row, tuple(node.spec.taints or ()))
        if old is None or node.status.declared_features != old.status.declared_features:
            change |= Change.FEATURES
            features = frozenset(node.status.declared_features or ())
            self._put(self.feature_sets, self.feature_set, row, features)
        self.images.set(row, node.status.images)
        self._nodes[row] = without_images(node)
        if change:
            self._touch_node(row)
        return change

    def remove_node(self, name: str) -> Change:
        """Forget a node. Pods still on it keep their record until their own deletion comes."""
        row = self.row(name)
        if row is None:
            return Change.NONE
        node = self._nodes[row]
        self._set_labels(row, node.metadata.labels if node else None, None)
        self._set_allocatable(row, {})
        del self._by_name[name]
        self.valid[row] = self.unschedulable[row] = False
        self._put(self.taint_sets, self.taint_set, row, None)
        self._put(self.feature_sets, self.feature_set, row, None)
        self.images.set(row, None)
        self._nodes[row] = None
        self.node_count -= 1
        self.nodes_version += 1
        self._touch_node(row)
        self._release_row(row)
        return Change.REMOVED

    @contextmanager
    def versions_kept(self) -> Iterator[None]:
        """For a body that undoes all that it does: nothing kept by version has to be computed again
        afterwards."""
        outer, version = self._undo, self.version
        undo: list[tuple[int, int]] = []
        self._undo = undo
        try:
            yield
        finally:
            for row, before in reversed(undo):
                self._row_versions[row] = before
            self._undo, self.version = outer, version
            self._journal.restored(version)

    # -- what is kept beside the nodes -----------------------------------------------------

    def _occupied(self, row: int) -> bool:
        """Whether the row is needed although its node is removed."""
        return False

    def _extend(self) -> None:
        """A row was added at the end."""

    def _shrink(self) -> None:
        """The last row was dropped."""

    # -- inside ----------------------------------------------------------------------------

    def _touch(self, row: int) -> None:
        self.version += 1
        if self._undo is not None:
            self._undo.append((row, int(self._row_versions[row])))
        self._row_versions[row] = self.version
        self._journal.add(self.version, row)

    def _touch_node(self, row: int) -> None:
        self._touch(row)
        self.nodes_touched = self.version

    def _add_requested(self, name: str, row: int, amount: int) -> None:
        column = self._resource(name)
        column.take(row, amount)
        if not column.users:
            del self.resources[name]

    def _resource(self, name: str) -> ResourceColumn:
        """The resource's column, made on first sight."""
        column = self.resources.get(name)
        if column is None:
            made = ResourceColumn.zeros(len(self.valid), name in (CPU, MEMORY))
            column = self.resources[name] = made
        return column

    def _set_allocatable(self, row: int, offered: Mapping[str, int]) -> None:
        for name in [name for name in self.resources if name not in offered]:
            column = self.resources[name]
            column.offer(row, 0)
            if not column.users:
                del self.resources[name]
        for name, amount in offered.items():
            if amount or name in self.resources:
                self._resource(name).offer(row, amount)

    def _set_labels(self, row: int, old: Labels | None, new: Labels | None) -> None:
        self.labels_version += 1
        new = new or {}
        for key in old or ():
            if key not in new:
                self.labels[key].set(row, None)
                if self.labels[key].empty:
                    del self.labels[key]
        for key, value in new.items():
            column = self.labels.get(key)
            if column is None:
                column = self.labels[key] = LabelColumn(np.zeros(len(self.valid), np.int32))
            column.set(row, value)

    @staticmethod
    def _put(sets: CountedInterner[Any], column: Ids, row: int, value: Any) -> None:
        old = int(column[row])
        column[row] = sets.acquire(value) if value else 0
        sets.release(old)

    def _claim_row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is not None:
            return row
        while self._free and self._free[0] >= len(self.names):
            heapq.heappop(self._free)
        if self._free:
            # The lowest first: rows at the end stay free, and are given back.
            row = heapq.heappop(self._free)
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
            self._extend()
            self._nodes.append(None)
            if row == len(self.valid):
                self._grow()
            self.nodes_version += 1
            self._touch_node(row)
        self._rows[name] = row
        return row

    def _release_row(self, row: int) -> None:
        """Free a row that has neither a node nor pods."""
        if not self.valid[row] and not self._occupied(row):
            self._rows.pop(self.names[row], None)
            self.names[row] = ""
            heapq.heappush(self._free, row)
            while self.names and not self.names[-1]:
                self.names.pop()
                self._shrink()
                self._nodes.pop()
                # An array by row is shorter now than those that are kept.
                self.nodes_version += 1
                self._touch_node(row)

    def _grow(self) -> None:
        more = len(self.valid)

        def longer(column: NDArray[Scalar]) -> NDArray[Scalar]:
            return np.pad(column, [(0, 0)] * (column.ndim - 1) + [(0, more)])

        for resource in self.resources.values():
            resource.grow(len(self.valid) + more)
        for label in self.labels.values():
            label.rows = longer(label.rows)
        self.valid, self.unschedulable = longer(self.valid), longer(self.unschedulable)
        self.taint_set = longer(self.taint_set)
        self.feature_set = longer(self.feature_set)
        self._row_versions, self.nothing = longer(self._row_versions), longer(self.nothing)


def without_images(node: Node) -> Node:
    """The node as it is kept: its images are in the index."""
    if node.status.images is None:
        return node
    status = msgspec.structs.replace(node.status, images=None)
    return msgspec.structs.replace(node, status=status)


_NO_VALUES: CountedInterner[str] = CountedInterner()
