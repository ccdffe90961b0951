"""A scheduler's pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from cluster.errors import ConfigError
from scheduler.config.configuration import Server
from scheduler.observe.metrics import CONTENT_TYPE
from scheduler.process.server import application, endpoint

TOKEN = "0123456789abcdef"


@asynccontextmanager
async def pages(token: str = "", problem: str = "") -> AsyncIterator[ClientSession]:
    async def explain(key: str) -> bytes:
        return f'{{"pod": "{key}"}}'.encode()

    app = application(
        token.encode(),
        live=lambda: "",
        ready=lambda: problem,
        metrics=lambda: b"m 1\n",
        resources=lambda: b"r 1\n",
        latency=lambda: b"[]",
        configuration=lambda: b"{}",
        explain=explain,
    )
    async with TestServer(app) as server, ClientSession(str(server.make_url("/"))) as client:
        yield client


async def get(client: ClientSession, path: str, **headers: str) -> tuple[int, str, str]:
    async with client.get(path, headers=headers) as reply:
        return reply.status, reply.headers["Content-Type"], await reply.text()


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/livez", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ok\n"),
        ("/metrics", CONTENT_TYPE, "m 1\n"),
        ("/metrics/resources", CONTENT_TYPE, "r 1\n"),
        ("/latency", "application/json", "[]"),
        ("/configz", "application/json", "{}"),
        ("/explain/ns/pod-0.x", "application/json", '{"pod": "ns/pod-0.x"}'),
    ],
)
async def test_every_page_comes_in_its_own_form(path: str, kind: str, body: str) -> None:
    async with pages() as client:
        assert await get(client, path) == (200, kind, body)


@pytest.mark.parametrize("path", ["/explain/NS/p", "/explain/ns/p_q", f"/explain/ns/{'x' * 254}"])
async def test_what_is_no_name_of_a_pod_is_not_looked_for(path: str) -> None:
    async with pages() as client:
        assert (await get(client, path))[0] == 400


async def test_with_a_token_only_health_is_open() -> None:
    async with pages(TOKEN, "not synced") as client:
        assert (await get(client, "/livez"))[0] == 200
        assert (await get(client, "/readyz"))[0::2] == (503, "not synced\n")
        for path in ("/metrics", "/latency", "/explain/ns/p"):
            assert (await get(client, path))[0] == 401
            assert (await get(client, path, Authorization=f"Bearer {TOKEN}"))[0] == 200


def test_tls_files_that_cannot_be_used_are_named_by_their_field() -> None:
    found = endpoint(Server("127.0.0.1", 1))
    assert (found.name, found.address, found.port, found.tls) == ("server", "127.0.0.1", 1, None)
    broken: Any = Server(tls_cert_file="/none/there", tls_private_key_file="/none/there")
    with pytest.raises(ConfigError, match=r"server\.tlsCertFile: "):
        endpoint(broken)
