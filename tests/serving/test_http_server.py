"""The HTTP server of every process: whom it answers, whom it drops, and how it ends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web

from cluster.errors import ClusterError, ConfigError
from serving import http_server
from serving.http_server import Endpoint, HttpServer, content, health, run_until_stopped
from serving.security import Handler, ServingError

LOCAL = "127.0.0.1"


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def serving(**paths: Handler) -> AsyncIterator[tuple[HttpServer, str]]:
    """A server with these paths, and its URL."""
    application = web.Application()
    for name, handler in paths.items():
        application.router.add_get(f"/{name}", handler)
    server = HttpServer(application, Endpoint("test", LOCAL, 0))
    await server.start()
    assert server.address is not None
    try:
        yield server, f"http://{LOCAL}:{server.address[1]}"
    finally:
        await server.stop()


async def get(url: str) -> tuple[int, str]:
    async with ClientSession() as client, client.get(url) as reply:
        return reply.status, await reply.text()


async def test_health_tells_what_is_wrong_for_as_long_as_it_is() -> None:
    problem = ["not synced"]
    async with serving(livez=health(lambda: problem[0])) as (_, url):
        assert await get(f"{url}/livez") == (503, "not synced\n")
        problem[0] = ""
        assert await get(f"{url}/livez") == (200, "ok\n")


async def test_content_is_read_at_the_moment_of_the_request() -> None:
    page = [b"one"]
    async with serving(page=content(lambda: page[0], "text/csv")) as (_, url):
        assert await get(f"{url}/page") == (200, "one")
        page[0] = b"two"
        async with ClientSession() as client, client.get(f"{url}/page") as reply:
            assert await reply.read() == b"two"
            assert reply.headers["Content-Type"] == "text/csv"


@pytest.mark.parametrize("error", [ConfigError("bad field"), ClusterError("not there")])
async def test_an_error_for_users_is_answered_in_its_own_words(
    error: ConfigError | ClusterError,
) -> None:
    async def fail(_: web.Request) -> web.StreamResponse:
        raise error

    async with serving(page=fail) as (_, url):
        assert await get(f"{url}/page") == (error.status, f"{error}\n")


async def test_a_port_that_is_taken_is_named() -> None:
    async with serving(page=hello) as (server, _):
        assert server.address is not None
        second = HttpServer(web.Application(), Endpoint("second", *server.address))
        with pytest.raises(ServingError, match=rf"second: cannot listen on {LOCAL}:\d+: .*in use"):
            await second.start()
        await second.stop()


async def test_a_connection_that_asks_for_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "HEADER_TIMEOUT_S", 0.05)
    async with serving(page=hello) as (server, url), ClientSession() as client:
        assert server.address is not None
        # One that asks in time is kept, also when its time would be over.
        async with client.get(f"{url}/page") as reply:
            assert reply.status == 200
        reader, writer = await asyncio.open_connection(*server.address)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        async with client.get(f"{url}/page") as reply:
            assert reply.status == 200


async def test_beyond_so_many_connections_requests_are_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 1)
    async with (
        serving(page=hello) as (_, url),
        ClientSession() as client,
        client.get(f"{url}/page") as reply,
    ):
        assert reply.status == 200
        assert await get(f"{url}/page") == (503, "too many connections\n")


async def test_works_end_with_a_signal() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            if name == "first":
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    await run_until_stopped(work("first"), work("second"))
    assert sorted(ended) == ["first", "second"]
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


async def test_a_work_that_fails_ends_the_others_with_its_error() -> None:
    ended: list[bool] = []

    async def fail() -> None:
        raise ConfigError("no good")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ConfigError, match="no good"):
        await run_until_stopped(wait(), fail())
    assert ended == [True]
