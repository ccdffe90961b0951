"""From the API server's events to snapshot and queue.

Handlers run between scheduling cycles, on the event loop that owns the snapshot; none does I/O.
"""

import asyncio
import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.api.reflector import Kind, Reflector
from cluster.objects.core import Node, ObjectMeta, Pod, PodSpec, PodStatus
from cluster.objects.quantity import QuantityError
from cluster.state.resource_types import RESOURCES, Resource, key_of
from cluster.state.snapshot import Change, PodChange, Snapshot, without_images
from filters.common.handle import WatchedKind
from filters.common.plugin import Event, PodInfo
from scheduler.binding.object_waiters import ObjectWaiters
from scheduler.config.pod_info import changed_for_scheduling
from scheduler.joint.gangs import Gangs
from scheduler.joint.pipelines import Pipelines
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import SchedulingQueue

log = structlog.get_logger(__name__)

RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
ON_NODES = f"spec.nodeName!=,{RUNNING}"
"""Field selectors: pods that have not finished; of these, those that have a node."""

STALE_AFTER = 150.0
"""Seconds without a word from a watch (bookmarks come each minute) after which it is stale."""

_NODE_EVENTS = {
    Change.ALLOCATABLE: (Event.NODE_ALLOCATABLE, "NodeAllocatableChange"),
    Change.LABELS: (Event.NODE_LABEL, "NodeLabelChange"),
    Change.TAINTS: (Event.NODE_TAINT, "NodeTaintChange"),
    Change.FEATURES: (Event.NODE_FEATURE, "NodeDeclaredFeatureChange"),
}

_POD_EVENTS = {PodChange.REQUESTS: Event.POD_GONE, PodChange.LOOK: Event.POD_LABEL}

EVENTS = {
    "Namespace": Event.NAMESPACE,
    "PersistentVolumeClaim": Event.CLAIM,
    "PersistentVolume": Event.VOLUME,
    "StorageClass": Event.STORAGE_CLASS,
    "CSINode": Event.CSI,
    "CSIDriver": Event.CSI,
    "CSIStorageCapacity": Event.CSI,
    "VolumeAttachment": Event.CSI,
}
"""What a change of these kinds may make schedulable; of the others, nothing."""


class Watches:
    """All reflectors of a scheduler, with what their events do.

    `prepare` reads a pending pod (None keeps it gated); `ours` says by schedulerName whose it is.
    """

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        *,
        ours: Callable[[str], bool],
        prepare: Callable[[Pod], PodInfo | None],
        nominator: Nominator,
        gangs: Gangs | None = None,
        pipelines: Pipelines | None = None,
        waiters: ObjectWaiters | None = None,
        kinds: Iterable[WatchedKind] = (),
        watched: Callable[[str, Any, Any], None] = lambda path, old, new: None,
        forget: Callable[[Pod], None],
        pod_selector: str = RUNNING,
    ) -> None:
        self._snapshot, self._queue = snapshot, queue
        self._ours, self._prepare, self._forget = ours, prepare, forget
        self._nominator, self._gangs, self._pipelines = nominator, gangs, pipelines
        self._waiters = waiters or ObjectWaiters()
        self._watched = watched
        self.reflectors: dict[str, Reflector[Any]] = {
            "nodes": Reflector(client, "/api/v1/nodes", Node, self._on_node, slim=without_images),
            "pods": Reflector(
                client,
                "/api/v1/pods",
                Pod,
                self._on_pod,
                field_selector=pod_selector,
                slim=_slim,
                share=_SharedSpecs(),
            ),
        }
        for resource in RESOURCES.values():
            handler = self._into(resource, EVENTS.get(resource.kind, Event.NONE))
            self.reflectors[resource.path.rpartition("/")[2]] = Reflector(
                client, resource.path, resource.type, handler, optional=resource.optional
            )

        self.kinds: dict[str, Mapping[str, Any]] = {}
        """What plugins watch beside, by path."""
        for kind in kinds:
            reflector: Reflector[Any] = Reflector(
                client,
                kind.path,
                kind.type,
                functools.partial(self._on_watched, kind.path),
                optional=True,
            )
            self.reflectors[kind.path] = reflector
            self.kinds[kind.path] = reflector.objects

    def _on_watched(self, path: str, kind: Kind, old: Any, new: Any) -> None:
        self._watched(path, old, new)
        self._queue.move(Event.PLUGIN, "PluginKindChange")

    async def run(self) -> None:
        """Nodes and storage first, then pods: a pod is never judged by half a cluster."""
        async with asyncio.TaskGroup() as group:
            first = [r for name, r in self.reflectors.items() if name != "pods"]
            for reflector in first:
                group.create_task(reflector.run())
            for reflector in first:
                await reflector.synced.wait()
            group.create_task(self.reflectors["pods"].run())

    async def synced(self) -> None:
        for reflector in self.reflectors.values():
            await reflector.synced.wait()

    def problem(self) -> str:
        """What is not in order with the caches, empty when all is."""
        waiting = [name for name, r in self.reflectors.items() if not r.synced.is_set()]
        if waiting:
            return f"waiting for the first list of {', '.join(waiting)}"
        stale = [name for name, r in self.reflectors.items() if r.silence > STALE_AFTER]
        return f"no word from the watch of {', '.join(stale)}" if stale else ""

    def adopt(self) -> None:
        """Queue the pending pods that became ours by a new configuration."""
        for pod in self.reflectors["pods"].objects.values():
            mine = not pod.spec.node_name and self._ours(pod.spec.scheduler_name)
            if mine and pod.key not in self._queue.pods:
                self._on_pending(None, pod)

    # -- handlers --------------------------------------------------------------------------

    def _on_node(self, kind: Kind, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None and self._snapshot.remove_node(old.metadata.name):
                self._waiters.notify("Node", old.metadata.name)
                self._queue.move(Event.NODE_GONE, "NodeDelete")
            return
        try:
            change = self._snapshot.set_node(new)
        except QuantityError as error:
            log.error("node not taken", node=new.metadata.name, error=str(error))
            return
        if Change.ADDED in change:
            self._queue.move(Event.NODE_ADD, "NodeAdd")
            return
        for part, (event, name) in _NODE_EVENTS.items():
            if part in change:
                self._queue.move(event, name)

    def _on_pod(self, kind: Kind, old: Pod | None, new: Pod | None) -> None:
        if new is None or new.terminal:
            pod = new or old
            if pod is not None:
                self._on_gone(pod)
        elif new.spec.node_name:
            self._on_bound(old, new)
        elif self._ours(new.spec.scheduler_name):
            self._on_pending(old, new)

    def _on_gone(self, pod: Pod) -> None:
        key = pod.key
        self._queue.delete(key)
        nominated = self._nominator.forget(key)
        self._forget(pod)
        if self._pipelines is not None:
            self._pipelines.gone(key)
        # Room that was kept for a nominated pod is as free as that of one that ran.
        freed = self._snapshot.remove_pod(key)
        self._waiters.notify("Pod", key)
        if freed or nominated:
            self._queue.move(Event.POD_GONE, "AssignedPodDelete")

    def _on_bound(self, old: Pod | None, new: Pod) -> None:
        self._queue.delete(new.key)
        self._nominator.forget(new.key)
        try:
            changed = self._snapshot.set_pod(new)
        except QuantityError as error:
            log.error("pod not counted", pod=new.key, error=str(error))
            return
        if self._pipelines is not None:
            self._pipelines.bound(new)
        if old is None or not old.spec.node_name:
            self._gang_changed(new)
            self._queue.move(Event.POD_PLACED, "AssignedPodAdd")
        elif changed:
            events = (event for part, event in _POD_EVENTS.items() if part in changed)
            self._queue.move(functools.reduce(operator.or_, events), "AssignedPodUpdate")

    def _on_pending(self, old: Pod | None, new: Pod) -> None:
        if new.metadata.deletion_timestamp:
            self._queue.delete(new.key)
            self._forget(new)
        elif self._snapshot.holds(new.key, new.metadata.uid):
            # An event from before our bind that comes after its reply, or an update in flight:
            # should the bind fail, the next attempt is by the newest form of the pod.
            if old is not None and new.key in self._queue.pods and changed_for_scheduling(old, new):
                self._queue.update(new, self._prepare(new))
            else:
                self._queue.see(new)
        elif old is None or new.key not in self._queue.pods:
            self._queue.add(new, self._prepare(new))
        elif changed_for_scheduling(old, new):
            self._queue.update(new, self._prepare(new))
        else:
            self._queue.see(new)
        self._nominate(old, new)
        if old is None:
            self._gang_changed(new)

    def _gang_changed(self, pod: Pod) -> None:
        """The pod makes its gang larger: members that waited for that may be ready."""
        if self._gangs is not None and pod.group:
            self._gangs.changed(pod.group, self._prepare)

    def _nominate(self, old: Pod | None, new: Pod) -> None:
        """Follow `status.nominatedNodeName`, which outlives a scheduler."""
        queued = self._queue.pods.get(new.key)
        node = self._nominator.shown(new.key, new.status.nominated_node_name)
        if self._snapshot.holds(new.key, new.metadata.uid):
            # It has its node already: this is an echo from before.
            self._nominator.remove(new.key)
        elif queued is None or queued.info is None:
            self._unnominate(new.key)
        elif node and self._nominator.row(new.key) < 0:
            self._nominator.add(queued.info, node)
        elif not node and old is not None and old.status.nominated_node_name:
            self._unnominate(new.key)
        else:
            self._nominator.refresh(queued.info)

    def _unnominate(self, key: str) -> None:
        if self._nominator.remove(key):
            self._queue.move(Event.POD_GONE, "AssignedPodDelete")

    def _into(self, resource: Resource, event: Event) -> Callable[..., None]:
        def handle(kind: Kind, old: Any, new: Any) -> None:
            key = key_of(new or old)
            resource.put(self._snapshot, key, new)
            if resource.kind == "PodGroup" and self._gangs is not None:
                self._gangs.appeared(key, self._prepare)
            self._waiters.notify(resource.kind, key)
            if event:
                self._queue.move(event, f"{resource.kind}Change")

        return handle


class _SharedSpecs:
    """Lets pods that come one after another from one controller share one spec and its labels,
    which are most of a pending pod's memory."""

    def __init__(self) -> None:
        self._last: Pod | None = None

    def __call__(self, pod: Pod) -> Pod:
        last = self._last
        if last is None or last.spec != pod.spec:
            self._last = pod
            return pod
        metadata = pod.metadata
        if metadata.labels is not None and metadata.labels == last.metadata.labels:
            metadata = msgspec.structs.replace(metadata, labels=last.metadata.labels)
        return msgspec.structs.replace(pod, metadata=metadata, spec=last.spec)


def _slim(pod: Pod) -> Pod:
    """A bound pod's record is in the snapshot: only its identity is kept here."""
    if not pod.spec.node_name:
        return pod
    meta = pod.metadata
    return msgspec.structs.replace(
        pod,
        metadata=ObjectMeta(meta.name, meta.namespace, meta.uid, meta.resource_version),
        spec=PodSpec([], node_name=pod.spec.node_name, scheduler_name=pod.spec.scheduler_name),
        status=_NO_STATUS,
    )


_NO_STATUS = PodStatus()
