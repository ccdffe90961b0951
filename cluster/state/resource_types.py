"""Every kind that the snapshot keeps beside nodes and pods: where it is, and where it goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.objects.api_objects import (
    Controller,
    CsiDriver,
    CsiNode,
    CsiStorageCapacity,
    Namespace,
    PersistentVolume,
    PersistentVolumeClaim,
    PodDisruptionBudget,
    PodGroup,
    Service,
    StorageClass,
    VolumeAttachment,
)
from cluster.objects.keys import ObjectKey
from cluster.objects.label_selectors import equal_to, selector_of
from cluster.state.snapshot import Snapshot
from cluster.state.storage import Storage

Put = Callable[[Snapshot, str, Any], None]
"""Called with the object's `namespace/name` (`name` without namespace) and the object, or None
where it is gone."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: `path` is its collection over all namespaces."""

    kind: str
    path: str
    type: type[Any]
    put: Put
    namespaced: bool = False
    optional: bool = False
    """Not every API server has it: without it there is none."""


def _into(store: Callable[[Snapshot], dict[str, Any]]) -> Put:
    def put(snapshot: Snapshot, key: str, item: Any) -> None:
        if item is None:
            store(snapshot).pop(key, None)
        else:
            store(snapshot)[key] = item

    return put


def _into_storage(set_: Callable[[Storage, str, Any], None]) -> Put:
    return lambda snapshot, key, item: set_(snapshot.storage, key, item)


def _put_service(snapshot: Snapshot, key: str, item: Service | None) -> None:
    namespace, name = ObjectKey.parse(key)
    snapshot.default_selectors.set_service(namespace, name, item.spec.selector if item else None)


def _put_controller(kind: str) -> Put:
    def put(snapshot: Snapshot, key: str, item: Any) -> None:
        namespace, name = ObjectKey.parse(key)
        selector = None
        if isinstance(item, Controller):
            selector = selector_of(item.spec.selector)
        elif item is not None:
            selector = equal_to(item.spec.selector)
        snapshot.default_selectors.set_controller(kind, namespace, name, selector)

    return put


def _put_namespace(snapshot: Snapshot, key: str, item: Namespace | None) -> None:
    if item is None:
        snapshot.namespaces.pop(key, None)
    else:
        snapshot.namespaces[key] = item.metadata.labels or {}


_STORAGE = "/apis/storage.k8s.io/v1"
_APPS = "/apis/apps/v1"

RESOURCES = {
    resource.kind: resource
    for resource in (
        Resource("Namespace", "/api/v1/namespaces", Namespace, _put_namespace),
        Resource("Service", "/api/v1/services", Service, _put_service, True),
        Resource(
            "ReplicationController",
            "/api/v1/replicationcontrollers",
            Service,
            _put_controller("ReplicationController"),
            True,
        ),
        Resource(
            "ReplicaSet", f"{_APPS}/replicasets", Controller, _put_controller("ReplicaSet"), True
        ),
        Resource(
            "StatefulSet", f"{_APPS}/statefulsets", Controller, _put_controller("StatefulSet"), True
        ),
        Resource(
            "PodDisruptionBudget",
            "/apis/policy/v1/poddisruptionbudgets",
            PodDisruptionBudget,
            _into(lambda s: s.budgets),
            True,
        ),
        Resource(
            "PodGroup",
            "/apis/scheduling.k8s.io/v1alpha2/podgroups",
            PodGroup,
            _into(lambda s: s.groups),
            namespaced=True,
            optional=True,
        ),
        Resource(
            "PersistentVolumeClaim",
            "/api/v1/persistentvolumeclaims",
            PersistentVolumeClaim,
            _into_storage(Storage.set_claim),
            True,
        ),
        Resource(
            "PersistentVolume",
            "/api/v1/persistentvolumes",
            PersistentVolume,
            _into_storage(Storage.set_volume),
        ),
        Resource(
            "StorageClass",
            f"{_STORAGE}/storageclasses",
            StorageClass,
            _into_storage(Storage.set_class),
        ),
        Resource("CSINode", f"{_STORAGE}/csinodes", CsiNode, _into_storage(Storage.set_node)),
        Resource(
            "CSIDriver",
            f"{_STORAGE}/csidrivers",
            CsiDriver,
            _into_storage(Storage.set_driver),
        ),
        Resource(
            "CSIStorageCapacity",
            f"{_STORAGE}/csistoragecapacities",
            CsiStorageCapacity,
            _into_storage(Storage.set_capacity),
            True,
        ),
        Resource(
            "VolumeAttachment",
            f"{_STORAGE}/volumeattachments",
            VolumeAttachment,
            _into_storage(Storage.set_attachment),
        ),
    )
}


def key_of(item: Any) -> str:
    """`namespace/name`, or `name` for what has no namespace."""
    meta = item.metadata
    return f"{meta.namespace}/{meta.name}" if meta.namespace else str(meta.name)


def put(snapshot: Snapshot, kind: str, item: Any) -> None:
    """Take an object in."""
    RESOURCES[kind].put(snapshot, key_of(item), item)
