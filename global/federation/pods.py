"""Pods of requests as their clusters report them: for people, and for what watches a request."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select
from store.schema import pods, requests

MAX_REPORTED = 500
"""Pods of one message."""


class PodState(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One pod of a request."""

    request_id: str
    namespace: str
    name: str
    node: str = ""
    phase: str = ""
    host_ip: str = ""
    pod_ip: str = ""
    image: str = ""
    created_at: str = ""
    """Kubernetes' own time."""


class PodRecord(PodState, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One pod of a request, with where it is and whose."""

    cluster: str
    project: str


class PodsBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`msg` of 110: how pods of requests are now."""

    cluster: str
    pods: list[PodState] = []
    deleted: list[tuple[str, str]] = []
    """(namespace, name) of those that are no more."""
    first: bool = False
    """Whatever was reported earlier counts no more."""


_DELETE = delete(pods).where(
    pods.c.cluster == bindparam("of_cluster"),
    pods.c.namespace == bindparam("of_namespace"),
    pods.c.name == bindparam("of_name"),
)
_INSERT = insert(pods)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PodState).decode


def store(connection: Connection, body: PodsBody) -> set[str]:
    """Write a report; the requests whose pods it changed."""
    if body.first:
        connection.execute(delete(pods).where(pods.c.cluster == body.cluster))
    names = [*body.deleted, *((one.namespace, one.name) for one in body.pods)]
    if names:
        rows = [
            {"of_cluster": body.cluster, "of_namespace": namespace, "of_name": name}
            for namespace, name in names
        ]
        connection.execute(_DELETE, rows)
    if body.pods:
        connection.execute(
            _INSERT,
            [
                {
                    "cluster": body.cluster,
                    "namespace": one.namespace,
                    "name": one.name,
                    "request_id": one.request_id,
                    "body": _encode(one).decode(),
                }
                for one in body.pods
            ],
        )
    return {one.request_id for one in body.pods}


def of_requests(
    connection: Connection, *, user: str | None, ids: Sequence[str] | None, limit: int
) -> list[PodRecord]:
    """Pods of these requests (None: of all), of this user's (None: of everybody's), with their
    clusters and projects; those of the newest requests first."""
    query = (
        select(pods.c.cluster, pods.c.body, requests.c.project)
        .select_from(pods.join(requests, requests.c.id == pods.c.request_id))
        .order_by(requests.c.sequence.desc(), pods.c.cluster, pods.c.namespace, pods.c.name)
        .limit(limit)
    )
    if user is not None:
        query = query.where(requests.c.user == user)
    if ids is not None:
        query = query.where(requests.c.id.in_(ids))
    return [
        PodRecord(
            cluster=row.cluster, project=row.project, **msgspec.structs.asdict(_decode(row.body))
        )
        for row in connection.execute(query)
    ]
