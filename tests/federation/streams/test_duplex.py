"""Streams carry all bytes in order, let writers wait for slow readers, and end on both sides."""

import asyncio

import pytest
from federation.streams.duplex import (
    CHUNKS_AHEAD,
    MemoryDuplex,
    StreamBroken,
    memory_pair,
    splice,
)


async def test_what_one_write_was_given_is_read_at_once() -> None:
    one, other = memory_pair()
    await one.write(b"first")
    await one.write(b"second")
    assert [await other.read(), await other.read()] == [b"first", b"second"]


async def test_a_writer_waits_for_a_slow_reader() -> None:
    one, other = memory_pair()
    for _ in range(CHUNKS_AHEAD):
        await one.write(b"x")
    further = asyncio.create_task(one.write(b"y"))
    await asyncio.sleep(0)
    assert not further.done()
    await other.read()
    await further


async def test_what_was_written_before_the_end_is_still_read() -> None:
    one, other = memory_pair()
    await one.write(b"last")
    await one.close()
    assert [await other.read(), await other.read()] == [b"last", b""]
    with pytest.raises(StreamBroken):
        await other.write(b"too late")


async def test_a_writer_that_waits_hears_of_the_end() -> None:
    one, other = memory_pair()
    for _ in range(CHUNKS_AHEAD):
        await one.write(b"x")
    waiting = asyncio.create_task(one.write(b"y"))
    await asyncio.sleep(0)
    await other.close()
    with pytest.raises(StreamBroken):
        await waiting


async def test_splicing_carries_both_ways_and_closes_both_when_one_ends() -> None:
    (client, near), (far, server) = memory_pair(), memory_pair()
    splicing = asyncio.create_task(splice(near, far))
    await client.write(b"question")
    assert await server.read() == b"question"
    await server.write(b"answer")
    assert await client.read() == b"answer"
    await server.close()
    await splicing
    assert await client.read() == b""


async def test_a_megabyte_arrives_whole() -> None:
    (client, near), (far, server) = memory_pair(), memory_pair()
    splicing = asyncio.create_task(splice(near, far))
    chunks = [bytes([number % 256]) * 65_536 for number in range(64)]

    async def send(end: MemoryDuplex) -> None:
        for chunk in chunks:
            await end.write(chunk)

    sending = asyncio.create_task(send(client))
    received = [await server.read() for _ in chunks]
    await sending
    await client.close()
    await splicing
    assert received == chunks
