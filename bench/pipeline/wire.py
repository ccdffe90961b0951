"""Messages between the stages: a JSON header and a body, each with its length before it."""

import asyncio
import socket
import struct
from typing import Any

import msgspec

LENGTHS = struct.Struct("!II")
PORT = 7000

Header = dict[str, Any]


async def receive(reader: asyncio.StreamReader) -> tuple[Header, bytes]:
    """The next message. Raises IncompleteReadError at the end."""
    head, body = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    header: Header = msgspec.json.decode(await reader.readexactly(head))
    return header, await reader.readexactly(body) if body else b""


def send(writer: asyncio.StreamWriter, header: Header, body: bytes = b"") -> None:
    head = msgspec.json.encode(header)
    writer.write(LENGTHS.pack(len(head), len(body)) + head + body)


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(address, PORT)
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return reader, writer
