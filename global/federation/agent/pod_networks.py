"""The networks of this cluster's pods, by its nodes: where two clusters have the same ones, their
pods cannot reach one another."""

import asyncio

import msgspec
import structlog

from cluster.api.client import ApiClient, with_query
from cluster.errors import ClusterError
from federation.networks import merged

log = structlog.get_logger(__name__)

PAGE = 500
INTERVAL_S = 600.0
"""Seconds between looks: nodes that come get their part of the same networks."""


class _Spec(msgspec.Struct, frozen=True):
    pod_cidrs: list[str] = msgspec.field(name="podCIDRs", default_factory=list)


class _Node(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


class _Meta(msgspec.Struct, frozen=True):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, frozen=True):
    items: list[_Node] = []
    metadata: _Meta = _Meta()


class PodNetworks:
    """Of one cluster, read now and then."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.current: list[str] = []

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                self.current = merged(await self._read())
            except ClusterError as error:
                log.warning("networks of pods not read", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def _read(self) -> list[str]:
        texts: list[str] = []
        token = ""
        while True:
            path = with_query("/api/v1/nodes", {"limit": PAGE, "continue": token})
            page = await self._client.get(path, _Page)
            texts += [text for node in page.items for text in node.spec.pod_cidrs]
            token = page.metadata.continue_
            if not token:
                return texts
