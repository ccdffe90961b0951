"""The cluster as it is: nodes as columns, the pods on them, storage, and what else decides.

Events change it in place between scheduling cycles, never during one.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Flag, auto

from cluster.objects.api_objects import PodDisruptionBudget, PodGroup
from cluster.objects.core import Labels, Node, Pod, Taint
from cluster.objects.requests import CPU, MEMORY
from cluster.state.default_selectors import DefaultSelectors
from cluster.state.node_columns import FIRST_CAPACITY, NodeColumns
from cluster.state.node_columns import Change as Change
from cluster.state.node_columns import without_images as without_images
from cluster.state.pod_index import MatchingTerm, PodIndex
from cluster.state.pod_ledger import PodLedger
from cluster.state.records import PodAmounts, PodRecord, amounts_of
from cluster.state.storage import Storage
from cluster.state.view import Bools as Bools
from cluster.state.view import Floats as Floats
from cluster.state.view import Ids as Ids
from cluster.state.view import Ints as Ints
from cluster.state.view import View as View

TOPOLOGY_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")
UNSCHEDULABLE_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")


class PodChange(Flag):
    """What an update of a pod on a node changed for others."""

    NONE = 0
    REQUESTS = auto()
    """Room was taken or given back, the pod's own placement included."""
    LOOK = auto()
    """What affinity and spread of others see of it."""


class Snapshot(NodeColumns):
    """All nodes (the columns that it inherits) and the ledger of the pods that run on them. Not
    thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        super().__init__()
        self.last_assumed: tuple[int, int, PodAmounts | None] = (0, -1, None)
        """(version, row, what it asks for) of the latest `assume`."""
        self.ledger = PodLedger(FIRST_CAPACITY)
        self.pods = self.ledger.records
        self.assumed: dict[str, PodRecord] = {}
        self.budgets: dict[str, PodDisruptionBudget] = {}
        self.groups: dict[str, PodGroup] = {}
        self.namespaces: dict[str, Labels] = {}
        self.default_selectors = DefaultSelectors()
        self.index = PodIndex(FIRST_CAPACITY)
        self.storage = Storage(self, self.index.claim_users)
        self.index.on_claim_use = self.storage.attached.used
        self._labels_pods = False
        """The API server labels pods with their node's topology; what is assumed has them at
        once."""

    def matching_terms(self, pod: Pod) -> list[MatchingTerm]:
        """Affinity terms of pods on nodes that mean this pod, with how many have them by row."""
        return self.index.matching_terms(pod, self.namespaces.get(pod.metadata.namespace, {}))

    # -- nodes -----------------------------------------------------------------------------

    def set_node(self, node: Node) -> Change:
        """Add or update a node; says what changed for scheduling. Raises QuantityError."""
        change, name = super().set_node(node), node.metadata.name
        if Change.ADDED in change:
            self.storage.attached.node_added(name, self._by_name[name])
        return change

    def remove_node(self, name: str) -> Change:
        """Forget a node. Pods still on it keep their record until their own deletion comes."""
        row = self.row(name)
        change = super().remove_node(name)
        if change and row is not None:
            self.storage.attached.node_removed(name, row)
        return change

    # -- pods ------------------------------------------------------------------------------

    def assume(self, pod: Pod, needs: PodAmounts, row: int) -> None:
        """Count the pod on the node before the API server knows: its bind is on the way."""
        more = self._topology_labels(row) if self._labels_pods else ()
        record = self._record(pod, needs, self.names[row], more)
        record.assumed = True
        self._place(record, row)
        self.assumed[record.key] = record
        self.last_assumed = self.version, row, needs

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
        existing = self.pods.get(key)
        if existing is not None:
            self.assumed.pop(key, None)
            existing.assumed, existing.deadline = False, None
            existing.start_time = pod.status.start_time
            existing.preempted = _preempted(pod)
            same = existing.node == pod.spec.node_name and existing.requests == needs.requests
            same = same and existing.uid == pod.metadata.uid and existing.nonzero == needs.nonzero
            change = PodChange.NONE if same else PodChange.REQUESTS
            if not self._same_look(existing, pod):
                change |= PodChange.LOOK
                self._learn(existing, pod)
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
        record = self.pods.get(key)
        self.assumed.pop(key, None)
        if record is None:
            return False
        row = self._rows[record.node]
        self.ledger.remove(record, row)
        self._count(row, record, -1)
        self.index.remove(record.shape, row)
        if not self.valid[row]:
            self._release_row(row)
        return True

    def pods_on(self, row: int) -> list[PodRecord]:
        """The pods that hold room on the row's node."""
        return list(self.ledger.on_row(row).values())

    def put_back(self, record: PodRecord) -> None:
        """Undo a `remove_pod` that only asked "what if"."""
        self._place(record, self._claim_row(record.node))
        if record.assumed:
            self.assumed[record.key] = record

    @contextmanager
    def versions_kept(self) -> Iterator[None]:
        assumed = self.last_assumed
        try:
            with super().versions_kept():
                yield
        finally:
            self.last_assumed = assumed

    # -- inside ----------------------------------------------------------------------------

    def _same_look(self, record: PodRecord, pod: Pod) -> bool:
        """Of what others see of a pod, only its labels and its end can change while it lives."""
        shape, meta = record.shape, pod.metadata
        if record.uid == meta.uid and shape.labels == (meta.labels or {}):
            return shape.terminating is (meta.deletion_timestamp is not None)
        return shape is self.index.shape(pod)

    def _learn(self, record: PodRecord, pod: Pod) -> None:
        """Whether this API server labels pods with their node's topology as it binds them
        (KEP-4742)."""
        row = self.row(pod.spec.node_name)
        if record.uid == pod.metadata.uid and row is not None:
            added = dict(self._topology_labels(row))
            labels = pod.metadata.labels or {}
            if added and labels == {**record.shape.labels, **added}:
                self._labels_pods = True

    def _topology_labels(self, row: int) -> tuple[tuple[str, str], ...]:
        node = self._nodes[row]
        labels = (node.metadata.labels if node is not None else None) or {}
        return tuple((key, labels[key]) for key in TOPOLOGY_LABELS if key in labels)

    def _record(
        self,
        pod: Pod,
        needs: PodAmounts,
        node: str,
        more: tuple[tuple[str, str], ...] = (),
    ) -> PodRecord:
        return PodRecord(
            pod.key,
            pod.metadata.uid,
            node,
            pod.spec.priority,
            needs.requests,
            needs.nonzero,
            self.index.shape(pod, more),
            pod.status.start_time,
            pod.group,
            _preempted(pod),
        )

    def _place(self, record: PodRecord, row: int) -> None:
        if record.key in self.pods:
            self.remove_pod(record.key)
            row = self._claim_row(record.node)
        record.shape = self.index.place(record.shape, row)
        self.ledger.add(record, row)
        self._count(row, record, +1)

    def _count(self, row: int, record: PodRecord, sign: int) -> None:
        for name, amount in record.requests.items():
            self._add_requested(name, row, sign * amount)
        self.resources[CPU].score_as(row, sign * record.nonzero[0])
        self.resources[MEMORY].score_as(row, sign * record.nonzero[1])
        self._touch(row)

    def _occupied(self, row: int) -> bool:
        return bool(self.ledger.on_row(row))

    def _extend(self) -> None:
        self.ledger.add_row()

    def _shrink(self) -> None:
        self.ledger.drop_last_row()

    def _grow(self) -> None:
        super()._grow()
        self.ledger.grow(self.capacity)
        self.index.grow(self.capacity)
        self.storage.attached.grow(self.capacity)


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
