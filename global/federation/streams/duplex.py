"""Streams of bytes in both directions, whatever carries them."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from cluster.errors import ClusterError

CHUNK = 64 * 1024
"""Bytes that are carried at once."""
CHUNKS_AHEAD = 8
"""Chunks that wait for a slow reader before the writer waits too."""
MAX_MESSAGE = 2 * CHUNK
SWITCHING = b"HTTP/1.1 101 "
HEARTBEAT_S = 20.0
"""Seconds between signs of life of a silent WebSocket: what lies in between keeps it open, and a
broken one is noticed."""


class StreamBroken(ClusterError):
    """The other end is not there any more."""


class Duplex(Protocol):
    """One end of a stream. What one `write` was given the other end's `read` has at once, and not
    together with what follows."""

    async def read(self) -> bytes:
        """At most CHUNK bytes; none at the end."""

    async def write(self, data: bytes) -> None:
        """At most CHUNK bytes; returns once there is room for more. Raises StreamBroken."""

    async def close(self) -> None:
        """Both directions; the other end reads what was written before."""


class _Pipe:
    """One direction inside this process."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.closed = False
        self.changed = asyncio.Condition()


class MemoryDuplex:
    """One end of a stream inside this process (`memory_pair`)."""

    def __init__(self, inward: _Pipe, outward: _Pipe) -> None:
        self._inward, self._outward = inward, outward

    async def read(self) -> bytes:
        pipe = self._inward
        async with pipe.changed:
            await pipe.changed.wait_for(lambda: pipe.chunks or pipe.closed)
            if not pipe.chunks:
                return b""
            pipe.changed.notify_all()
            return pipe.chunks.popleft()

    async def write(self, data: bytes) -> None:
        pipe = self._outward
        async with pipe.changed:
            await pipe.changed.wait_for(lambda: len(pipe.chunks) < CHUNKS_AHEAD or pipe.closed)
            if pipe.closed:
                raise StreamBroken("the other end has closed the stream")
            if data:
                pipe.chunks.append(data)
                pipe.changed.notify_all()

    async def close(self) -> None:
        for pipe in (self._inward, self._outward):
            async with pipe.changed:
                pipe.closed = True
                pipe.changed.notify_all()


def memory_pair() -> tuple[MemoryDuplex, MemoryDuplex]:
    """Both ends of a stream inside this process."""
    one, other = _Pipe(), _Pipe()
    return MemoryDuplex(one, other), MemoryDuplex(other, one)


class WebSocketDuplex:
    """Over a WebSocket, a binary message a write."""

    def __init__(self, socket: web.WebSocketResponse | aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else b""

    async def write(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(data)
        except (ConnectionError, RuntimeError, aiohttp.ClientError) as error:
            raise StreamBroken(f"the connection ended: {error}") from error

    async def close(self) -> None:
        await self._socket.close()


class SocketDuplex:
    """Over a TCP or TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise StreamBroken(f"the connection ended: {error}") from error

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def splice(one: Duplex, other: Duplex) -> None:
    """Carry bytes both ways until either end closes; then both are closed."""
    await _until_either_ends(one, other, _carry(one, other), _carry(other, one))


async def splice_answer(client: Duplex, server: Duplex) -> None:
    """Carry an HTTP server's answer to its client, and what the client sends only once the answer
    has switched protocols: until then it would be a second request on the connection."""
    switched = asyncio.Event()

    async def answer() -> None:
        first = await server.read()
        while 0 < len(first) < len(SWITCHING) and (more := await server.read()):
            first += more
        if first.startswith(SWITCHING):
            switched.set()
        with contextlib.suppress(StreamBroken):
            await client.write(first)
            await _carry(server, client)

    async def forward() -> None:
        with contextlib.suppress(StreamBroken):
            while data := await client.read():
                if switched.is_set():
                    await server.write(data)

    await _until_either_ends(client, server, answer(), forward())


async def _until_either_ends(one: Duplex, other: Duplex, *works: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(one.close(), other.close(), return_exceptions=True)


async def _carry(source: Duplex, target: Duplex) -> None:
    with contextlib.suppress(StreamBroken):
        while data := await source.read():
            await target.write(data)
