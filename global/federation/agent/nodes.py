"""The cluster's nodes, read now and then: for people who look at clusters, and for the networks of
their pods (where two clusters have the same ones, their pods cannot reach one another)."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from cluster.api.client import ApiClient, with_query
from cluster.errors import GschError
from cluster.objects.core import ObjectMeta, Quantities
from cluster.objects.quantity import QuantityError, milli_value, value
from federation.forwarding.virtual_nodes import CLUSTER_LABEL
from federation.networks import merged
from federation.nodes import MAX_NODES, NodesBody, NodeState
from federation.wire import GPU

log = structlog.get_logger(__name__)

PAGE = 500
INTERVAL_S = 120.0
MASTER_ROLES = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    unschedulable: bool = False
    pod_cidrs: list[str] = msgspec.field(name="podCIDRs", default_factory=list)


class _Typed(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""
    address: str = ""


class _Status(msgspec.Struct, frozen=True):
    allocatable: Quantities = {}
    conditions: list[_Typed] = []
    addresses: list[_Typed] = []


class ListedNode(msgspec.Struct, frozen=True):
    """What is read of a node."""

    metadata: ObjectMeta
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Meta(msgspec.Struct, frozen=True):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, frozen=True):
    items: list[ListedNode] = []
    metadata: _Meta = _Meta()


class ClusterNodes:
    """Of one cluster."""

    def __init__(
        self, client: ApiClient, cluster: str, publish: Callable[[NodesBody], Awaitable[None]]
    ) -> None:
        """`publish` returns once the list cannot be lost."""
        self._client, self._cluster, self._publish = client, cluster, publish
        self.pod_networks: list[str] = []
        self._published: NodesBody | None = None

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.refresh()
            except GschError as error:
                log.warning("nodes not reported", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def refresh(self) -> None:
        """Once. Raises ClusterError."""
        texts: list[str] = []
        states: list[NodeState] = []
        count, token = 0, ""
        while True:
            path = with_query("/api/v1/nodes", {"limit": PAGE, "continue": token})
            page = await self._client.get(path, _Page)
            # Nodes that stand for other clusters are none of this one's.
            own = [node for node in page.items if CLUSTER_LABEL not in (node.metadata.labels or {})]
            count += len(own)
            texts += [text for node in own for text in node.spec.pod_cidrs]
            states += [state_of(node) for node in own[: MAX_NODES - len(states)]]
            token = page.metadata.continue_
            if not token:
                break
        self.pod_networks = merged(texts)
        body = NodesBody(self._cluster, states, count)
        if body != self._published:
            await self._publish(body)
            self._published = body


def state_of(node: ListedNode) -> NodeState:
    labels = node.metadata.labels or {}
    addresses = {one.type: one.address for one in node.status.addresses}
    return NodeState(
        node.metadata.name,
        master=any(role in labels for role in MASTER_ROLES),
        ready=any(one.type == "Ready" and one.status == "True" for one in node.status.conditions),
        schedulable=not node.spec.unschedulable,
        address=addresses.get("InternalIP", ""),
        cpu=_amount(node, "cpu", milli_value),
        memory=_amount(node, "memory", value),
        gpus=_amount(node, GPU, value),
    )


def _amount(node: ListedNode, name: str, read: Callable[[str | int | float], int]) -> int:
    try:
        return read(node.status.allocatable.get(name, 0))
    except QuantityError:
        return 0
