"""Whom callbacks may reach: no private address, by number or by name."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from federation import callbacks
from federation.callbacks import BadCallback, CallbackSender, sign
from federation.request import MOST_REQUESTED, Owner, Request, State
from store import schema
from store.database import Database
from store.transactions import Transactions


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.org/", "http://HOST/PATH"),
        ("http:///path", "http://HOST/PATH"),
        ("http://example.org:0/", "http://HOST/PATH"),
        ("http://example.org:99999/", "callbackUrl: Port out of range"),
        ("http://[::1/", "callbackUrl: "),
        ("http://ann:secret@example.org/", "leave user and password out"),
        ("http://example.org/" + "x" * 3000, "at most"),
        ("http://localhost/", "localhost is a private address"),
        ("http://127.0.0.1/", "private address"),
        ("http://10.1.2.3:8080/", "private address"),
        ("http://169.254.169.254/latest/meta-data", "private address"),
        ("http://0.0.0.0/", "private address"),
        ("http://224.0.0.1/", "private address"),
        ("http://[::1]/", "private address"),
        ("http://[::ffff:10.0.0.1]/", "private address"),
        ("http://[fe80::1%25eth0]/", "private address"),
    ],
)
def test_a_url_that_is_not_called_is_refused_with_the_reason(url: str, problem: str) -> None:
    with pytest.raises(BadCallback, match=problem) as caught:
        callbacks.check(url, allow_private=False)
    assert "secret" not in str(caught.value)


def test_public_addresses_and_private_ones_that_are_allowed_are_taken() -> None:
    callbacks.check("https://example.org/hook?x=1", allow_private=False)
    callbacks.check("http://8.8.8.8/", allow_private=False)
    callbacks.check("http://10.1.2.3/", allow_private=True)


@pytest.fixture
def transactions(tmp_path: Path) -> Iterator[Transactions]:
    with Database(f"sqlite:///{tmp_path}/db") as database, Transactions(database) as made:
        yield made


async def _due(transactions: Transactions, url: str) -> None:
    request = Request("r1", Owner("ann"), MOST_REQUESTED, "f", [], 0.0, callback_url=url,
                      state=State.COMPLETED)  # fmt: skip
    await transactions.run(lambda c: callbacks.enqueue(c, request, 0.0))


async def _left(transactions: Transactions) -> list[Any]:
    return await transactions.run(lambda c: list(c.execute(schema.callbacks.select())))


async def test_a_name_that_leads_to_a_private_address_is_not_called(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check at hand-in sees a name; where it leads is looked at when it is called."""
    called: list[bytes] = []

    async def take(http: web.Request) -> web.Response:
        called.append(await http.read())
        assert http.headers["X-Gsch-Signature"] == sign(b"key", called[-1])
        return web.Response()

    application = web.Application()
    application.router.add_post("/hook", take)
    server = TestServer(application)
    await server.start_server()
    url = f"http://hooks.example:{server.port}/hook"
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])
    callbacks.check(url, allow_private=False)
    await _due(transactions, url)
    refusing = asyncio.create_task(CallbackSender(transactions, b"key", False, time.time).run())
    while (row := (await _left(transactions))[0]).tries == 0:
        await asyncio.sleep(0.01)
    refusing.cancel()
    assert (row.tries, called) == (1, [])
    assert row.next_at > time.time()
    await transactions.run(lambda c: c.execute(schema.callbacks.update().values(next_at=0.0)))
    allowing = asyncio.create_task(CallbackSender(transactions, b"key", True, time.time).run())
    while await _left(transactions):
        await asyncio.sleep(0.01)
    allowing.cancel()
    assert b'"request_id":"r1"' in called[0]
    await server.close()


async def test_after_many_tries_it_is_given_up(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _due(transactions, "http://127.0.0.1:1/")
    last = schema.callbacks.update().values(tries=callbacks.MAX_TRIES - 1)
    await transactions.run(lambda c: c.execute(last))
    sending = asyncio.create_task(CallbackSender(transactions, b"key", True, time.time).run())
    while await _left(transactions):
        await asyncio.sleep(0.01)
    sending.cancel()
