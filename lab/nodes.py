"""Fake nodes of a lab cluster: Node objects that kwok keeps Ready."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.api.access import Access
from cluster.api.client import ApiClient, ApiError, with_query
from cluster.objects.core import Node, ObjectList
from lab.binaries import LabError

IN_FLIGHT = 32
READY_TIMEOUT_S = 120.0
NOT_READY = "node.kubernetes.io/not-ready"

PLAIN = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"}

Tick = Callable[[], None]


def plain(number: int, allocatable: dict[str, str] | None = None) -> dict[str, Any]:
    """A node like any other, `node-<number>`, in one of three zones."""
    name = f"node-{number}"
    offered = allocatable or PLAIN
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
                "type": "kwok",
            },
        },
        "status": {"allocatable": offered, "capacity": offered},
    }


def from_file(path: Path) -> list[dict[str, Any]]:
    """The Node objects of a YAML file, `List`s and several documents included."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"{path}: {error}") from error
    nodes: list[dict[str, Any]] = []
    for document in documents:
        items = document.get("items", [document]) if isinstance(document, dict) else []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise LabError(f"{path}: items: a list of objects is expected")
        nodes += [item for item in items if item.get("kind", "Node") == "Node"]
    if not nodes:
        raise LabError(f"{path}: no Node objects in it")
    return nodes


def wanted(number: int | None, file: Path | None) -> list[dict[str, Any]]:
    """The nodes of the file, filled up with plain ones to `number`."""
    nodes = from_file(file) if file else []
    if number is not None and number < len(nodes):
        raise LabError(f"{file} has {len(nodes)} nodes, more than the {number} asked for")
    return nodes + [plain(index) for index in range((number or 0) - len(nodes))]


async def create(
    kubeconfig: Path, nodes: Sequence[dict[str, Any]], tick: Tick = lambda: None
) -> None:
    """Make the nodes. Raises LabError with the API server's words."""
    limit = asyncio.Semaphore(IN_FLIGHT)
    async with ApiClient(Access(str(kubeconfig))) as client:

        async def one(node: dict[str, Any]) -> None:
            async with limit:
                reply = await client.request("POST", "/api/v1/nodes", node)
            if not reply.ok:
                raise LabError(f"node {node['metadata']['name']}: {reply.error.message}")
            tick()

        await asyncio.gather(*map(one, nodes))


async def wait_ready(kubeconfig: Path, number: int) -> None:
    """Until so many nodes are there and none carries the not-ready taint. Raises LabError."""
    async with ApiClient(Access(str(kubeconfig))) as client:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await _all_ready(client, number):
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            raise LabError(
                f"not all of {number} nodes got ready in {READY_TIMEOUT_S:g} s"
            ) from error


async def _all_ready(client: ApiClient, number: int) -> bool:
    path = with_query("/api/v1/nodes", {"resourceVersion": "0"})
    try:
        nodes = (await client.get(path, ObjectList[Node])).items or []
    except ApiError:
        return False
    tainted = sum(any(t.key == NOT_READY for t in n.spec.taints or ()) for n in nodes)
    return len(nodes) >= number and not tainted
