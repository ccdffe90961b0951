"""The kubelet API of virtual nodes: what an API server asks when somebody looks into a proxy.

A connection carries one request. Its head is read here, and who asks is checked as a kubelet does
it; everything after the head are bytes that go to the copy's cluster and come from there, upgraded
connections (`exec`, `attach`, `port-forward`) and logs that are followed alike.
"""

import asyncio
import contextlib
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

import h11
import msgspec
import structlog

from cluster.errors import GschError
from federation.settings import KubeletSettings
from federation.streams.duplex import Duplex, SocketDuplex, StreamBroken, splice
from federation.streams.kubelet_access import KubeletAccess
from federation.streams.rendezvous import MEET_WITHIN_S, Rendezvous
from federation.streams.wire import UPGRADE_HEADERS, StreamAnswer, StreamRequest
from serving.security import ServingError

log = structlog.get_logger(__name__)

HEAD_WITHIN_S = 10.0
MAX_HEAD = 64 * 1024
MAX_CONNECTIONS = 500

_NAME = "[^/]+"
ROUTES = (
    (re.compile(f"/containerLogs/({_NAME})/({_NAME})/({_NAME})"), "log"),
    (re.compile(f"/(exec|attach)/({_NAME})/({_NAME})(?:/{_NAME})?/({_NAME})"), ""),
    (re.compile(f"/portForward/({_NAME})/({_NAME})(?:/{_NAME})?"), "portforward"),
)
"""The kubelet's paths; a uid between a pod's name and its container's may be given."""
PARAMETERS = {"input": "stdin", "output": "stdout", "error": "stderr"}
"""What the kubelet calls other than the API server does."""


class Refused(GschError):
    """The answer is this status, with this text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class ProxyOf:
    """A proxy, and the cluster where its copy runs."""

    cluster: str
    node: str
    proxy: str
    """`namespace/name/uid`."""
    request_id: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    namespace: str
    pod: str
    container: str
    subresource: str


Publish = Callable[[str, StreamRequest], Awaitable[None]]
"""Sends the request to the agent of a cluster, which then comes to the rendezvous."""
FindProxy = Callable[[str, str], ProxyOf | None]
"""By namespace and name."""


class KubeletServer:
    """For the virtual nodes of one cluster."""

    def __init__(
        self,
        cluster: str,
        access: KubeletAccess,
        rendezvous: Rendezvous,
        find: FindProxy,
        publish: Publish,
    ) -> None:
        self._cluster, self._access, self._rendezvous = cluster, access, rendezvous
        self._find, self._publish = find, publish
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self, where: KubeletSettings, tls: ssl.SSLContext | None) -> None:
        """For ever. Raises ServingError where the address is not to be had."""
        address, port = where.address, where.port
        try:
            server = await asyncio.start_server(self._connected, address, port, ssl=tls)
        except OSError as error:
            raise ServingError(f"kubelet: cannot listen on {address}:{port}: {error}") from error
        log.info("kubelet API", cluster=self._cluster, host=address, port=port)
        try:
            async with server:
                await server.serve_forever()
        finally:
            for task in self._connections:
                task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as one
        self._connections.add(task)
        client = SocketDuplex(reader, writer)
        try:
            if len(self._connections) > MAX_CONNECTIONS:
                raise Refused(503, f"{MAX_CONNECTIONS} connections are open already")
            await self._serve(client, writer.get_extra_info("peercert") or {})
        except Refused as error:
            with contextlib.suppress(StreamBroken):
                await client.write(_refusal(error.status, str(error)))
        except StreamBroken:
            pass
        except Exception:
            log.exception("kubelet API")
        finally:
            self._connections.discard(task)
            await client.close()

    async def _serve(self, client: SocketDuplex, certificate: Mapping[str, object]) -> None:
        try:
            async with asyncio.timeout(HEAD_WITHIN_S):
                request, rest = await _head(client)
        except TimeoutError as error:
            raise Refused(408, "no request came") from error
        method, target = request.method.decode(), request.target.decode()
        wanted, query = _wanted(target)
        proxy = self._find(wanted.namespace, wanted.pod)
        if proxy is None:
            raise Refused(404, f"pod {wanted.namespace}/{wanted.pod} runs in no other cluster")
        try:
            allowed = await self._access.allowed(certificate, method, proxy.node)
        except GschError as error:
            raise Refused(503, f"who asks cannot be checked: {error}") from error
        if not allowed:
            raise Refused(403, f"nodes/proxy of node {proxy.node} is not allowed to who asks")
        if wanted.container:
            query.append(("container", wanted.container))
        headers = [
            (name.decode(), value.decode("latin-1"))
            for name, value in request.headers
            if name.decode() in UPGRADE_HEADERS
        ]
        stream = StreamRequest(
            id=secrets.token_urlsafe(24),
            cluster=self._cluster,
            proxy=proxy.proxy,
            request_id=proxy.request_id,
            subresource=wanted.subresource,
            method=method,
            query=query,
            headers=headers,
        )
        try:
            end = await self._rendezvous.offer(stream.id, proxy.cluster)
        except GschError as error:
            raise Refused(502, f"no way to cluster {proxy.cluster}: {error}") from error
        try:
            await self._open(end, proxy.cluster, stream)
            if rest:
                await end.write(rest)
            await splice(client, end)
        finally:
            await end.close()

    async def _open(self, end: Duplex, cluster: str, stream: StreamRequest) -> None:
        """Have the other cluster's agent come, and open the copy. Raises Refused."""
        try:
            async with asyncio.timeout(MEET_WITHIN_S):
                await self._publish(cluster, stream)
                first = await end.read()
        except TimeoutError as error:
            raise Refused(504, f"cluster {cluster} does not answer") from error
        except GschError as error:
            raise Refused(502, f"no way to cluster {cluster}: {error}") from error
        if not first:
            raise Refused(504, f"cluster {cluster} does not answer")
        try:
            answer = msgspec.json.decode(first, type=StreamAnswer)
        except msgspec.DecodeError as error:
            raise Refused(502, f"cluster {cluster} answers what nobody understands") from error
        if answer.status != 200:
            raise Refused(answer.status, answer.message)


async def _head(client: SocketDuplex) -> tuple[h11.Request, bytes]:
    """The request without its body, and what came after it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                return event, connection.trailing_data[0]
            if event is not h11.NEED_DATA:
                raise StreamBroken("no request came")
            connection.receive_data(await client.read())
    except h11.RemoteProtocolError as error:
        raise Refused(error.error_status_hint, f"no HTTP request: {error}") from error


def _wanted(target: str) -> tuple[_Wanted, list[tuple[str, str]]]:
    path, _, query = target.partition("?")
    parameters = [
        (PARAMETERS.get(name, name), "true" if name in PARAMETERS and value == "1" else value)
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    for pattern, subresource in ROUTES:
        match = pattern.fullmatch(unquote(path))
        if match is not None:
            parts = list(match.groups())
            name = subresource or parts.pop(0)
            container = parts[2] if len(parts) > 2 else ""
            return _Wanted(parts[0], parts[1], container, name), parameters
    raise Refused(404, "virtual nodes serve logs, exec, attach and port-forward of pods")


def _refusal(status: int, text: str) -> bytes:
    body = f"{text}\n".encode()
    head = [
        f"HTTP/1.1 {status} {text.splitlines()[0][:100]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
