"""From the API server's objects to the snapshot.

Handlers run between scheduling cycles, on the event loop that owns the snapshot; none does I/O.
"""

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from cluster.api.client import ApiClient
from cluster.api.reflector import EventType, Reflector
from cluster.objects.core import Node, ObjectMeta, Pod, PodSpec, PodStatus
from cluster.objects.quantity import QuantityError
from cluster.state.resource_types import RESOURCES, Resource, key_of
from cluster.state.snapshot import Change, PodChange, Snapshot, without_images
from filters.common.handle import WatchedKind
from scheduler.queue.events import (
    NODE_ADD,
    NODE_DELETE,
    NODE_UPDATES,
    RESOURCE_UPDATES,
    ClusterEvent,
)

log = structlog.get_logger(__name__)

RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
ON_NODES = f"spec.nodeName!=,{RUNNING}"
"""Field selectors: pods that have not finished; of these, those that have a node."""

STALE_AFTER_S = 150.0
"""Seconds without a word from a watch (bookmarks come each minute) after which it is stale."""

PluginObjectHandler = Callable[[str, Any, Any], None]
"""Called with (path of the kind, old object, new object)."""


class ClusterListener(Protocol):
    """Called after the snapshot has taken a change."""

    def pod_pending(self, old: Pod | None, new: Pod) -> None:
        """A pod without a node came or changed, of whichever scheduler."""

    def pod_bound(self, old: Pod | None, new: Pod, change: PodChange | None) -> None:
        """A pod with a node came or changed, and what that changed for others; None where it
        could not be counted."""

    def pod_deleted(self, pod: Pod, freed: bool) -> None:
        """A pod is gone or has finished; whether it held anything."""

    def object_changed(self, kind: str, key: str) -> None:
        """An object of another kind (`Node` where one is deleted) came, changed or went."""

    def cluster_changed(self, event: ClusterEvent) -> None:
        """Something happened that may make pods schedulable."""


class ClusterFeed:
    """All reflectors, and what their events do to the snapshot. `listener` hears of each change
    after that; `kinds` are what plugins watch beside, handed to `plugin_object_changed`."""

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        *,
        listener: ClusterListener | None = None,
        kinds: Iterable[WatchedKind] = (),
        plugin_object_changed: PluginObjectHandler = lambda path, old, new: None,
        pod_selector: str = RUNNING,
    ) -> None:
        self._snapshot, self._listener = snapshot, listener
        self.reflectors: dict[str, Reflector[Any]] = {
            "nodes": Reflector(client, "/api/v1/nodes", Node, self.on_node, slim=without_images),
            "pods": Reflector(
                client,
                "/api/v1/pods",
                Pod,
                self.on_pod,
                field_selector=pod_selector,
                slim=_slim,
                share=SharedSpecs(),
            ),
        }
        for resource in RESOURCES.values():
            self.reflectors[resource.path.rpartition("/")[2]] = Reflector(
                client,
                resource.path,
                resource.type,
                functools.partial(self._on_object, resource),
                optional=resource.optional,
            )
        self.plugin_objects: dict[str, Mapping[str, Any]] = {}
        """By path, the objects of the kinds that plugins watch."""
        for kind in kinds:
            reflector: Reflector[Any] = Reflector(
                client,
                kind.path,
                kind.type,
                _plugin_handler(kind.path, plugin_object_changed),
                optional=True,
            )
            self.reflectors[kind.path] = reflector
            self.plugin_objects[kind.path] = reflector.objects

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
        """Until every first list is in."""
        for reflector in self.reflectors.values():
            await reflector.synced.wait()

    def problem(self) -> str:
        """What is not in order with the caches, empty when all is."""
        waiting = [name for name, r in self.reflectors.items() if not r.synced.is_set()]
        if waiting:
            return f"waiting for the first list of {', '.join(waiting)}"
        stale = [name for name, r in self.reflectors.items() if r.silence > STALE_AFTER_S]
        return f"nothing heard from the watch of {', '.join(stale)}" if stale else ""

    # -- handlers --------------------------------------------------------------------------

    def on_node(self, kind: EventType, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None and self._snapshot.remove_node(old.metadata.name):
                self._object_changed("Node", old.metadata.name)
                self._cluster_changed(NODE_DELETE)
            return
        try:
            change = self._snapshot.set_node(new)
        except QuantityError as error:
            log.error("node not taken", node=new.metadata.name, error=str(error))
            return
        if Change.ADDED in change:
            self._cluster_changed(NODE_ADD)
            return
        for part, event in NODE_UPDATES.items():
            if part in change:
                self._cluster_changed(event)

    def on_pod(self, kind: EventType, old: Pod | None, new: Pod | None) -> None:
        if new is None or new.terminal:
            pod = new or old
            if pod is not None:
                freed = self._snapshot.remove_pod(pod.key)
                if self._listener is not None:
                    self._listener.pod_deleted(pod, freed)
        elif new.spec.node_name:
            change = self._count(new)
            if self._listener is not None:
                self._listener.pod_bound(old, new, change)
        elif self._listener is not None:
            self._listener.pod_pending(old, new)

    def _count(self, pod: Pod) -> PodChange | None:
        try:
            return self._snapshot.set_pod(pod)
        except QuantityError as error:
            log.error("pod not counted", pod=pod.key, error=str(error))
            return None

    def _on_object(self, resource: Resource, kind: EventType, old: Any, new: Any) -> None:
        key = key_of(new or old)
        resource.put(self._snapshot, key, new)
        self._object_changed(resource.kind, key)
        event = RESOURCE_UPDATES.get(resource.kind)
        if event is not None:
            self._cluster_changed(event)

    def _object_changed(self, kind: str, key: str) -> None:
        if self._listener is not None:
            self._listener.object_changed(kind, key)

    def _cluster_changed(self, event: ClusterEvent) -> None:
        if self._listener is not None:
            self._listener.cluster_changed(event)


def _plugin_handler(
    path: str, changed: PluginObjectHandler
) -> Callable[[EventType, Any, Any], None]:
    def handle(kind: EventType, old: Any, new: Any) -> None:
        changed(path, old, new)

    return handle


class SharedSpecs:
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
