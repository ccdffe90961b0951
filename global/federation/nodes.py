"""Nodes of clusters, as their agents list them. Functions work in the caller's transaction."""

import msgspec
from sqlalchemy import Connection, delete, insert, select
from store.schema import nodes

MAX_NODES = 2000
"""Nodes of a cluster that are reported by name."""


class NodeState(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One node."""

    name: str
    master: bool = False
    """Whether the control plane runs there."""
    ready: bool = False
    schedulable: bool = True
    address: str = ""
    cpu: int = 0
    """Allocatable milli-CPU."""
    memory: int = 0
    """Allocatable bytes."""
    gpus: int = 0


class NodesBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`msg` of 115: the cluster's nodes, and how many there are in all."""

    cluster: str
    nodes: list[NodeState] = []
    count: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(NodesBody).decode


def store(connection: Connection, body: NodesBody) -> None:
    connection.execute(delete(nodes).where(nodes.c.cluster == body.cluster))
    connection.execute(insert(nodes).values(cluster=body.cluster, body=_encode(body).decode()))


def of_cluster(connection: Connection, cluster: str) -> NodesBody:
    row = connection.execute(select(nodes.c.body).where(nodes.c.cluster == cluster)).first()
    return NodesBody(cluster) if row is None else _decode(row.body)
