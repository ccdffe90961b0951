"""Requests to one API server: pooled HTTP/1.1 with keep-alive, raw bytes in and out.

The HTTP library is pyreqwest, chosen by bench/clients: the least CPU a bind. Its ConnectError also
stands for connections that broke after the request was out, so only the causes inside tell a
request that never left from one whose reply was lost, which is what a bind has to know.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import structlog
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, PoolTimeoutError, PyreqwestError
from pyreqwest.response import Response

from cluster.api.access import Access
from cluster.api.credentials import AccessError
from cluster.errors import ClusterError
from cluster.objects.core import Status

T = TypeVar("T")

log = structlog.get_logger(__name__)

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

USER_AGENT = "gsch"
CONNECT_TIMEOUT = timedelta(seconds=10)
REQUEST_TIMEOUT = timedelta(seconds=30)
# A healthy watch carries a bookmark about once a minute; longer silence means a half-open link.
WATCH_SILENCE = timedelta(seconds=90)

MAX_RETRY_AFTER = 60.0
CLOSE_GRACE_S = 0.02

_encode = msgspec.json.Encoder().encode
_decode_status = msgspec.json.Decoder(Status).decode


class TransportError(ClusterError):
    """No answer from the API server."""


class NotSent(TransportError):
    """The request never left: making it again is safe."""


class ReplyLost(TransportError):
    """The request may have been carried out; only reading can tell."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `retry_after` is in seconds, None where the server named none."""

    status: int
    body: bytes
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def decode(self, type_: type[T]) -> T:
        return msgspec.json.decode(self.body, type=type_)

    @property
    def error(self) -> Status:
        """The refusal as a Status; text from a proxy in between is carried as its message."""
        try:
            return _decode_status(self.body)
        except msgspec.DecodeError:
            text = bytes(self.body[:200]).decode(errors="replace")
            return Status(code=self.status, message=text)


class ApiError(ClusterError):
    """The API server refused a request."""

    def __init__(self, reply: Reply, what: str) -> None:
        self.status = reply.status
        self.reason = reply.error.reason
        super().__init__(f"{what}: {reply.status} {reply.error.message or reply.error.reason}")


class ApiClient:
    """One API server. Use as an async context manager; safe for any number of tasks."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client, self._base = _build(access)
        self._renewing = asyncio.Lock()

    @property
    def access(self) -> Access:
        return self._access

    @property
    def host(self) -> str:
        return self._access.credentials.host

    async def __aenter__(self) -> "ApiClient":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()
        # The library's thread may still be on its way out of Python with the last result; an
        # interpreter that finalises in that moment aborts.
        await asyncio.sleep(CLOSE_GRACE_S)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        as_user: str = "",
    ) -> Reply:
        """One attempt, with one more after a 401 for a rotated credential.

        `body` is bytes as they go out, or a value to be encoded; `as_user`, where given, is
        impersonated. Raises NotSent or ReplyLost.
        """
        data = body if body is None or isinstance(body, bytes) else _encode(body)
        client = self._client
        reply = await self._attempt(method, path, data, content_type, as_user)
        if reply.status == 401:
            await self._renew(client)
            reply = await self._attempt(method, path, data, content_type, as_user)
        return reply

    async def _attempt(
        self, method: str, path: str, data: bytes | None, content_type: str, as_user: str
    ) -> Reply:
        authorization = await self._access.authorization()
        cancels = _cancels()
        try:
            builder = self._client.request(method, self._base + path).timeout(REQUEST_TIMEOUT)
            if authorization:
                builder = builder.header("authorization", authorization, is_sensitive=True)
            if as_user:
                builder = builder.header("impersonate-user", as_user)
            if data is not None:
                builder = builder.header("content-type", content_type).body_bytes(data)
            response = await builder.build().send()
            # bytes(): the library's own buffer type is not one that every consumer takes.
            content = bytes(await response.bytes())
        except PyreqwestError as error:
            raise _failure(error) from error
        finally:
            _raise_if_cancelled_since(cancels)
        return Reply(response.status, content, _retry_after(response))

    async def get(self, path: str, type_: type[T]) -> T:
        """Read one object or list. Raises ApiError, NotSent, ReplyLost, msgspec.DecodeError."""
        reply = await self.request("GET", path)
        if not reply.ok:
            raise ApiError(reply, f"GET {path}")
        return reply.decode(type_)

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator["Stream"]:
        """A streamed GET, for watches. Raises NotSent or ReplyLost, also while it is read."""
        # Without a limit of 0 the library hands out nothing before its buffer is full: an event
        # of a quiet watch would wait for the next sixty kilobytes.
        client = self._client
        authorization = await self._access.authorization()
        cancels = _cancels()
        try:
            builder = client.get(self._base + path).streamed_read_buffer_limit(0)
            if authorization:
                builder = builder.header("authorization", authorization, is_sensitive=True)
            async with builder.build_streamed() as response:
                _raise_if_cancelled_since(cancels)
                if response.status == 401:
                    await self._renew(client)
                yield Stream(response)
        except PyreqwestError as error:
            raise _failure(error) from error

    async def _renew(self, refused: Client) -> None:
        """Take up new credentials after a 401, once for all requests that it met.

        Requests in flight finish on the old client, which goes with the last of them.
        """
        async with self._renewing:
            if self._client is not refused:
                return
            await self._access.reload()
            try:
                self._client, self._base = _build(self._access)
            except AccessError as error:
                log.warning("credentials not taken, the old ones stay", error=str(error))


class Stream:
    """The body of a streamed reply, in chunks as they come."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status

    async def chunk(self) -> bytes | None:
        """The next bytes, or None at the end."""
        cancels = _cancels()
        data = await self._response.body_reader.read_chunk()
        _raise_if_cancelled_since(cancels)
        return None if data is None else bytes(data)

    async def reply(self) -> Reply:
        """The whole of it, for a refusal."""
        data = bytes(await self._response.bytes())
        return Reply(self.status, data, _retry_after(self._response))


def with_query(path: str, parameters: Mapping[str, str | int | None]) -> str:
    """`path` with the parameters that have a value."""
    given = {key: str(value) for key, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def _build(source: Access) -> tuple[Client, str]:
    """The client and the base URL that its requests must use."""
    builder = (
        ClientBuilder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(WATCH_SILENCE)
        .pool_idle_timeout(timedelta(seconds=60))
        .tcp_keepalive(timedelta(seconds=15))
        .tcp_keepalive_interval(timedelta(seconds=5))
        .tcp_keepalive_retries(3)
        .tcp_user_timeout(timedelta(seconds=30))
        .follow_redirects(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
    )
    access = source.credentials
    url = urlsplit(access.host)
    host = url.hostname or ""
    base = access.host
    try:
        if url.scheme == "https":
            if access.ca:
                builder = builder.add_root_certificate_pem(access.ca)
            if access.identity:
                builder = builder.identity_pem(access.identity)
            if not access.verify:
                builder = builder.danger_accept_invalid_certs(True)
            if access.server_name and access.server_name != host:
                port = url.port or 443
                builder = builder.resolve(access.server_name, host, port)
                base = f"https://{access.server_name}:{port}{url.path}"
        return builder.build(), base
    except (PyreqwestError, ValueError) as error:
        raise AccessError(f"cannot set up TLS to {access.host}: {_explain(error)}") from error


def _retry_after(response: Response) -> float | None:
    text = response.get_header("retry-after")
    try:
        seconds = float(text) if text else math.nan
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def _cancels() -> int:
    """How often the current task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _raise_if_cancelled_since(cancels: int) -> None:
    """pyreqwest drops a cancellation that comes together with its result: make it good.

    Without this a task that is cancelled at that moment goes on, and a shutdown waits for ever.
    """
    if _cancels() > cancels:
        raise asyncio.CancelledError


def _failure(error: PyreqwestError) -> TransportError:
    """NotSent only where the connection was never made; when in doubt, the reply was lost."""
    never_connected = any("client error (Connect)" in cause for cause in _causes(error))
    if never_connected or isinstance(error, (PoolTimeoutError, BuilderError)):
        return NotSent(_explain(error))
    return ReplyLost(_explain(error))


def _explain(error: Exception) -> str:
    """The library's message with its innermost cause, which is the one that helps."""
    causes = _causes(error)
    return f"{error.args[0]}: {causes[-1]}" if causes else str(error.args[0])


def _causes(error: Exception) -> list[str]:
    """From the outermost to the innermost."""
    details = getattr(error, "details", None) or {}
    return [cause["message"] for cause in details.get("causes") or ()]
