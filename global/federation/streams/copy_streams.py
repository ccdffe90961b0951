"""Streams into the copies of forwarded pods, in the cluster where they run: an agent that is asked
for one opens a connection of its own to its API server, and carries the bytes."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import msgspec
import structlog

from cluster.api.access import Access
from cluster.errors import ClusterError, GschError
from federation.streams.duplex import SocketDuplex, splice_answer
from federation.streams.rendezvous import Rendezvous
from federation.streams.wire import (
    SUBRESOURCES,
    UPGRADE_HEADERS,
    StreamAnswer,
    StreamRequest,
)
from serving.security import in_memory_file

log = structlog.get_logger(__name__)

CONNECT_WITHIN_S = 10.0
METHODS = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class CopyOf:
    """The copy of a forwarded pod, and as whom its objects are applied (empty: as the agent)."""

    namespace: str
    name: str
    as_user: str


FindCopy = Callable[[StreamRequest], Awaitable[CopyOf | None]]
"""The copy of the request's proxy, where it is of this request and of the cluster that asks."""


class CopyStreams:
    """Of one cluster."""

    def __init__(self, access: Access, rendezvous: Rendezvous, find: FindCopy) -> None:
        self._access, self._rendezvous, self._find = access, rendezvous, find
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, request: StreamRequest) -> None:
        """Come to the rendezvous and serve the stream, as a task of its own."""
        task = asyncio.create_task(self._serve(request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def run(self) -> None:
        """For ever; streams end with it."""
        try:
            await asyncio.Event().wait()
        finally:
            running = list(self._running)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _serve(self, request: StreamRequest) -> None:
        try:
            source, end = await self._rendezvous.accept(request.id)
        except GschError as error:
            log.warning("stream not accepted", proxy=request.proxy, error=str(error))
            return
        server = None
        try:
            answer, server = await self._open(source, request)
            await end.write(msgspec.json.encode(answer))
            if server is not None:
                await splice_answer(end, server)
        except GschError as error:
            log.warning("stream ended", proxy=request.proxy, error=str(error))
        finally:
            await end.close()
            if server is not None:
                await server.close()

    async def _open(
        self, source: str, request: StreamRequest
    ) -> tuple[StreamAnswer, SocketDuplex | None]:
        if request.subresource not in SUBRESOURCES or request.method not in METHODS:
            return StreamAnswer(
                400, f"{request.method} {request.subresource}: not known here"
            ), None
        # Who asks is what the rendezvous says, whatever stands in the message.
        copy = await self._find(request) if source == request.cluster else None
        if copy is None:
            return StreamAnswer(404, "the pod has no copy here"), None
        try:
            head = await self._head(request, copy)
            async with asyncio.timeout(CONNECT_WITHIN_S):
                server = await connect(self._access)
            try:
                await server.write(head)
            except BaseException:
                await server.close()
                raise
        except (OSError, TimeoutError, ClusterError) as error:
            return StreamAnswer(502, f"no way to the API server of the copy: {error}"), None
        return StreamAnswer(200), server

    async def _head(self, request: StreamRequest, copy: CopyOf) -> bytes:
        path = f"/api/v1/namespaces/{copy.namespace}/pods/{copy.name}/{request.subresource}"
        if request.query:
            path += f"?{urlencode(request.query)}"
        url = urlsplit(self._access.credentials.host)
        headers = [("Host", url.netloc), ("User-Agent", "gsch")]
        authorization = await self._access.authorization()
        if authorization:
            headers.append(("Authorization", authorization))
        if copy.as_user:
            headers.append(("Impersonate-User", copy.as_user))
        # A header of another kind could say that we are somebody else.
        upgrade = [(name, value) for name, value in request.headers if name in UPGRADE_HEADERS]
        if request.subresource == "log":
            # It ends with its answer: nothing else is to follow on the connection.
            upgrade = []
        if upgrade:
            headers += [("Connection", "Upgrade"), *upgrade]
        else:
            headers.append(("Connection", "close"))
        if request.method == "POST":
            headers.append(("Content-Length", "0"))
        lines = [f"{request.method} {url.path.rstrip('/')}{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        if any("\r" in line or "\n" in line for line in lines):
            raise ClusterError("a header has a line break")
        return "\r\n".join([*lines, "", ""]).encode()


async def connect(access: Access) -> SocketDuplex:
    """A connection to the API server that speaks HTTP/1.1. Raises OSError, ClusterError."""
    url = urlsplit(access.credentials.host)
    secure = url.scheme == "https"
    context = await asyncio.to_thread(_tls, access) if secure else None
    reader, writer = await asyncio.open_connection(
        url.hostname,
        url.port or (443 if secure else 80),
        ssl=context,
        server_hostname=(access.credentials.server_name or url.hostname) if secure else None,
    )
    return SocketDuplex(reader, writer)


def _tls(access: Access) -> ssl.SSLContext:
    given = access.credentials
    try:
        context = ssl.create_default_context(cadata=given.ca.decode() if given.ca else None)
        if not given.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if given.identity:
            with in_memory_file(given.identity) as path:
                context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise ClusterError(f"cannot set up TLS to {given.host}: {error}") from error
    return context
