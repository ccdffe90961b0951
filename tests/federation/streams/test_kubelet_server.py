"""What an API server may ask of virtual nodes, and how bad requests are answered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from federation.settings import KubeletSettings
from federation.streams.duplex import Duplex, SocketDuplex
from federation.streams.kubelet_access import KubeletAccess, subject_of
from federation.streams.kubelet_server import KubeletServer, ProxyOf
from federation.streams.rendezvous import MeetingPoint
from federation.streams.wire import StreamAnswer, StreamRequest

from lab.measure import free_port

PROXY = ProxyOf("c2", "gsch-c2", "ns/web/u1", "req-1")


class Allow(KubeletAccess):
    """Lets everybody in; TLS and reviews are tested on real API servers."""

    def __init__(self) -> None:
        pass

    async def allowed(self, certificate: Any, method: str, node: str) -> bool:
        return node == "gsch-c2"


class World:
    """A kubelet server without TLS, and the other cluster's agent."""

    def __init__(self) -> None:
        self.point = MeetingPoint(meet_within=0.05)
        self.asked: list[StreamRequest] = []
        self.answer: StreamAnswer | bytes | None = StreamAnswer(200)
        self.body = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nlines"
        self.received = b""
        self.port = free_port()
        self.server = KubeletServer("c1", Allow(), self.point.of("c1"), self.find, self.publish)

    def find(self, namespace: str, name: str) -> ProxyOf | None:
        return PROXY if (namespace, name) == ("ns", "web") else None

    async def publish(self, target: str, request: StreamRequest) -> None:
        self.asked.append(request)
        if self.answer is not None:
            _, end = await self.point.of(target).accept(request.id)
            answer = self.answer
            await end.write(answer if isinstance(answer, bytes) else msgspec.json.encode(answer))
            if isinstance(answer, StreamAnswer) and answer.status == 200:
                self.carrying = asyncio.create_task(self.carry(end))

    async def carry(self, end: Duplex) -> None:
        await end.write(self.body)
        if self.asked[-1].headers:
            self.received = await end.read()
        await end.close()

    async def ask(self, text: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        client = SocketDuplex(reader, writer)
        await client.write(text.encode())
        answer = b""
        while data := await client.read():
            answer += data
        await client.close()
        return answer.decode()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    where = KubeletSettings("127.0.0.1", made.port)
    running = asyncio.create_task(made.server.run(where, None))
    while True:
        try:
            (await asyncio.open_connection("127.0.0.1", made.port))[1].close()
            break
        except ConnectionError:
            await asyncio.sleep(0.01)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def get(path: str, *headers: str, method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: n", *headers, "", ""])


@pytest.mark.parametrize(
    ("method", "path", "subresource", "query"),
    [
        ("GET", "/containerLogs/ns/web/main?follow=true&tailLines=5", "log",
         [("follow", "true"), ("tailLines", "5"), ("container", "main")]),
        ("POST", "/exec/ns/web/main?command=a%20b&command=c&input=1&output=1&tty=1", "exec",
         [("command", "a b"), ("command", "c"), ("stdin", "true"), ("stdout", "true"),
          ("tty", "1"), ("container", "main")]),
        ("POST", "/exec/ns/web/some-uid/main?error=1", "exec",
         [("stderr", "true"), ("container", "main")]),
        ("POST", "/attach/ns/web/main", "attach", [("container", "main")]),
        ("POST", "/portForward/ns/web?port=80", "portforward", [("port", "80")]),
        ("POST", "/portForward/ns/web/some-uid", "portforward", []),
    ],
)  # fmt: skip
async def test_the_kubelet_s_paths_become_the_api_server_s(
    world: World, method: str, path: str, subresource: str, query: list[tuple[str, str]]
) -> None:
    answer = await world.ask(get(path, method=method))
    assert answer.endswith("lines")
    (asked,) = world.asked
    assert (asked.subresource, asked.method, asked.query) == (subresource, method, query)
    assert (asked.cluster, asked.proxy, asked.request_id) == ("c1", "ns/web/u1", "req-1")


async def test_an_upgrade_and_what_follows_it_are_carried(world: World) -> None:
    headers = [
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        "X-Stream-Protocol-Version: v4",
        "X-No: 1",
    ]
    await world.ask(get("/exec/ns/web/main", *headers, method="POST") + "early bytes")
    assert world.asked[0].headers == [
        ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4"),
    ]  # fmt: skip
    assert world.received == b"early bytes"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (get("/containerLogs/ns/other/main"), "404"),
        (get("/pods"), "404"),
        (get("/containerLogs/ns/web"), "404"),
        (get("/exec/ns/web/main/and/more"), "404"),
        (get("/containerLogs/../../main"), "404"),
        ("nonsense\r\n\r\n", "400"),
        (get("/", "X: " + "y" * 300_000), "431"),
    ],
)
async def test_bad_requests_are_answered_with_what_was_wrong(
    world: World, text: str, status: str
) -> None:
    answer = await world.ask(text)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert not world.asked


async def test_what_the_other_cluster_refuses_is_its_answer(world: World) -> None:
    world.answer = StreamAnswer(404, "the pod has no copy here")
    answer = await world.ask(get("/containerLogs/ns/web/main"))
    assert answer.startswith("HTTP/1.1 404 the pod has no copy here")


async def test_an_answer_that_is_none_is_a_502_and_no_trace(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.answer = b"\xffno JSON"
    answer = await world.ask(get("/containerLogs/ns/web/main"))
    assert answer.startswith("HTTP/1.1 502 cluster c2 answers what nobody understands")
    assert "Traceback" not in capsys.readouterr().out


async def test_a_cluster_that_does_not_come_is_a_504(world: World) -> None:
    world.answer = None
    answer = await world.ask(get("/containerLogs/ns/web/main"))
    assert answer.startswith("HTTP/1.1 504 cluster c2 does not answer")


def test_the_subject_of_a_certificate_is_user_and_groups() -> None:
    subject = ((("organizationName", "g1"),), (("organizationName", "g2"),), (("commonName", "u"),))
    assert subject_of({"subject": subject}) == ("u", ("g1", "g2"))
    assert subject_of({}) == ("", ())
