"""Which streams into copies are served, and how others are refused."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from federation.streams.copy_streams import CopyOf, CopyStreams
from federation.streams.duplex import SocketDuplex
from federation.streams.rendezvous import MeetingPoint
from federation.streams.wire import StreamAnswer, StreamRequest

from cluster.api.access import Access
from cluster.api.credentials import Credentials


class Server:
    """An API server without TLS, as far as a stream sees it."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.refuses, self.further = False, b""
        """Whether nothing is upgraded; what came after a request that was not."""
        self.port = 0
        self.connections: list[asyncio.Task[None]] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        end = SocketDuplex(reader, writer)
        if self.refuses or "Connection: Upgrade" not in self.heads[-1]:
            await end.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.further += await end.read()
        else:
            # In two parts, as it may come.
            await end.write(b"HTTP/1.1 1")
            await end.write(b"01 Switching Protocols\r\n\r\n")
            await end.write(await end.read())
        await end.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections.append(asyncio.create_task(made.take(reader, writer)))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    async with asyncio.timeout(5):
        await asyncio.gather(*made.connections)


class Agent:
    """The agent of c2, whose API server this is."""

    def __init__(self, port: int, as_user: str = "") -> None:
        self.point = MeetingPoint(meet_within=5)
        credentials = Credentials(f"http://127.0.0.1:{port}/base", lambda: "Bearer t")
        access = Access(source=lambda *_: credentials)
        self.copy: CopyOf | None = CopyOf("ns", "web", as_user)
        self.streams = CopyStreams(access, self.point.of("c2"), self._find)

    async def _find(self, request: StreamRequest) -> CopyOf | None:
        return self.copy

    async def ask(self, **fields: object) -> tuple[StreamAnswer, SocketDuplex]:
        given = {"id": "s", "cluster": "c1", "proxy": "ns/web/u", "requestId": "r",
                 "subresource": "log", **fields}  # fmt: skip
        request = msgspec.convert(given, StreamRequest)
        end = self.point.offer("s", "c1", "c2")
        self.streams.begin(request)
        answer = msgspec.json.decode(await end.read(), type=StreamAnswer)
        return answer, end  # type: ignore[return-value]


async def test_the_request_is_the_api_server_s_with_the_agent_s_own_credentials(
    server: Server,
) -> None:
    agent = Agent(server.port, "system:serviceaccount:ns:gsch-workloads")
    query = [["container", "main"], ["command", "a b"]]
    headers = [["upgrade", "SPDY/3.1"]]
    answer, end = await agent.ask(subresource="exec", method="POST", query=query, headers=headers)
    assert answer.status == 200
    answered = await end.read()
    while not answered.endswith(b"\r\n\r\n"):
        answered += await end.read()
    await end.write(b"bytes")
    while data := await end.read():
        answered += data
    assert answered == b"HTTP/1.1 101 Switching Protocols\r\n\r\nbytes"
    (head,) = server.heads
    assert head.splitlines()[0] == (
        "POST /base/api/v1/namespaces/ns/pods/web/exec?container=main&command=a+b HTTP/1.1"
    )
    for line in ("Authorization: Bearer t", "upgrade: SPDY/3.1", "Connection: Upgrade",
                 "Impersonate-User: system:serviceaccount:ns:gsch-workloads"):  # fmt: skip
        assert f"{line}\r\n" in head


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"subresource": "proxy"}, 400, "GET proxy: not known here"),
        ({"method": "DELETE"}, 400, "DELETE log: not known here"),
        ({"cluster": "c3"}, 404, "the pod has no copy here"),
        (
            {"subresource": "exec", "headers": [["upgrade", "x\r\nImpersonate-User: admin"]]},
            502,
            "line break",
        ),
    ],
)
async def test_what_is_not_served_is_answered_with_the_reason(
    server: Server, fields: dict[str, object], status: int, text: str
) -> None:
    answer, end = await Agent(server.port).ask(**fields)
    assert (answer.status, text in answer.message) == (status, True)
    assert await end.read() == b""
    assert server.heads == []


async def test_headers_that_would_change_who_asks_are_left_out(server: Server) -> None:
    headers = [["Impersonate-User", "admin"], ["Authorization", "Bearer other"], ["upgrade", "x"]]
    answer, end = await Agent(server.port).ask(subresource="exec", headers=headers)
    assert answer.status == 200
    assert b"HTTP/1.1 101" in await end.read()
    await end.close()
    (head,) = server.heads
    assert "Impersonate-User" not in head
    assert "other" not in head
    assert "upgrade: x\r\n" in head


async def test_a_copy_that_is_not_there_and_a_server_that_is_not(server: Server) -> None:
    agent = Agent(server.port)
    agent.copy = None
    answer, _ = await agent.ask()
    assert (answer.status, answer.message) == (404, "the pod has no copy here")
    answer, _ = await Agent(1).ask()
    assert (answer.status, "no way to the API server" in answer.message) == (502, True)


async def test_streams_end_with_the_agent(server: Server) -> None:
    agent = Agent(server.port)
    running = asyncio.create_task(agent.streams.run())
    await asyncio.sleep(0)
    answer, end = await agent.ask()
    assert answer.status == 200
    assert (await end.read()).startswith(b"HTTP/1.1")
    running.cancel()
    assert await end.read() == b""


async def test_what_ends_with_its_answer_upgrades_to_nothing(server: Server) -> None:
    """Nothing else may follow on a connection that has the agent's own rights."""
    answer, end = await Agent(server.port).ask(headers=[["upgrade", "x"]])
    assert answer.status == 200
    assert b"200 OK" in await end.read()
    await end.close()
    (head,) = server.heads
    assert "Connection: close\r\n" in head
    assert "upgrade" not in head


@pytest.mark.parametrize("fields", [{}, {"subresource": "exec", "headers": [["upgrade", "x"]]}])
async def test_a_second_request_on_the_connection_does_not_reach_the_api_server(
    server: Server, fields: dict[str, object]
) -> None:
    server.refuses = True
    answer, end = await Agent(server.port).ask(**fields)
    assert answer.status == 200
    await end.write(b"GET /api/v1/secrets HTTP/1.1\r\n\r\n")
    assert b"200 OK" in await end.read()
    await end.write(b"GET /api/v1/secrets HTTP/1.1\r\n\r\n")
    await end.close()
    async with asyncio.timeout(5):
        await asyncio.gather(*server.connections)
    assert server.further == b""
