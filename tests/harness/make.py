"""Short ways to write pods and nodes in tests."""

from typing import Any

import msgspec

from cluster.objects.core import Node, Pod
from cluster.state.snapshot import Snapshot, load
from filters.common.plugin import PodInfo

Json = dict[str, Any]


def node_json(
    name: str,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    labels: dict[str, str] | None = None,
    taints: list[Json] | None = None,
    unschedulable: bool = False,
    **extended: Any,
) -> Json:
    """A Node; `extended` are further resources, `__` for their slash."""
    offered = {"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "100Gi"}
    offered |= {key.replace("__", "/"): v for key, v in extended.items()}
    spec: Json = {}
    if taints:
        spec["taints"] = taints
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {"allocatable": offered, "capacity": offered},
    }


def pod_json(
    name: str = "pod",
    requests: dict[str, str] | None = None,
    config: str | None = None,
    scheduler: str = "gsch",
    namespace: str = "default",
    **spec: Any,
) -> Json:
    """A Pod with one container; `config` is its gschConfig, `spec` any field of its spec."""
    container: Json = {"name": "main", "image": "registry.example/pause:1"}
    if requests:
        container["resources"] = {
            "requests": requests,
            # The API server wants limits equal to requests for extended resources.
            "limits": {k: v for k, v in requests.items() if "/" in k or k.startswith("huge")},
        }
    if config is not None:
        container["env"] = [{"name": "gschConfig", "value": config}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedulerName": scheduler, "containers": [container]} | spec,
    }


def node(name: str, **fields: Any) -> Node:
    return msgspec.convert(node_json(name, **fields), Node)


def pod(name: str = "pod", **fields: Any) -> Pod:
    raw = pod_json(name, **fields)
    raw["metadata"]["uid"] = f"uid-{name}"
    return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)


def info(name: str = "pod", **fields: Any) -> PodInfo:
    return PodInfo.of(pod(name, **fields))


def snapshot(*nodes: Node, pods: tuple[Pod, ...] = ()) -> Snapshot:
    return load(nodes, pods)


def labelled(plain: Pod, **labels: str) -> Pod:
    """The pod with these labels and no others."""
    return msgspec.structs.replace(
        plain, metadata=msgspec.structs.replace(plain.metadata, labels=labels)
    )
