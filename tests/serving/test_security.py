"""Tokens, TLS and addresses: whom servers let in, and what they refuse to start with."""

import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from serving.security import (
    ServingError,
    bearer,
    is_loopback,
    is_private,
    read_token,
    tls,
)

TOKEN = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("token", "path", "header", "status"),
    [
        (TOKEN, "/metrics", "", 401),
        (TOKEN, "/metrics", "Bearer 0123456789abcdeX", 401),
        (TOKEN, "/metrics", "Basic 0123456789abcdef", 401),
        (TOKEN, "/metrics", "Bearer 0123456789abcdef", 200),
        (TOKEN, "/livez", "", 200),
        (b"", "/metrics", "", 200),
    ],
)
async def test_a_path_that_is_not_open_asks_for_the_token(
    token: bytes, path: str, header: str, status: int
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="inside")

    application = web.Application(middlewares=[bearer(token, ("/livez",))])
    application.router.add_get("/{path:.*}", answer)
    headers = {"Authorization": header} if header else {}
    async with (
        TestServer(application) as server,
        ClientSession(headers=headers) as client,
        client.get(server.make_url(path)) as reply,
    ):
        assert reply.status == status
        assert ("WWW-Authenticate" in reply.headers) is (status == 401)


def test_a_token_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b" " + TOKEN + b"\n")
    assert read_token(path) == TOKEN
    assert read_token("") == b""


def test_a_token_that_is_too_short_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(TOKEN[1:] + b"\n\n")
    with pytest.raises(ServingError, match="at least 16 characters"):
        read_token(path)
    assert read_token(path, 1) == TOKEN[1:]
    with pytest.raises(ServingError, match=r"gone: No such file"):
        read_token(tmp_path / "gone")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
         "-days", "2"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_without_files_there_is_no_tls() -> None:
    assert tls("", "") is None


def test_tls_is_new_enough_and_asks_clients_for_a_certificate_where_told(
    certificate: tuple[str, str],
) -> None:
    plain, mutual = tls(*certificate), tls(*certificate, certificate[0])
    assert plain is not None
    assert mutual is not None
    assert plain.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (plain.verify_mode, mutual.verify_mode) == (ssl.CERT_NONE, ssl.CERT_REQUIRED)


def test_tls_files_that_cannot_be_used_are_refused(
    certificate: tuple[str, str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    with pytest.raises(ServingError):
        tls(certificate[0], str(bad))
    with pytest.raises(ServingError):
        tls(certificate[0], str(tmp_path / "gone"))
    with pytest.raises(ServingError):
        tls(*certificate, str(bad))


@pytest.mark.parametrize(
    ("address", "loopback", "private"),
    [
        ("localhost", True, True),
        ("127.0.0.1", True, True),
        ("127.8.0.1", True, True),
        ("::1", True, True),
        ("10.1.2.3", False, True),
        ("172.16.0.1", False, True),
        ("192.168.0.1", False, True),
        ("100.64.0.1", False, True),
        ("fd00::1", False, True),
        ("100.128.0.1", False, False),
        ("8.8.8.8", False, False),
        ("2001:4860:4860::8888", False, False),
        ("0.0.0.0", False, False),  # noqa: S104
        ("::", False, False),
        ("example.com", False, False),
        ("", False, False),
    ],
)
def test_addresses_are_told_by_who_can_reach_them(
    address: str, loopback: bool, private: bool
) -> None:
    assert is_loopback(address) is loopback
    assert is_private(address) is private
