"""The console's HTTP front: who may look, the stream of events, and all else by Flask."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode

from a2wsgi import WSGIMiddleware

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

BEAT = 5.0
"""Seconds between two events: how often open pages fetch their numbers again."""
POSTED = "/jobs"
COOKIE = "gsch-console"
STREAMS = 200
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
}


class ConsoleApp:
    """The ASGI application. With a token, people give it once in the URL or each time as bearer."""

    def __init__(self, pages: Any, token: bytes = b"", secure: bool = False) -> None:
        self._pages: Any = WSGIMiddleware(pages, workers=8)
        self._token, self._secure = token, secure
        self._streams = 0
        self.closing = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        posting = scope["method"] == "POST" and scope["path"].startswith(POSTED)
        if scope["method"] not in ("GET", "HEAD") and not posting:
            await _answer(send, 405, b"The console is there to look at.\n")
        elif posting and not self._from_here(scope):
            await _answer(send, 403, b"Forms are taken from the console's own pages only.\n")
        elif scope["path"] == "/livez":
            await _answer(send, 200, b"ok\n")
        elif (given := self._given(scope)) is not None and self._is_token(given):
            await self._remember(scope, send, given)
        elif not self._authenticated(scope):
            text = b"A token is needed: open the console once as /?token=...\n"
            await _answer(send, 401, text, {b"www-authenticate": b"Bearer"})
        elif scope["path"] == "/events":
            await self._events(receive, send)
        else:
            await self._pages(scope, receive, _with_headers(send))

    # -- who may look ----------------------------------------------------------------------

    def _authenticated(self, scope: Scope) -> bool:
        if not self._token:
            return True
        headers = dict(scope["headers"])
        if hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self._token):
            return True
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        return COOKIE in cookies and self._is_token(cookies[COOKIE].value)

    def _from_here(self, scope: Scope) -> bool:
        """Whether a form comes from a page of ours: browsers say where it comes from. What is no
        browser shows the token instead."""
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin", b""), headers.get(b"host", b"")
        if not origin:
            return b"authorization" in headers
        return bool(host) and origin in (b"http://" + host, b"https://" + host)

    def _is_token(self, given: str) -> bool:
        return bool(self._token) and hmac.compare_digest(given.encode(), self._token)

    @staticmethod
    def _given(scope: Scope) -> str | None:
        values = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        return values[0] if values else None

    async def _remember(self, scope: Scope, send: Send, token: str) -> None:
        """Take the token out of the URL and into a cookie that no script can read."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        query.pop("token")
        rest = urlencode(query, doseq=True)
        # Only ever a path of this server's own.
        path = "/" + scope["path"].lstrip("/")
        cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
        headers = {
            b"location": f"{path}{'?' + rest if rest else ''}".encode("latin-1", "ignore"),
            b"set-cookie": (cookie + ("; Secure" if self._secure else "")).encode(),
        }
        await _answer(send, 303, b"", headers)

    # -- events ----------------------------------------------------------------------------

    async def _events(self, receive: Receive, send: Send) -> None:
        """A beat every few seconds, until the browser leaves."""
        if self._streams >= STREAMS:
            await _answer(send, 503, b"too many open pages\n", {b"retry-after": b"30"})
            return
        headers = {b"content-type": b"text/event-stream", b"cache-control": b"no-store"}
        await send({
            "type": "http.response.start", "status": 200, "headers": list(headers.items()),
        })  # fmt: skip
        self._streams += 1
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            number = 0
            while not leaving.done() and not self.closing.is_set():
                number += 1
                body = f"event: beat\nid: {number}\ndata: {number}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.wait([leaving], timeout=BEAT)
        finally:
            self._streams -= 1
            leaving.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _with_headers(send: Send) -> Send:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *HEADERS.items()]}
        await send(message)

    return sending


async def _answer(
    send: Send, status: int, body: bytes, headers: Mapping[bytes, bytes] | None = None
) -> None:
    everything = {
        b"content-type": b"text/plain; charset=utf-8",
        b"content-length": b"%d" % len(body),
        **HEADERS,
        **(headers or {}),
    }
    await send({
        "type": "http.response.start", "status": status, "headers": list(everything.items()),
    })  # fmt: skip
    await send({"type": "http.response.body", "body": body})
