"""Claims, volumes and storage classes as the API server has them."""

from typing import Any

from tests.harness.make import Json
from tests.harness.objects import expression

MOUNTS: Any = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}
BOUND = {"pv.kubernetes.io/bind-completed": "yes"}


def claim(phase: str = "Bound", name: str = "data", metadata: Any = None, **spec: Any) -> Json:
    size = {"requests": {"storage": spec.pop("size", "1Gi")}}
    fields = {"volumeName": "pv", "accessModes": ["ReadWriteOnce"], "resources": size} | spec
    meta = {"name": name, "namespace": "default", "annotations": BOUND if phase == "Bound" else {}}
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": meta | (metadata or {}),
        "spec": fields,
        "status": {"phase": phase},
    }


def waiting(name: str = "data", **spec: Any) -> Json:
    return claim("Pending", name, **({"volumeName": "", "storageClassName": "late"} | spec))


def volume(name: str = "pv", metadata: Any = None, phase: str = "Bound", **spec: Any) -> Json:
    fields = {"capacity": {"storage": spec.pop("size", "1Gi")}, "accessModes": ["ReadWriteOnce"]}
    return {
        "kind": "PersistentVolume",
        "metadata": {"name": name, **(metadata or {})},
        "spec": fields | spec,
        "status": {"phase": phase},
    }


def on_node(name: str) -> Json:
    """The affinity of a local volume."""
    hosts = [expression("kubernetes.io/hostname", "In", name)]
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": hosts}]}}


def local(name: str, host: str, size: str = "1Gi") -> Json:
    return volume(
        name, phase="Available", size=size, storageClassName="late", nodeAffinity=on_node(host)
    )


def late(provisioner: str = "kubernetes.io/no-provisioner", **fields: Any) -> Json:
    return {
        "kind": "StorageClass",
        "metadata": {"name": "late"},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
        **fields,
    }


def mounting(name: str) -> Any:
    return {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}
