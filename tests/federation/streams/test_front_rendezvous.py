"""Both ends of a stream meet though there are several fronts, behind what balances load."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from federation.front import streams
from federation.front.tokens import Identity
from federation.request import Owner
from federation.streams import rendezvous
from federation.streams.duplex import SocketDuplex, splice
from federation.streams.rendezvous import FrontRendezvous, MeetingPoint, NotMet


def by_header(http: web.Request) -> Identity:
    agent = http.headers.get("X-Agent", "")
    return Identity(Owner("" if agent else "ann"), agent)


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """Three fronts, to which connections go in turns."""
    fronts = []
    for _ in range(3):
        application = web.Application()
        streams.add_to(application.router, MeetingPoint(), by_header)
        server = TestServer(application)
        await server.start_server()
        fronts.append(server)
    turns = itertools.cycle(fronts)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        front = next(turns)
        there = await asyncio.open_connection(front.host, front.port)
        await splice(SocketDuplex(reader, writer), SocketDuplex(*there))

    balancer = await asyncio.start_server(forward, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{balancer.sockets[0].getsockname()[1]}"
    balancer.close()
    for server in fronts:
        await server.close()


class Agents:
    """Rendezvous by agent's cluster, each with a session of its own. A context manager."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._sessions: list[aiohttp.ClientSession] = []

    def of(self, cluster: str, agent: str | None = None) -> FrontRendezvous:
        headers = {"X-Agent": cluster if agent is None else agent}
        connector = aiohttp.TCPConnector(force_close=True)
        session = aiohttp.ClientSession(headers=headers, connector=connector)
        self._sessions.append(session)
        return FrontRendezvous(session, self._base, cluster)

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()


@pytest.fixture
async def agents(base: str) -> AsyncIterator[Agents]:
    made = Agents(base)
    yield made
    await made.close()


async def test_the_second_end_knocks_until_it_is_at_the_front_of_the_first(agents: Agents) -> None:
    one, two = agents.of("c1"), agents.of("c2")
    for number in range(6):
        offered = await one.offer(f"s{number}", "c2")
        source, accepted = await two.accept(f"s{number}")
        assert source == "c1"
        await accepted.write(b"hello")
        assert await offered.read() == b"hello"
        await offered.write(b"x" * 60_000)
        assert len(await accepted.read()) == 60_000
        await accepted.close()
        assert await offered.read() == b""
        await offered.close()


async def test_nobody_offers_or_accepts_in_another_cluster_s_name(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "KNOCK_FOR_S", 0.2)
    with pytest.raises(NotMet, match="403"):
        await agents.of("c1", agent="c3").offer("s", "c2")
    with pytest.raises(NotMet, match="403"):
        await agents.of("c1", agent="").offer("s", "c2")
    await agents.of("c1").offer("s", "c2")
    with pytest.raises(NotMet, match="404"):
        await agents.of("c3").accept("s")


async def test_there_is_a_bound_on_open_streams_and_a_closed_one_makes_room(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_OPEN", 1)
    one = agents.of("c1")
    # Three fronts with room for one each.
    ends = [await one.offer(f"s{number}", "c2") for number in range(3)]
    with pytest.raises(NotMet, match="503"):
        await one.offer("s3", "c2")
    for end in ends:
        await end.close()
    while True:
        try:
            await one.offer("s4", "c2")
        except NotMet:
            await asyncio.sleep(0.01)
        else:
            break


async def test_a_front_that_is_not_there_is_reported(agents: Agents) -> None:
    async with aiohttp.ClientSession() as session:
        nowhere = FrontRendezvous(session, "http://127.0.0.1:1", "c1")
        with pytest.raises(Exception, match="no answer from the front"):
            await nowhere.offer("s", "c2")
