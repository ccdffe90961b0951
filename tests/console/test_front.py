"""The console's HTTP front: who may look, and the stream of events."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from console import front
from console.front import COOKIE, ConsoleApp

TOKEN = "0123456789abcdef"


def pages(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/html")])
    return [f"page {environ['PATH_INFO']}".encode()]


class Answer:
    """What an application sends; the browser leaves when `gone` is set."""

    def __init__(self) -> None:
        self.status, self.body = 0, b""
        self.headers: dict[str, str] = {}
        self.gone = asyncio.Event()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message.get("body", b"")


def scope(path: str, query: str = "", method: str = "GET", **headers: str) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


async def asked(app: ConsoleApp, *arguments: str, **headers: str) -> Answer:
    answer = Answer()
    await app(scope(*arguments, **headers), answer.receive, answer.send)
    return answer


async def test_without_a_token_everybody_may_look_and_nobody_may_write() -> None:
    app = ConsoleApp(pages)
    answer = await asked(app, "/latency")
    assert (answer.status, answer.body) == (200, b"page /latency")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await asked(app, "/", "", "POST")).status == 405


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/events", {}, 401),
        ("/livez", {}, 200),
        ("/", {"authorization": f"Bearer {TOKEN}"}, 200),
        ("/", {"authorization": f"Bearer {TOKEN}x"}, 401),
        ("/", {"cookie": f"other=1; {COOKIE}={TOKEN}"}, 200),
        ("/", {"cookie": f"{COOKIE}=x"}, 401),
        ("/", {"cookie": "other=1"}, 401),
    ],
)
async def test_with_a_token_only_those_who_know_it_may_look(
    path: str, headers: dict[str, str], status: int
) -> None:
    answer = await asked(ConsoleApp(pages, TOKEN.encode()), path, **headers)
    assert answer.status == status
    assert ("www-authenticate" in answer.headers) is (status == 401)


@pytest.mark.parametrize("secure", [True, False])
async def test_a_token_in_the_url_moves_into_a_cookie(secure: bool) -> None:
    app = ConsoleApp(pages, TOKEN.encode(), secure)
    answer = await asked(app, "//evil.example/x", f"range=1h&token={TOKEN}&filter=a+b")
    assert answer.status == 303
    # A path of this server's own, whatever was asked for.
    assert answer.headers["location"] == "/evil.example/x?range=1h&filter=a+b"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN}; HttpOnly; SameSite=Strict")
    assert ("Secure" in cookie) is secure
    assert (await asked(app, "/", "token=wrong")).status == 401
    assert (await asked(app, "/", f"token={TOKEN}")).headers["location"] == "/"


async def test_open_pages_hear_a_beat_until_they_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "BEAT", 0.001)
    app, answer = ConsoleApp(pages), Answer()
    task = asyncio.create_task(app(scope("/events"), answer.receive, answer.send))
    async with asyncio.timeout(60):
        while answer.body.count(b"event: beat") < 3:
            await asyncio.sleep(0)
        answer.gone.set()
        await task
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.body.startswith(b"event: beat\nid: 1\ndata: 1\n\nevent: beat\nid: 2\n")


async def test_streams_are_bounded_and_end_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "STREAMS", 1)
    monkeypatch.setattr(front, "BEAT", 0.001)
    app, answer = ConsoleApp(pages), Answer()
    task = asyncio.create_task(app(scope("/events"), answer.receive, answer.send))
    async with asyncio.timeout(60):
        while not answer.body:
            await asyncio.sleep(0)
        refused = await asked(app, "/events")
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        app.closing.set()
        await task
        again = Answer()
        await app(scope("/events"), again.receive, again.send)
    assert again.status == 200


async def test_what_is_no_http_is_left_alone() -> None:
    answer = Answer()
    await ConsoleApp(pages)({"type": "websocket"}, answer.receive, answer.send)
    assert answer.status == 0
