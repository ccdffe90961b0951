"""Writes that nobody waits for: what is sent again, what is dropped, and when all is sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from cluster.api.client import ApiClient, Reply, TransportError
from cluster.api.writer import ApiWriter, Write
from tests.harness.in_process import NoServer, until


class Server:
    """Answers with these in turn (a status, or no answer at all), then with 201."""

    def __init__(self, *answers: int | TransportError) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []

    async def request(self, method: str, path: str, body: bytes, content_type: str) -> Reply:
        self.bodies.append(body)
        answer = self.answers.pop(0) if self.answers else 201
        if isinstance(answer, TransportError):
            raise answer
        return Reply(answer, b"{}", 0.001)


@asynccontextmanager
async def writing(server: Any, **more: Any) -> AsyncIterator[ApiWriter]:
    writer = ApiWriter(cast(ApiClient, server), **more)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def write(text: str = "x", method: str = "POST", **more: Any) -> Write:
    return Write(method, "/x", text.encode(), **more)


@pytest.mark.parametrize(
    ("method", "answers", "calls", "dropped"),
    [
        ("POST", (201,), 1, 0),
        # An event is there already when it is sent again; what is gone needs no more words.
        ("POST", (409,), 1, 0),
        ("PATCH", (404,), 1, 0),
        ("PATCH", (409,), 1, 1),
        ("POST", (403,), 1, 1),
        ("POST", (503, 429), 3, 0),
        ("POST", (TransportError("cut"),), 2, 0),
    ],
)
async def test_an_answer_is_taken_for_what_it_means(
    method: str, answers: Any, calls: int, dropped: int
) -> None:
    server = Server(*answers)
    async with writing(server) as writer:
        writer.put("k", write(method=method))
        assert await writer.drain(60)
        assert (len(server.bodies), writer.dropped, writer.sent) == (calls, dropped, 1 - dropped)


async def test_what_has_not_been_answered_in_time_is_left() -> None:
    async with writing(NoServer()) as writer:
        assert await writer.drain(0.001)
        writer.put("k", write())
        assert not await writer.drain(0.01)
        assert len(writer) == 1


async def test_a_newer_write_under_the_key_takes_the_place_of_one_that_is_tried_again() -> None:
    server = Server(503)
    async with writing(server, workers=1) as writer:
        writer.put("k", write("old"))
        await until(lambda: len(server.bodies) == 1)
        writer.put("k", write("new"))
        assert await writer.drain(60)
    assert server.bodies == [b"old", b"new"]


async def test_what_was_to_be_written_and_is_no_longer_so_is_not_sent() -> None:
    server = Server()
    writer = ApiWriter(cast(ApiClient, server), workers=1)
    writer.put("condition", write("a"), order="pod")
    writer.put("other", write("b"), order="pod")
    writer.discard("condition", order="pod")
    writer.discard("never-there", order="pod")
    task = asyncio.create_task(writer.run())
    assert await writer.drain(60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert server.bodies == [b"b"]
