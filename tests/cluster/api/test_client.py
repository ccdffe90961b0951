"""What a failed request means: never sent, or the reply lost."""

import asyncio
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from cluster.api.access import Access
from cluster.api.client import ApiClient, NotSent, ReplyLost, with_query
from cluster.api.credentials import AccessError
from tests.harness.scripted import cut, lines, refusal, serving


async def test_a_refused_connection_was_never_sent(tmp_path: Path) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        raise AssertionError

    async with serving(never, tmp_path) as client:
        pass
    async with ApiClient(Access(str(tmp_path / "kubeconfig.yaml"))) as client:
        with pytest.raises(NotSent):
            await client.request("POST", "/x", {})


@pytest.mark.parametrize("before", [0, 1])
async def test_a_connection_cut_after_the_request_lost_the_reply(
    before: int, tmp_path: Path
) -> None:
    """On a fresh connection and on one that was kept alive."""
    served = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal served
        served += 1
        return cut(request) if served > before else web.json_response({})

    async with serving(handler, tmp_path) as client:
        for _ in range(before):
            assert (await client.request("POST", "/x", {})).ok
        with pytest.raises(ReplyLost):
            await client.request("POST", "/x", {})
    assert served == before + 1


async def test_a_reply_that_ends_early_is_lost(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        return cut(request)

    async with serving(handler, tmp_path) as client:
        with pytest.raises(ReplyLost):
            await client.request("POST", "/x", {})


async def test_the_token_is_sent_and_shown_nowhere(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer secret"
        return refusal(403, "forbidden")

    async with serving(handler, tmp_path) as client:
        reply = await client.request("GET", "/x")
    assert reply.error.message == "forbidden"
    assert "secret" not in repr(reply) + repr(client.__dict__)


def test_parameters_without_a_value_are_left_out() -> None:
    assert with_query("/p", {"a": 1, "b": "", "c": None}) == "/p?a=1"
    assert with_query("/p", {"b": ""}) == "/p"


def test_a_kubeconfig_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": []}))
    with pytest.raises(AccessError) as caught:
        Access(str(file))
    assert "--kubeconfig" in str(caught.value)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancellation_that_meets_the_reply_is_not_lost(
    streamed: bool, tmp_path: Path
) -> None:
    """Cancelled at many moments around the reply's arrival, the task always ends cancelled."""
    arrived = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        arrived.set()
        return await lines(request, {}, hold=0.2) if streamed else web.json_response({})

    async with serving(handler, tmp_path) as client:

        async def work() -> None:
            while True:
                if not streamed:
                    await client.request("GET", "/x")
                    continue
                async with client.stream("/x") as stream:
                    while await stream.chunk() is not None:
                        pass

        for turn in range(60):
            arrived.clear()
            task = asyncio.create_task(work())
            await arrived.wait()
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=5)
            assert done
            assert task.cancelled()
