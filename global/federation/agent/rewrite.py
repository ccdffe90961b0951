"""A request's objects as they are applied in one cluster.

Names are deterministic, so that a message that comes twice means the same objects; pods get our
scheduler, a gschConfig for it, and the labels by which they are counted.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from federation.documents import REPLICATED, Document
from federation.request import LOW_LATENCY, MOST_REQUESTED
from federation.wire import ApplyBody, AskBody
from scheduler.config.pod_info import REQUEST_LABEL

ATTEMPT_LABEL = "gsch.io/attempt"
HOSTNAME = "kubernetes.io/hostname"
CONFIG = "gschConfig"
WORKLOADS_WITH_DEADLINE = ("Job",)


@dataclass(frozen=True, slots=True)
class Target:
    """What a cluster's agent adds: its own name and the scheduler that pods are for."""

    cluster: str
    scheduler: str = "gsch"
    gateway: str = ""
    """The node from which latency counts when the source lies in another cluster."""


def rewrite(
    documents: Sequence[Document], order: AskBody | ApplyBody, target: Target
) -> list[Document]:
    """The objects for this cluster; those handed in stay as they are."""
    replicas = order.replicas if isinstance(order, ApplyBody) else None
    shares = _shares(documents, replicas)
    made = []
    for index, document in enumerate(documents):
        body = copy.deepcopy(document.body)
        if shares[index] == 0 and replicas is not None:
            continue
        meta = body["metadata"]
        meta["name"] = _name(meta, order.request_id, index)
        meta.pop("generateName", None)
        meta["namespace"] = order.namespace
        _label(meta, order)
        if replicas is not None and document.kind in REPLICATED:
            body["spec"]["replicas"] = shares[index]
        new = Document(document.line, body)
        template = new.template
        if template is not None:
            _rewrite_pod(template, order, target)
        made.append(new)
    return made


def _name(meta: dict[str, Any], request_id: str, index: int) -> str:
    if meta.get("name"):
        return str(meta["name"])
    unique = hashlib.sha256(f"{request_id}/{index}".encode()).hexdigest()[:10]
    return f"{meta['generateName']}{unique}"


def _label(meta: dict[str, Any], order: AskBody | ApplyBody) -> None:
    labels = meta.get("labels") or {}
    meta["labels"] = {**labels, REQUEST_LABEL: order.request_id}


def _rewrite_pod(template: dict[str, Any], order: AskBody | ApplyBody, target: Target) -> None:
    meta = template.get("metadata") or {}
    template["metadata"] = meta
    _label(meta, order)
    meta["labels"][ATTEMPT_LABEL] = str(order.attempt)
    spec = template["spec"]
    spec["schedulerName"] = target.scheduler
    if order.node:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), HOSTNAME: order.node}
    config = json.dumps(_config(order, target), sort_keys=True)
    for container in spec["containers"]:
        env = [v for v in container.get("env") or [] if v.get("name") != CONFIG]
        container["env"] = [*env, {"name": CONFIG, "value": config}]


def _config(order: AskBody | ApplyBody, target: Target) -> dict[str, Any]:
    """For the scheduler of this cluster: where to count latency from, or how to pack."""
    if order.policy != LOW_LATENCY:
        packs = order.policy == MOST_REQUESTED
        return {"type": "local", **({"priority": MOST_REQUESTED} if packs else {})}
    config: dict[str, Any] = {"type": "local", "priority": LOW_LATENCY}
    option: dict[str, str] = {}
    if order.source_cluster and order.source_cluster != target.cluster:
        if target.gateway:
            option["sourceNode"] = target.gateway
    elif order.source_pod:
        option["podName"] = order.source_pod
    elif order.source_node:
        option["sourceNode"] = order.source_node
    if not option:
        # Nothing to count from in this cluster: it was chosen for its own distance.
        return {"type": "local"}
    return {**config, "option": option}


def _shares(documents: Sequence[Document], replicas: int | None) -> list[int]:
    """How many pods of each document this cluster makes; in order, until the share is used up."""
    if replicas is None:
        return [document.replicas for document in documents]
    left, shares = replicas, []
    for document in documents:
        if document.template is None:
            shares.append(-1)
            continue
        share = min(document.replicas, left)
        left -= share
        shares.append(share)
    return shares
