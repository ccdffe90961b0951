"""From what a user hands in to a request: read, checked against what there is, and refused with
the reason where it cannot be."""

import uuid
from collections.abc import Collection
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cluster.errors import GschError
from federation import documents, policies
from federation.documents import FORWARDED_FROM, BadDocument, Document
from federation.request import (
    POLICIES,
    SELECTED,
    SET,
    ClusterLost,
    Owner,
    Queue,
    Request,
    Source,
)

MAX_CLUSTERS = 1000
MODES = ("default", "gpu", "cpu", "memory", "node", "fromnode", "frompod")
MAX_ACCEPT_WITHIN_S = 3600.0
REPLICAS = ["Duplicated", "Divided"]
# Checked by hand, for messages that say more; here for the OpenAPI document.
_WITHIN = {"exclusiveMinimum": 0, "maximum": MAX_ACCEPT_WITHIN_S}


Location = Literal["edge", "near", "cloud"]


class BadRequest(GschError):
    """A request that cannot be taken; the text names the field and how to fix it."""

    status = 400


class Submission(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /api/v1/requests`."""

    yaml: str
    """Kubernetes objects, documents parted by ---."""
    policy: Annotated[str, Meta(extra_json_schema={"enum": list(POLICIES)})]
    """GLowLatencyPriority, GMostRequestedPriority, GSelectedCluster(s), GSetClusters, one that is
    installed in the layer's processes, or one that was registered."""
    clusters: list[str | list[str]] = []
    """Clusters in the order in which they are tried; a list within competes. Empty: the source
    cluster first, then all others."""
    mode: Annotated[str, Meta(extra_json_schema={"enum": list(MODES)})] = "default"
    source_cluster: str = ""
    source_node: str = ""
    source_pod: str = ""
    """`namespace/name`."""
    node: str = ""
    """With mode `node`, the node of the one selected cluster."""
    namespace: str = "default"
    locations: list[Location] = []
    """Only clusters there are tried: `edge`, `near`, `cloud`. Empty: wherever they are."""
    fast: bool = False
    """Dispatched before requests without it."""
    accept_within_seconds: Annotated[float, Meta(extra_json_schema=_WITHIN)] = 30.0
    """Seconds in which a cluster has to have scheduled the pods."""
    cluster_lost: ClusterLost = ClusterLost.KEEP
    replica_scheduling: Annotated[str, Meta(extra_json_schema={"enum": REPLICAS})] = "Duplicated"
    """Of GSetClusters: `Duplicated` or `Divided`."""
    keep_claims: bool = True
    """Whether claims stay when the request is removed."""
    callback_url: str = ""
    """Is notified, signed, how the request ended."""


def read_body(body: bytes) -> Submission:
    """Raises BadRequest."""
    try:
        return msgspec.json.decode(body, type=Submission)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"request body: {error}") from error


def request_of(
    given: Submission,
    owner: Owner,
    cluster_names: frozenset[str],
    now: float,
    forwards: bool = False,
    registered: Collection[str] = (),
) -> tuple[Request, list[Document]]:
    """The request, and what its YAML has. Raises BadRequest, BadDocument.

    `forwards`: an agent makes it for a pod of its cluster. `registered`: policies beside those of
    this process.
    """
    if given.policy not in policies.names() and given.policy not in registered:
        raise BadRequest(f"policy: {policies.unknown(given.policy, registered)}")
    _check(given)
    levels = _levels(given.clusters, cluster_names)
    _check_policy(given, levels)
    if given.source_cluster and given.source_cluster not in cluster_names:
        raise BadRequest(f"sourceCluster: {_unknown(given.source_cluster, cluster_names)}")
    objects = documents.read(given.yaml)
    _check_namespaces(objects, given.namespace)
    if not forwards:
        _check_not_forwarded(objects)
    request = Request(
        id=f"req-{uuid.uuid4()}",
        owner=owner,
        policy=given.policy,
        file_id=str(uuid.uuid4()),
        levels=levels,
        created_at=now,
        mode=given.mode,
        source=Source(given.source_cluster, given.source_node, given.source_pod),
        node=given.node,
        namespace=given.namespace,
        locations=list(given.locations),
        storage_classes=documents.storage_classes(objects),
        fast=given.fast,
        queue=Queue.FAST if given.fast else Queue.BASE,
        pods=documents.pods_of(objects),
        accept_within_s=given.accept_within_seconds,
        cluster_lost=given.cluster_lost,
        divided=given.replica_scheduling == "Divided",
        keep_claims=given.keep_claims,
        callback_url=given.callback_url,
    )
    return request, objects


def _check(given: Submission) -> None:
    if given.mode not in MODES:
        raise BadRequest(f"mode: {given.mode!r} is none: one of {', '.join(MODES)}")
    if not 0 < given.accept_within_seconds <= MAX_ACCEPT_WITHIN_S:
        raise BadRequest(f"acceptWithinSeconds: more than 0 and at most {MAX_ACCEPT_WITHIN_S:g}")
    if given.replica_scheduling not in REPLICAS:
        raise BadRequest("replicaScheduling: Duplicated or Divided")
    if given.cluster_lost is not ClusterLost.KEEP and given.policy == SET:
        raise BadRequest("clusterLost: every cluster of a set has its own copy: keep")
    if given.source_pod and given.source_node:
        raise BadRequest("sourceNode and sourcePod: latency counts from one of them, leave one out")
    if (given.source_node or given.source_pod) and not given.source_cluster:
        raise BadRequest("sourceCluster: say in which cluster the source is")
    if not documents.NAME.fullmatch(given.namespace):
        raise BadRequest(f"namespace: {given.namespace!r} is no name")


def _levels(given: list[str | list[str]], cluster_names: frozenset[str]) -> list[list[str]]:
    levels = [[level] if isinstance(level, str) else level for level in given]
    names = [name for level in levels for name in level]
    if len(names) > MAX_CLUSTERS:
        raise BadRequest(f"clusters: at most {MAX_CLUSTERS}")
    if any(not level for level in levels):
        raise BadRequest("clusters: a level is empty")
    for name in names:
        if name not in cluster_names:
            raise BadRequest(f"clusters: {_unknown(name, cluster_names)}")
        if names.count(name) > 1:
            raise BadRequest(f"clusters: {name} is there twice")
    return levels


def _unknown(name: str, cluster_names: frozenset[str]) -> str:
    there = ", ".join(sorted(cluster_names)[:10]) or "none yet"
    return f"no agent of a cluster {name!r} has reported; there are: {there}"


def _check_policy(given: Submission, levels: list[list[str]]) -> None:
    if given.policy in (*SELECTED, SET) and not levels:
        raise BadRequest(f"clusters: {given.policy} needs the clusters by name")
    if given.mode == "node":
        if given.policy not in SELECTED or len(levels) != 1 or len(levels[0]) != 1:
            raise BadRequest("mode node: GSelectedCluster with exactly one cluster takes it")
        if not given.node:
            raise BadRequest("node: mode node needs the node's name")
    elif given.node:
        raise BadRequest("node: is only read with mode node")


def _check_namespaces(objects: list[Document], namespace: str) -> None:
    for document in objects:
        own = document.body["metadata"].get("namespace")
        if own not in (None, "", namespace):
            raise BadDocument(
                document.where(
                    f"metadata.namespace is {own!r}, the request's namespace is {namespace!r}: "
                    "make them equal, or leave it out"
                )
            )


def _check_not_forwarded(objects: list[Document]) -> None:
    """What only agents may say: that an object stands for a pod of another cluster."""
    for document in objects:
        metas = [document.body["metadata"], (document.template or {}).get("metadata")]
        for meta in metas:
            labels = meta.get("labels") if isinstance(meta, dict) else None
            if isinstance(labels, dict) and FORWARDED_FROM in labels:
                raise BadDocument(
                    document.where(f"the label {FORWARDED_FROM} is the agents' own: leave it out")
                )
