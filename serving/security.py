"""What every HTTP server here asks of its clients and its settings: bearer tokens and TLS."""

import hmac
import ipaddress
import os
import ssl
from collections.abc import Awaitable, Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from cluster.errors import ConfigError

MIN_TOKEN = 16

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServingError(ConfigError):
    """A server cannot listen as its settings say; the text names what is wrong."""


def bearer(token: bytes, open_paths: Container[str]) -> Middleware:
    """Ask for this token (empty: none) on all but the open paths."""

    @web.middleware
    async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and request.path not in open_paths:
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, b"Bearer " + token):
                raise web.HTTPUnauthorized(
                    reason="a bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
                )
        return await handler(request)

    return authorise


def read_token(path: str | Path, at_least: int = MIN_TOKEN) -> bytes:
    """The token in the file, without surrounding white space; empty without a path.

    Raises ServingError.
    """
    if not path:
        return b""
    try:
        parsed = Path(path).read_bytes().strip()
    except OSError as error:
        raise ServingError(f"{path}: {error.strerror}") from error
    if len(parsed) < at_least:
        raise ServingError(f"{path}: at least {at_least} characters are needed")
    return parsed


def tls(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext | None:
    """The server's side of TLS 1.2 or newer; None without files. With `client_ca` every client has
    to show a certificate of that authority.

    Raises ServingError.
    """
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ServingError(str(error)) from error
    return context


@contextmanager
def in_memory_file(content: bytes) -> Iterator[str]:
    """The path of a file that lies on no disk: `ssl` reads keys from files alone."""
    number = os.memfd_create("key")
    try:
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
        "::1/128", "fc00::/7",
    )
)  # fmt: skip
"""Loopback, RFC 1918, RFC 6598 and unique local addresses (RFC 4193)."""


def is_loopback(address: str) -> bool:
    parsed = _address(address)
    return address == "localhost" or (parsed is not None and parsed.is_loopback)


def is_private(address: str) -> bool:
    """Whether only the cluster's own network leads here: loopback, RFC 1918, ULA, RFC 6598."""
    if address == "localhost":
        return True
    parsed = _address(address)
    return parsed is not None and any(
        parsed.version == network.version and parsed in network for network in PRIVATE
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, of an IPv4 one that is written as IPv6 that one; None for a host's name."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if parsed.version == 6 else None
    return mapped or parsed
