"""Notifies whoever gave a `callbackUrl` of how a request ended: signed, and again until it is
taken.

The callback is a row of the transaction that ends the request. Its signature is GitHub's form:
`X-Gsch-Signature: sha256=<hex>`, an HMAC of the body under the layer's callback key.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from sqlalchemy import Connection, delete, insert, select, update
from store.schema import callbacks
from store.transactions import DatabaseUnavailable, Transactions

from cluster.errors import GschError
from federation.request import Request
from serving.security import is_private

log = structlog.get_logger(__name__)

MAX_URL = 2000
MAX_TRIES = 12
"""Some nine hours."""
FIRST_RETRY_S, MAX_RETRY_S = 1.0, 3600.0
TIMEOUT_S = 10.0
CLAIM_S = 60.0
"""Seconds for which one process tries a callback alone."""
AT_ONCE = 20
POLL_INTERVAL_S = 1.0


class BadCallback(GschError):
    """A URL that is not called; the text says why."""

    status = 400


@dataclass(frozen=True, slots=True)
class _Callback:
    id: int
    url: str
    body: str
    tries: int


def check(url: str, allow_private: bool) -> None:
    """Raises BadCallback. Names are looked at again when they are called, by address."""
    if len(url) > MAX_URL:
        raise BadCallback(f"callbackUrl: at most {MAX_URL} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadCallback(f"callbackUrl: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BadCallback("callbackUrl: http://HOST/PATH or https://HOST/PATH")
    if parts.username or parts.password:
        raise BadCallback("callbackUrl: leave user and password out; callbacks are signed")
    if not allow_private and _private(parts.hostname):
        raise BadCallback(
            f"callbackUrl: {parts.hostname} is a private address; callbacks.allowPrivate lets it in"
        )


def enqueue(connection: Connection, request: Request, now: float) -> None:
    """Of a request that has just ended, where it wants one."""
    if not request.callback_url:
        return
    body = {
        "request_id": request.id,
        "status": request.state,
        "message": request.message,
        "finished_at": request.finished_at,
    }
    connection.execute(
        insert(callbacks).values(
            request_id=request.id,
            url=request.callback_url,
            body=msgspec.json.encode(body).decode(),
            tries=0,
            next_at=now,
        )
    )


def sign(key: bytes, body: bytes) -> str:
    return f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"


class CallbackSender:
    """Sends what is due, for ever."""

    def __init__(
        self,
        transactions: Transactions,
        key: bytes,
        allow_private: bool,
        clock: Callable[[], float],
    ) -> None:
        self._transactions, self._key, self._clock = transactions, key, clock
        self._allow_private = allow_private

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self._allow_private), use_dns_cache=False
        )
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                try:
                    due = await self._transactions.run(self._claim)
                except DatabaseUnavailable as error:
                    log.warning("callbacks not read", error=str(error))
                    due = []
                await asyncio.gather(*(self._send(session, one) for one in due))
                if not due:
                    await asyncio.sleep(POLL_INTERVAL_S)

    def _claim(self, connection: Connection) -> list[_Callback]:
        now = self._clock()
        rows = connection.execute(
            select(callbacks)
            .where(callbacks.c.next_at <= now)
            .order_by(callbacks.c.next_at)
            .limit(AT_ONCE)
            .with_for_update(skip_locked=True)
        ).all()
        ids = [row.id for row in rows]
        connection.execute(
            update(callbacks).where(callbacks.c.id.in_(ids)).values(next_at=now + CLAIM_S)
        )
        return [_Callback(row.id, row.url, row.body, row.tries) for row in rows]

    async def _send(self, session: aiohttp.ClientSession, one: _Callback) -> None:
        body = one.body.encode()
        headers = {
            "Content-Type": "application/json",
            "X-Gsch-Signature": sign(self._key, body),
            "X-Gsch-Delivery": str(one.id),
        }
        problem = ""
        try:
            async with session.post(
                one.url, data=body, headers=headers, allow_redirects=False
            ) as reply:
                if not 200 <= reply.status < 300:
                    problem = f"answered {reply.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            problem = str(error) or type(error).__name__
        try:
            await self._transactions.run(lambda connection: self._settle(connection, one, problem))
        except DatabaseUnavailable as error:
            log.warning("callback not noted: it is sent again", error=str(error))

    def _settle(self, connection: Connection, one: _Callback, problem: str) -> None:
        tries = one.tries + 1
        if problem and tries < MAX_TRIES:
            pause = min(FIRST_RETRY_S * 4**one.tries, MAX_RETRY_S)
            changed = {"tries": tries, "next_at": self._clock() + pause}
            connection.execute(update(callbacks).where(callbacks.c.id == one.id).values(**changed))
            log.info("callback not taken, again later", problem=problem, after_s=pause)
            return
        if problem:
            log.warning("callback given up", problem=problem, tries=tries)
        connection.execute(delete(callbacks).where(callbacks.c.id == one.id))


class _Resolver(AbstractResolver):
    """A name must not lead where an address may not: looked at when it is called, so that it cannot
    change in between."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await self._resolver.resolve(host, port, family)
        if not self._allow_private:
            addresses = [one for one in addresses if not _private(one["host"])]
            if not addresses:
                raise OSError(f"{host} is a private address")
        return addresses

    async def close(self) -> None:
        await self._resolver.close()


def _private(host: str) -> bool:
    """Whether it is an address that is not of the internet, or `localhost`."""
    if is_private(host):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if address.version == 6 else None
    address = mapped or address
    return not address.is_global or address.is_multicast
