"""One round trip to a peer, by each of the three ways."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import icmplib
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from latency.agent import probes
from latency.agent.peers import Peer
from latency.agent.probes import NoReply, NotAllowed, http, icmp, measure, tcp

HOME = "127.0.0.1"
NOWHERE = "203.0.113.1"


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), HOME, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def closed() -> int:
    """A port on which nobody listens."""
    async with listening() as port:
        pass
    return port


async def test_a_handshake_is_a_round_trip_and_so_is_being_refused() -> None:
    async with listening() as port:
        assert 0 < await tcp(Peer("a", HOME, port=port)) < 2000
    assert 0 < await tcp(Peer("a", HOME, port=await closed())) < 2000


async def test_a_peer_that_cannot_be_reached_does_not_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", hang)
    monkeypatch.setattr(probes, "TIMEOUT", 0.01)
    with pytest.raises(NoReply, match="no handshake"):
        await tcp(Peer("a", NOWHERE))


async def test_the_second_request_of_a_connection_is_timed() -> None:
    requests: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append(request.transport)
        if len(requests) == 1:
            await asyncio.sleep(0.2)
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/livez", answer)
    async with TestServer(application, host=HOME) as server:
        assert server.port is not None
        started = time.perf_counter()
        rtt_ms = await http(Peer("a", HOME, port=server.port))
        whole_ms = (time.perf_counter() - started) * 1000
    assert len(requests) == 2
    assert requests[0] is requests[1]
    assert 0 < rtt_ms <= whole_ms - 200


async def test_a_peer_without_a_server_gives_no_answer() -> None:
    with pytest.raises(NoReply):
        await http(Peer("a", HOME, port=await closed()))
    with pytest.raises(NoReply):
        await http(Peer("a", "::1", port=await closed()))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (SimpleNamespace(is_alive=True, min_rtt=1.5), 1.5),
        (SimpleNamespace(is_alive=False, min_rtt=0.0), NoReply),
        (icmplib.SocketPermissionError(True), NotAllowed),
        (icmplib.SocketAddressError(NOWHERE), NoReply),
        (OSError("network is unreachable"), NoReply),
    ],
)
async def test_an_echo_is_timed_or_said_why_not(
    outcome: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ping(address: str, **_: Any) -> Any:
        assert address == NOWHERE
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(icmplib, "async_ping", ping)
    if isinstance(expected, float):
        assert await icmp(Peer("a", NOWHERE)) == expected
    else:
        with pytest.raises(expected):
            await icmp(Peer("a", NOWHERE))


async def test_a_reading_for_which_the_process_was_busy_is_not_trusted() -> None:
    async def busy(_: Peer) -> float:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        return 1.0

    async def patient(_: Peer) -> float:
        # A round trip so long that what the process itself did meanwhile is nothing.
        await asyncio.sleep(0)
        return 60_000.0

    peer = Peer("a", NOWHERE)
    assert (await measure(busy, peer)).starved
    reading = await measure(patient, peer)
    assert (reading.rtt_ms, reading.starved) == (60_000.0, False)
