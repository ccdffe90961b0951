"""TLS to an API server: whose certificate is trusted, and by which name."""

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from cluster.api.access import Access
from cluster.api.client import ApiClient, TransportError


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and with a certificate that it signed for api.example alone."""
    folder = tmp_path_factory.mktemp("tls")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    (folder / "names").write_text("subjectAltName=DNS:api.example\n")
    for words in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"],
        ["req", *key[:-2], "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
         "-CAcreateserial", "-extfile", "names", "-out", "server.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    return folder


@asynccontextmanager
async def client(tls: Path, folder: Path, **cluster: Any) -> AsyncIterator[ApiClient]:
    """A client of a server with that certificate; `cluster` is what the kubeconfig says of it."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls / "server.pem", tls / "server.key")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port = runner.addresses[0][1]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"} | cluster},
        ],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig = folder / "kubeconfig.yaml"
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        async with ApiClient(Access(str(kubeconfig))) as found:
            yield found
    finally:
        await runner.cleanup()


Cluster = Callable[[Path], dict[str, Any]]


def authority(tls: Path) -> dict[str, Any]:
    return {"certificate-authority": str(tls / "ca.pem")}


@pytest.mark.parametrize(
    ("cluster", "trusted"),
    [
        (lambda tls: authority(tls) | {"tls-server-name": "api.example"}, True),
        (lambda tls: {"insecure-skip-tls-verify": True}, True),
        # The certificate is for another name.
        (authority, False),
        (lambda tls: authority(tls) | {"tls-server-name": "other.example"}, False),
        # The authority is unknown.
        (lambda tls: {"tls-server-name": "api.example"}, False),
    ],
    ids=["name", "insecure", "address", "other", "unknown"],
)
async def test_a_server_is_trusted_by_its_authority_and_its_name(
    cluster: Cluster, trusted: bool, tls: Path, tmp_path: Path
) -> None:
    async with client(tls, tmp_path, **cluster(tls)) as found:
        if trusted:
            assert (await found.request("GET", "/version")).ok
        else:
            with pytest.raises(TransportError):
                await found.request("GET", "/version")
