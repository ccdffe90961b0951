"""The agents of a cluster, from the EndpointSlices of their Service."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from cluster.api.client import ApiError
from cluster.objects.core import EndpointSlice
from latency.agent.discovery import Discovery, list_peers, peers
from latency.agent.peers import Peer
from tests.harness.in_process import until
from tests.harness.scripted import lines, refusal, serving


def endpoint(node: str, *addresses: str, ready: bool | None = True) -> dict[str, Any]:
    return {"nodeName": node, "addresses": list(addresses), "conditions": {"ready": ready}}


def slice_of(*endpoints: Any, name: str = "s", version: int = 1) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "resourceVersion": str(version)}
    return {"metadata": meta, "endpoints": list(endpoints)}


def read(*raw: dict[str, Any]) -> list[EndpointSlice]:
    return [msgspec.convert(one, EndpointSlice) for one in raw]


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        ([slice_of(endpoint("b", "10.0.0.2"), endpoint("a", "10.0.0.1", "10.0.0.9"))],
         [("a", "10.0.0.1"), ("b", "10.0.0.2")]),
        # Both families of addresses: one slice each, one peer.
        ([slice_of(endpoint("a", "10.0.0.1")), slice_of(endpoint("a", "fd00::1"))],
         [("a", "10.0.0.1")]),
        # An agent of which nothing is known counts as ready (discovery/v1).
        ([slice_of(endpoint("a", "10.0.0.1", ready=False), endpoint("b", "10.0.0.2", ready=None))],
         [("b", "10.0.0.2")]),
        ([slice_of(endpoint("", "10.0.0.1"), endpoint("a"))], []),
        ([{"metadata": {"name": "s"}, "endpoints": None}], []),
    ],
)  # fmt: skip
def test_every_node_with_an_agent_that_is_ready_is_a_peer(slices: Any, expected: Any) -> None:
    found = peers(read(*slices), port=9)
    assert [(peer.name, peer.address) for peer in found] == expected
    assert all((peer.port, peer.cluster) == (9, "") for peer in found)


async def test_agents_are_told_whenever_one_comes_or_goes(tmp_path: Path) -> None:
    told: list[list[Peer]] = []
    changes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["labelSelector"] == "kubernetes.io/service-name=agents"
        if "watch" in request.query:
            return await lines(request, await changes.get())
        items = [slice_of(endpoint("a", "10.0.0.1"))]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    def names() -> list[str]:
        return [peer.name for peer in told[-1]] if told else []

    async with serving(answer, tmp_path) as client:
        task = asyncio.create_task(Discovery(client, "ns", "agents", 9, told.append).run())
        await until(lambda: names() == ["a"])
        more = slice_of(endpoint("b", "10.0.0.2"), name="t", version=2)
        await changes.put({"type": "ADDED", "object": more})
        await until(lambda: names() == ["a", "b"])
        gone = slice_of(endpoint("b", "10.0.0.2"), name="t", version=3)
        await changes.put({"type": "DELETED", "object": gone})
        await until(lambda: names() == ["a"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_agents_are_found_once_for_a_question(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "missing" in request.path:
            return refusal(404, "no such thing")
        items = None if "empty" in request.path else [slice_of(endpoint("a", "10.0.0.1"))]
        return web.json_response({"metadata": {}, "items": items})

    async with serving(answer, tmp_path) as client:
        assert await list_peers(client, "ns", "agents", 9) == [Peer("a", "10.0.0.1", port=9)]
        assert await list_peers(client, "empty", "agents", 9) == []
        with pytest.raises(ApiError, match="no such thing"):
            await list_peers(client, "missing", "agents", 9)
