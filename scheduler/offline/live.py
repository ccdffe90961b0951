"""A cluster as the API server has it now, read once: for `gsch explain` and `gsch snapshot`."""

from typing import Any

import msgspec

from cluster.api.client import ApiClient, ApiError, with_query
from cluster.objects.core import Node, ObjectList, Pod
from cluster.objects.keys import ObjectKey
from cluster.state.resource_types import RESOURCES, put
from cluster.state.snapshot import Snapshot, load

PAGE = 500


async def pod_and_cluster(client: ApiClient, key: str) -> tuple[Pod, Snapshot]:
    """The pod `namespace/name` and the cluster without it.

    A pod that runs already is looked at as if it were pending. Raises ApiError, TransportError.
    """
    pod = await pending(client, key)
    _, snapshot = await cluster(client, key)
    return pod, snapshot


async def cluster(client: ApiClient, leave_out: str = "") -> tuple[list[Pod], Snapshot]:
    """All pods, and the cluster without the pod to leave out. Raises ApiError, TransportError."""
    nodes = await _all(client, "/api/v1/nodes", Node)
    pods = await _all(client, "/api/v1/pods", Pod)
    snapshot = load(nodes, (p for p in pods if p.key != leave_out))
    for resource in RESOURCES.values():
        for item in await _all(client, resource.path, resource.type, resource.optional):
            put(snapshot, resource.kind, item)
    return pods, snapshot


async def pending(client: ApiClient, key: str) -> Pod:
    """The pod as if it had no node. Raises ApiError, TransportError."""
    pod = await client.get(ObjectKey.parse(key).path(), Pod)
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=""))


async def recording(client: ApiClient) -> list[dict[str, Any]]:
    """All objects that placements depend on, as `gsch simulate` reads them again.

    Fields that scheduling does not read are left out, and so are the values of environment
    variables other than gschConfig. Raises ApiError, TransportError.
    """
    collections: list[tuple[str, str, type[Any], bool]] = [
        ("Node", "/api/v1/nodes", Node, False),
        ("Pod", "/api/v1/pods", Pod, False),
    ]
    collections += [(r.kind, r.path, r.type, r.optional) for r in RESOURCES.values()]
    return [
        {"kind": kind, **msgspec.to_builtins(_without_values(item))}
        for kind, path, type_, optional in collections
        for item in await _all(client, path, type_, optional)
    ]


def _without_values(item: Any) -> Any:
    if not isinstance(item, Pod):
        return item
    spec = item.spec

    def bare(containers: Any) -> Any:
        return containers and [
            msgspec.structs.replace(
                c, env=[e for e in c.env or () if e.name == "gschConfig"] or None
            )
            for c in containers
        ]

    spec = msgspec.structs.replace(
        spec, containers=bare(spec.containers), init_containers=bare(spec.init_containers)
    )
    return msgspec.structs.replace(item, spec=spec)


async def _all(client: ApiClient, path: str, type_: type[Any], optional: bool = False) -> list[Any]:
    """All objects of a collection; none where an `optional` one is not there."""
    try:
        return await _pages(client, path, type_)
    except ApiError as error:
        if optional and error.status == 404:
            return []
        raise


async def _pages(client: ApiClient, path: str, type_: type[Any]) -> list[Any]:
    items: list[Any] = []
    token = ""
    while True:
        query = with_query(path, {"limit": PAGE, "continue": token})
        page: Any = await client.get(query, ObjectList[type_])  # type: ignore[valid-type]
        items += page.items or ()
        token = page.metadata.continue_
        if not token:
            return items
