"""The agents of a cluster, from the EndpointSlices of their Service."""

from collections.abc import Callable

from cluster.api.client import ApiClient, with_query
from cluster.api.reflector import EventType, Reflector
from cluster.objects.core import EndpointSlice, ObjectList
from latency.agent.peers import Peer

SERVICE = "kubernetes.io/service-name"


class Discovery:
    """Tells `on_change` the agents whenever one comes or goes."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        service: str,
        port: int,
        on_change: Callable[[list[Peer]], None],
    ) -> None:
        self._port, self._on_change = port, on_change
        self._reflector = Reflector(
            client,
            _path(namespace),
            EndpointSlice,
            self._changed,
            label_selector=f"{SERVICE}={service}",
        )

    async def run(self) -> None:
        """Follow the slices, for ever."""
        await self._reflector.run()

    def _changed(
        self, kind: EventType, old: EndpointSlice | None, new: EndpointSlice | None
    ) -> None:
        self._on_change(peers(list(self._reflector.objects.values()), self._port))


def _path(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


async def list_peers(client: ApiClient, namespace: str, service: str, port: int) -> list[Peer]:
    """The agents as they are at this moment. Raises ApiError, TransportError."""
    path = with_query(_path(namespace), {"labelSelector": f"{SERVICE}={service}"})
    slices = await client.get(path, ObjectList[EndpointSlice])
    return peers(slices.items or [], port)


def peers(slices: list[EndpointSlice], port: int) -> list[Peer]:
    """One peer a node, by its first address; agents that are not ready are no peers."""
    peers_by_node: dict[str, Peer] = {}
    for one in slices:
        for endpoint in one.endpoints or ():
            if endpoint.node_name and endpoint.addresses and endpoint.conditions.ready is not False:
                peer = Peer(endpoint.node_name, endpoint.addresses[0], port=port)
                peers_by_node.setdefault(endpoint.node_name, peer)
    return [peers_by_node[name] for name in sorted(peers_by_node)]
