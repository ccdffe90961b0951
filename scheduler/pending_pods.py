"""From the API server's objects to the queue, and to all that is kept by pod."""

import functools
import operator
from collections.abc import Callable, Iterable

from cluster.objects.core import Pod
from cluster.state.snapshot import PodChange, Snapshot
from filters.common.plugin import Event, PodInfo
from scheduler.binding.object_waiters import ObjectWaiters
from scheduler.config.pod_info import changed_for_scheduling
from scheduler.joint.gangs import Gangs
from scheduler.joint.pipelines import Pipelines
from scheduler.queue.events import (
    ASSIGNED_POD_ADD,
    ASSIGNED_POD_DELETE,
    ClusterEvent,
    assigned_pod_update,
)
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import SchedulingQueue

_POD_UPDATES = {PodChange.REQUESTS: Event.POD_GONE, PodChange.LOOK: Event.POD_LABEL}


class PendingPods:
    """Keeps the queue true to the API server: a ClusterListener.

    `admit` reads a pending pod, reports what is wrong with it and registers it with its gang or
    pipeline; where it returns None the pod is gated. `ours` says by schedulerName whose a pod is;
    `forget` drops what else is kept of a deleted pod."""

    def __init__(
        self,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        nominator: Nominator,
        gangs: Gangs,
        pipelines: Pipelines,
        waiters: ObjectWaiters,
        *,
        ours: Callable[[str], bool],
        admit: Callable[[Pod], PodInfo | None],
        forget: Callable[[Pod], None],
    ) -> None:
        self._snapshot, self._queue, self._nominator = snapshot, queue, nominator
        self._gangs, self._pipelines, self._waiters = gangs, pipelines, waiters
        self._ours, self._admit, self._forget = ours, admit, forget

    def adopt(self, pods: Iterable[Pod]) -> None:
        """Queue those of the pods that became ours by a new configuration."""
        for pod in pods:
            pending = not pod.spec.node_name and self._ours(pod.spec.scheduler_name)
            if pending and pod.key not in self._queue.pods:
                self.pod_pending(None, pod)

    def admit_gated(self) -> None:
        """Read the gated pods anew: this process reports from now on what keeps them waiting."""
        for gated in [q for q in self._queue.pods.values() if q.info is None]:
            self._queue.update(gated.pod, self._admit(gated.pod))

    # -- ClusterListener -------------------------------------------------------------------

    def pod_pending(self, old: Pod | None, new: Pod) -> None:
        if not self._ours(new.spec.scheduler_name):
            return
        if new.metadata.deletion_timestamp:
            self._queue.delete(new.key)
            self._forget(new)
        elif self._snapshot.holds(new.key, new.metadata.uid):
            # An event from before our bind that comes after its reply, or an update in flight:
            # should the bind fail, the next attempt is by the newest form of the pod.
            if old is not None and new.key in self._queue.pods and changed_for_scheduling(old, new):
                self._queue.update(new, self._admit(new))
            else:
                self._queue.refresh(new)
        elif old is None or new.key not in self._queue.pods:
            self._queue.add(new, self._admit(new))
        elif changed_for_scheduling(old, new):
            self._queue.update(new, self._admit(new))
        else:
            self._queue.refresh(new)
        self._nominate(old, new)
        if old is None:
            self._gang_grew(new)

    def pod_bound(self, old: Pod | None, new: Pod, change: PodChange | None) -> None:
        self._queue.delete(new.key)
        self._nominator.forget(new.key)
        if change is None:
            return
        self._pipelines.bound(new)
        if old is None or not old.spec.node_name:
            self._gang_grew(new)
            self.cluster_changed(ASSIGNED_POD_ADD)
        elif change:
            flags = (event for part, event in _POD_UPDATES.items() if part in change)
            self.cluster_changed(assigned_pod_update(functools.reduce(operator.or_, flags)))

    def pod_deleted(self, pod: Pod, freed: bool) -> None:
        self._queue.delete(pod.key)
        nominated = self._nominator.forget(pod.key)
        self._forget(pod)
        self._pipelines.forget(pod.key)
        self._waiters.notify("Pod", pod.key)
        # Room that was kept for a nominated pod is as free as that of one that ran.
        if freed or nominated:
            self.cluster_changed(ASSIGNED_POD_DELETE)

    def object_changed(self, kind: str, key: str) -> None:
        if kind == "PodGroup":
            self._gangs.group_added(key, self._admit)
        self._waiters.notify(kind, key)

    def cluster_changed(self, event: ClusterEvent) -> None:
        self._queue.move(event)

    # -- inside ----------------------------------------------------------------------------

    def _gang_grew(self, pod: Pod) -> None:
        """Members that waited for their gang to be complete may be ready."""
        if pod.group:
            self._gangs.changed(pod.group, self._admit)

    def _nominate(self, old: Pod | None, new: Pod) -> None:
        """Follow `status.nominatedNodeName`, which outlives a scheduler."""
        queued = self._queue.pods.get(new.key)
        node = self._nominator.shown(new.key, new.status.nominated_node_name)
        if self._snapshot.holds(new.key, new.metadata.uid):
            # It has its node already: this is an echo from before.
            self._nominator.remove(new.key)
        elif queued is None or queued.info is None:
            self._unnominate(new.key)
        elif node and self._nominator.row(new.key) is None:
            self._nominator.add(queued.info, node)
        elif not node and old is not None and old.status.nominated_node_name:
            self._unnominate(new.key)
        else:
            self._nominator.refresh(queued.info)

    def _unnominate(self, key: str) -> None:
        if self._nominator.remove(key):
            self.cluster_changed(ASSIGNED_POD_DELETE)
