"""The cluster as columns: one row a node, one NumPy array a property.

Events change rows in place between scheduling cycles, never during one. `version` grows with
every change that a filter or a score could see, and `row_versions` says when each row last
changed, so that a cached result is brought up to date by computing the changed rows again.
`nodes_version` grows when nodes come or go, `labels_version` with their labels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Flag, auto
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.images import ImageIndex
from cluster.interner import Interner
from cluster.objects import Labels, Node, Pod, Taint
from cluster.owners import Owners
from cluster.pod_index import Meeting, PodIndex
from cluster.records import PodAmounts, PodRecord, amounts_of
from cluster.related import PodDisruptionBudget, PodGroup
from cluster.requests import CPU, EPHEMERAL_STORAGE, MEMORY, PODS, amounts
from cluster.storage import Storage
from cluster.view import Bools as Bools
from cluster.view import Ids as Ids
from cluster.view import Ints as Ints
from cluster.view import Rows
from cluster.view import View as View

UNSCHEDULABLE_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")

_FIRST_CAPACITY = 64

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


class PodChange(Flag):
    """What an update of a pod on a node changed for others."""

    NONE = 0
    REQUESTS = auto()
    """Room was taken or given back, the pod's own placement included."""
    LOOK = auto()
    """What affinity and spread of others see of it."""


class Snapshot:
    """All nodes and what runs on them. Not thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        self.version = 0
        self.nodes_version = self.labels_version = 0
        self.names: list[str] = []
        self.resources: Interner[str] = Interner()
        self.label_values: Interner[str] = Interner()
        self.taint_sets: Interner[tuple[Taint, ...]] = Interner()
        self.feature_sets: Interner[frozenset[str]] = Interner()
        self.pods: dict[str, PodRecord] = {}
        self.assumed: dict[str, PodRecord] = {}
        self._priorities: Counter[int] = Counter()
        self.budgets: dict[str, PodDisruptionBudget] = {}
        self.groups: dict[str, PodGroup] = {}
        self.members: Counter[str] = Counter()
        """Pods on nodes by PodGroup."""
        self.namespaces: dict[str, Labels] = {}
        self.index = PodIndex(_FIRST_CAPACITY)
        self.storage = Storage(self, self.index.claim_users)
        self.index.on_claim_use = self.storage.attached.used
        self.images = ImageIndex()
        self.owners = Owners()
        self.node_count = 0
        self._rows: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        self._free: list[int] = []
        self._pods_on: list[dict[str, PodRecord]] = []
        self._nodes: list[Node | None] = []
        self._label_columns: dict[str, Ids] = {}
        self._labelled: dict[str, dict[str, list[int]]] = {}
        self._labelled_topology = (-1, -1)
        self._allocatable: list[Ints] = []
        self._requested: list[Ints] = []
        self._requested_at: dict[int, dict[str, Ints]] = {}
        """By priority and resource, what the pods of exactly that priority ask for, by row."""
        self._nonzero = np.zeros((2, _FIRST_CAPACITY), np.int64)
        self._valid = np.zeros(_FIRST_CAPACITY, np.bool_)
        self._unschedulable = np.zeros(_FIRST_CAPACITY, np.bool_)
        self._taint_set = np.zeros(_FIRST_CAPACITY, np.int32)
        self._feature_set = np.zeros(_FIRST_CAPACITY, np.int32)
        self._row_versions = np.zeros(_FIRST_CAPACITY, np.int64)
        self._nothing = np.zeros(_FIRST_CAPACITY, np.int64)
        for name in (CPU, MEMORY, EPHEMERAL_STORAGE, PODS):
            self._resource(name)

    # -- reading ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Rows in use, holes of removed nodes included: the length of every array."""
        return len(self.names)

    def view(self, rows: Rows | None = None) -> "View":
        """All rows, or the given ones, as the arrays that plugins read."""
        return View(self, slice(0, len(self.names)) if rows is None else rows)

    def changed_since(self, version: int) -> NDArray[np.intp]:
        """Rows that changed after `version`."""
        return np.flatnonzero(self._row_versions[: len(self.names)] > version)

    @property
    def rows_by_name(self) -> Mapping[str, int]:
        """Row of every name that is a node now. Not to be written to."""
        return self._by_name

    def row(self, node: str) -> int:
        """The node's row, or -1 where there is no such node."""
        return self._by_name.get(node, -1)

    @property
    def capacity(self) -> int:
        """The length of every column, rows not in use included."""
        return len(self._valid)

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
        row = self._rows.get(name, -1)
        return self._nodes[row] if row >= 0 else None

    def terms_meeting(self, pod: Pod) -> list[Meeting]:
        """Affinity terms of pods on nodes that mean this pod, with how many have them by row."""
        return self.index.terms_meeting(pod, self.namespaces.get(pod.metadata.namespace, {}))

    # -- nodes -----------------------------------------------------------------------------

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
            self._valid[row] = True
            self._by_name[node.metadata.name] = row
        if old is None or offered != amounts(old.status.allocatable):
            change |= Change.ALLOCATABLE
            self._set_allocatable(row, offered)
        if old is None or node.metadata.labels != old.metadata.labels:
            change |= Change.LABELS
            self._set_labels(row, old.metadata.labels if old else None, node.metadata.labels)
        if old is None or node.spec != old.spec:
            change |= Change.TAINTS
            self._unschedulable[row] = node.spec.unschedulable
            taints = tuple(node.spec.taints or ())
            self._taint_set[row] = self.taint_sets.id(taints) if taints else 0
        if old is None or node.status.declared_features != old.status.declared_features:
            change |= Change.FEATURES
            features = frozenset(node.status.declared_features or ())
            self._feature_set[row] = self.feature_sets.id(features) if features else 0
        if old is None or node.status.images != old.status.images:
            self.images.set(row, old.status.images if old else None, node.status.images)
        self._nodes[row] = node
        if change:
            self._touch(row)
        if Change.ADDED in change:
            self.storage.attached.node_added(node.metadata.name, row)
        return change

    def remove_node(self, name: str) -> Change:
        """Forget a node. Pods still on it keep their record until their own deletion comes."""
        row = self.row(name)
        if row < 0:
            return Change.NONE
        node = self._nodes[row]
        self._set_labels(row, node.metadata.labels if node else None, None)
        self._set_allocatable(row, {})
        del self._by_name[name]
        self._valid[row] = self._unschedulable[row] = False
        self._taint_set[row] = self._feature_set[row] = 0
        self.images.set(row, node.status.images if node else None, None)
        self._nodes[row] = None
        self.node_count -= 1
        self.nodes_version += 1
        self._touch(row)
        self.storage.attached.node_removed(name, row)
        self._release_row(row)
        return Change.REMOVED

    # -- pods ------------------------------------------------------------------------------

    def assume(self, pod: Pod, needs: PodAmounts, row: int) -> None:
        """Count the pod on the node before the API server knows: its bind is on the way."""
        record = self._record(pod, needs, self.names[row])
        record.assumed = True
        self._place(record, row)
        self.assumed[record.key] = record

    def forget(self, key: str, uid: str) -> bool:
        """Undo `assume` for a bind that failed; returns whether that freed anything.

        A pod that was confirmed since stays, and so does one made anew under the same name.
        """
        record = self.assumed.get(key)
        return record is not None and record.uid == uid and self.remove_pod(key)

    def bound(self, key: str, uid: str, deadline: float) -> None:
        """The bind succeeded: the assumption holds until confirmed, at the latest `deadline`."""
        record = self.assumed.get(key)
        if record is not None and record.uid == uid:
            record.deadline = deadline

    def holds(self, key: str, uid: str) -> bool:
        """Whether this very pod has a node already, assumed or confirmed."""
        record = self.pods.get(key)
        return record is not None and record.uid == uid

    def expire(self, now: float) -> list[str]:
        """Drop assumptions whose deadline passed unconfirmed; returns their keys."""
        late = [k for k, r in self.assumed.items() if r.deadline is not None and r.deadline < now]
        for key in late:
            self.remove_pod(key)
        return late

    def set_pod(self, pod: Pod) -> PodChange:
        """A bound pod as the API server has it: confirms, moves, resizes or adds it.

        Raises QuantityError.
        """
        key = pod.key
        needs = amounts_of(pod)
        known = self.pods.get(key)
        if known is not None:
            self.assumed.pop(key, None)
            known.assumed, known.deadline = False, None
            known.start_time = pod.status.start_time
            known.preempted = _preempted(pod)
            same = known.node == pod.spec.node_name and known.requests == needs.requests
            same = same and known.uid == pod.metadata.uid and known.nonzero == needs.nonzero
            change = PodChange.NONE if same else PodChange.REQUESTS
            if known.shape is not self.index.shape(pod):
                change |= PodChange.LOOK
            if not change:
                return change
            self.remove_pod(key)
        else:
            change = PodChange.REQUESTS | PodChange.LOOK
        record = self._record(pod, needs, pod.spec.node_name)
        self._place(record, self._claim_row(record.node))
        return change

    def remove_pod(self, key: str) -> bool:
        """Give back what the pod held. Returns whether it held anything."""
        record = self.pods.pop(key, None)
        self.assumed.pop(key, None)
        if record is None:
            return False
        row = self._rows[record.node]
        self._account(row, record, -1)
        self.index.remove(record.shape, row)
        if record.group:
            self.members[record.group] -= 1
            if not self.members[record.group]:
                del self.members[record.group]
        self._priorities[record.priority] -= 1
        if not self._priorities[record.priority]:
            del self._priorities[record.priority]
            del self._requested_at[record.priority]
        del self._pods_on[row][key]
        if not self._valid[row]:
            self._release_row(row)
        return True

    @property
    def least_priority(self) -> int:
        """The lowest priority of all pods on nodes; the highest possible with none."""
        return min(self._priorities, default=2**31)

    def requested_below(self, priority: int, resource: str) -> Ints:
        """What pods of a lower priority ask for of the resource, by row. Not to be written to."""
        columns = [
            columns[resource]
            for of, columns in self._requested_at.items()
            if of < priority and resource in columns
        ]
        if len(columns) == 1:
            return columns[0][: len(self.names)]
        total: Ints = np.sum(columns, axis=0) if columns else self._nothing
        return total[: len(self.names)]

    def pods_on(self, row: int) -> list[PodRecord]:
        """The pods that hold room on the row's node."""
        return list(self._pods_on[row].values())

    def versions(self) -> tuple[int, Ints]:
        """The version, and that of each row: for `restore_versions`."""
        return self.version, self._row_versions.copy()

    def restore_versions(self, kept: tuple[int, Ints]) -> None:
        """Everything is as it was then: nothing kept by version has to be computed again."""
        self.version, rows = kept
        self._row_versions[: len(rows)] = rows

    def put_back(self, record: PodRecord) -> None:
        """Undo a `remove_pod` that only asked "what if"."""
        self._place(record, self._claim_row(record.node))
        if record.assumed:
            self.assumed[record.key] = record

    # -- inside ----------------------------------------------------------------------------

    def _record(self, pod: Pod, needs: PodAmounts, node: str) -> PodRecord:
        return PodRecord(
            pod.key,
            pod.metadata.uid,
            node,
            pod.spec.priority,
            needs.requests,
            needs.nonzero,
            self.index.shape(pod),
            pod.status.start_time,
            pod.group,
            _preempted(pod),
        )

    def _place(self, record: PodRecord, row: int) -> None:
        if record.key in self.pods:
            self.remove_pod(record.key)
            row = self._claim_row(record.node)
        self.pods[record.key] = record
        self._pods_on[row][record.key] = record
        self._priorities[record.priority] += 1
        if record.group:
            self.members[record.group] += 1
        record.shape = self.index.place(record.shape, row)
        self._account(row, record, +1)

    def _account(self, row: int, record: PodRecord, sign: int) -> None:
        of_priority = self._requested_at.get(record.priority)
        if of_priority is None:
            of_priority = self._requested_at[record.priority] = {}
        for name, amount in record.requests.items():
            self._requested[self._resource(name)][row] += sign * amount
            column = of_priority.get(name)
            if column is None:
                column = of_priority[name] = np.zeros(len(self._valid), np.int64)
            column[row] += sign * amount
        self._nonzero[0, row] += sign * record.nonzero[0]
        self._nonzero[1, row] += sign * record.nonzero[1]
        self._touch(row)

    def _touch(self, row: int) -> None:
        self.version += 1
        self._row_versions[row] = self.version

    def _resource(self, name: str) -> int:
        """The resource's column, made on first sight."""
        column = self.resources.id(name) - 1
        if column == len(self._allocatable):
            capacity = len(self._valid)
            self._allocatable.append(np.zeros(capacity, np.int64))
            self._requested.append(np.zeros(capacity, np.int64))
        return column

    def _set_allocatable(self, row: int, offered: Mapping[str, int]) -> None:
        for column in self._allocatable:
            column[row] = 0
        for name, amount in offered.items():
            self._allocatable[self._resource(name)][row] = amount

    def _set_labels(self, row: int, old: Labels | None, new: Labels | None) -> None:
        self.labels_version += 1
        for key in old or ():
            self._label_columns[key][row] = 0
        for key, value in (new or {}).items():
            if key not in self._label_columns:
                self._label_columns[key] = np.zeros(len(self._valid), np.int32)
            self._label_columns[key][row] = self.label_values.id(value)

    def _claim_row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is not None:
            return row
        if self._free:
            row = self._free.pop()
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
            self._pods_on.append({})
            self._nodes.append(None)
            if row == len(self._valid):
                self._grow()
        self._rows[name] = row
        return row

    def _release_row(self, row: int) -> None:
        """Free a row that has neither a node nor pods."""
        if not self._valid[row] and not self._pods_on[row]:
            self._rows.pop(self.names[row], None)
            self.names[row] = ""
            self._free.append(row)

    def _grow(self) -> None:
        more = len(self._valid)

        def longer(column: NDArray[Scalar]) -> NDArray[Scalar]:
            return np.pad(column, [(0, 0)] * (column.ndim - 1) + [(0, more)])

        self._allocatable = [longer(column) for column in self._allocatable]
        self._requested = [longer(column) for column in self._requested]
        for columns in self._requested_at.values():
            columns.update({name: longer(column) for name, column in columns.items()})
        self._label_columns = {key: longer(c) for key, c in self._label_columns.items()}
        self._nonzero = longer(self._nonzero)
        self._valid, self._unschedulable = longer(self._valid), longer(self._unschedulable)
        self._taint_set = longer(self._taint_set)
        self._feature_set = longer(self._feature_set)
        self._row_versions, self._nothing = longer(self._row_versions), longer(self._nothing)
        self.index.grow(len(self._valid))
        self.storage.attached.grow(len(self._valid))


def _preempted(pod: Pod) -> bool:
    return any(
        c.type == "DisruptionTarget" and c.status == "True" and c.reason == "PreemptionByScheduler"
        for c in pod.status.conditions or ()
    )


def load(nodes: Iterable[Node], pods: Iterable[Pod]) -> Snapshot:
    """A snapshot of the given nodes and of the pods that run on them."""
    snapshot = Snapshot()
    for node in nodes:
        snapshot.set_node(node)
    for pod in pods:
        if pod.spec.node_name and not pod.terminal:
            snapshot.set_pod(pod)
    return snapshot
