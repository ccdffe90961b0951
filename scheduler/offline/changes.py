"""Changes to a recorded cluster that `gsch simulate` tries out: nothing real is touched."""

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from cluster.objects.core import Node, Pod, PodStatus
from scheduler.offline.manifests import ManifestError, Objects

STAYS = "DaemonSet"
"""Owners whose pods a drain leaves where they are, as `kubectl drain --ignore-daemonsets` does."""


def cordon(objects: Objects, names: Iterable[str]) -> Objects:
    """These nodes take no new pods. Raises ManifestError for a node that is not there."""
    cordoned = _checked_names(objects, names)
    nodes = [_unschedulable(n) if n.metadata.name in cordoned else n for n in objects.nodes]
    return replace(objects, nodes=nodes)


def drain(objects: Objects, names: Iterable[str]) -> Objects:
    """Cordon these nodes, and have their pods look for another one. Raises ManifestError."""
    drained = _checked_names(objects, names)
    pods = [_displaced(p) if p.spec.node_name in drained else p for p in objects.pods]
    return replace(cordon(objects, drained), pods=pods)


def add_nodes(objects: Objects, more: Iterable[Node]) -> Objects:
    """Further nodes; one of a name that is taken replaces the node that has it."""
    new = list(more)
    taken = {node.metadata.name for node in new}
    kept = [node for node in objects.nodes if node.metadata.name not in taken]
    return replace(objects, nodes=[*kept, *new])


def scale(objects: Objects, copies: int) -> Objects:
    """So many of every pending pod."""
    pods: list[Pod] = []
    for pod in objects.pods:
        waits = not pod.spec.node_name and not pod.terminal
        pods += [_copy(pod, n) for n in range(1, copies + 1)] if waits and copies > 1 else [pod]
    return replace(objects, pods=pods)


def under(objects: Objects, profile: str) -> Objects:
    """All pods as if they named this scheduler."""

    def moved(pod: Pod) -> Pod:
        return msgspec.structs.replace(
            pod, spec=msgspec.structs.replace(pod.spec, scheduler_name=profile)
        )

    return replace(objects, pods=[moved(pod) for pod in objects.pods])


def _checked_names(objects: Objects, names: Iterable[str]) -> frozenset[str]:
    there = {node.metadata.name for node in objects.nodes}
    wanted = frozenset(names)
    missing = sorted(wanted - there)
    if missing:
        raise ManifestError(f"no node {', '.join(missing)} among the {len(there)} of these files")
    return wanted


def _unschedulable(node: Node) -> Node:
    return msgspec.structs.replace(
        node, spec=msgspec.structs.replace(node.spec, unschedulable=True)
    )


def _displaced(pod: Pod) -> Pod:
    owners = pod.metadata.owner_references or ()
    if pod.terminal or any(owner.kind == STAYS for owner in owners):
        return pod
    spec = msgspec.structs.replace(pod.spec, node_name="")
    return msgspec.structs.replace(pod, spec=spec, status=PodStatus())


def _copy(pod: Pod, number: int) -> Pod:
    meta = pod.metadata
    name = f"{meta.name}-{number}"
    meta = msgspec.structs.replace(meta, name=name, uid=f"{meta.uid}-{number}")
    return msgspec.structs.replace(pod, metadata=meta)
