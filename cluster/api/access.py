"""Where the API server is and how to prove who we are, by the official `kubernetes` package.

Covers kubeconfig files (contexts, certificates, tokens, exec plugins) and a pod's own service
account, with both kinds of token rotation. Only addresses and credentials are taken from that
package; requests are made by `cluster.api.client`.
"""

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# A credential is asked for again at this age, in seconds: rotated tokens overlap for minutes.
FRESH_FOR_S = 30.0


class AccessError(Exception):
    """No usable way to a cluster; the text says what was tried and what to do."""


class Access:
    """One cluster's address and credentials.

    `host` is the API server's URL. TLS material is read once: a rotated client certificate takes
    effect through `reload`, which the client calls after a 401.
    """

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._lock = asyncio.Lock()
        self._configuration: Any = None
        self._header: str | None = None
        self._read_at = 0.0
        self._load()

    def _load(self) -> None:
        self._configuration = _load_configuration(self._kubeconfig, self._context)
        self._read_header()

    def _read_header(self) -> None:
        settings = self._configuration.auth_settings()
        self._header = settings["BearerToken"]["value"] if settings else None
        self._read_at = time.monotonic()

    def _refresh_header(self) -> None:
        """The old header stays where the new one cannot be read: it may hold for minutes yet."""
        try:
            self._read_header()
        except _refusals() as error:
            self._read_at = time.monotonic()
            log.warning("token not read again, the old one stays", error=str(error))

    @property
    def host(self) -> str:
        return str(self._configuration.host).rstrip("/")

    @property
    def verify(self) -> bool:
        return bool(self._configuration.verify_ssl)

    @property
    def server_name(self) -> str | None:
        """The name to expect in the server's certificate, where it is not that of `host`."""
        return self._configuration.tls_server_name or None

    @property
    def ca(self) -> bytes | None:
        """PEM of the authorities to trust, or None for the system's."""
        return _read(self._configuration.ssl_ca_cert)

    @property
    def identity(self) -> bytes | None:
        """PEM of the client certificate and its key, or None."""
        certificate = _read(self._configuration.cert_file)
        key = _read(self._configuration.key_file)
        return certificate + b"\n" + key if certificate and key else None

    async def authorization(self) -> str | None:
        """The value of the Authorization header, no older than FRESH_FOR_S; None with none."""
        if time.monotonic() - self._read_at > FRESH_FOR_S:
            async with self._lock:
                if time.monotonic() - self._read_at > FRESH_FOR_S:
                    # An exec plugin is a process that may take seconds: not on the event loop.
                    await asyncio.to_thread(self._refresh_header)
        return self._header

    async def reload(self) -> None:
        """Read the configuration again from the start, exec plugins and certificates included."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._load)
            except AccessError as error:
                log.warning("credentials not reloaded", error=str(error))


def _refusals() -> tuple[type[Exception], ...]:
    """What reading a configuration that does not hold raises."""
    from kubernetes.config.config_exception import ConfigException

    return ConfigException, OSError, ValueError, KeyError, TypeError


def _load_configuration(kubeconfig: str | None, context: str | None) -> Any:
    # Imported here: it takes forty megabytes, which a ServiceAccount does without.
    from kubernetes import config as kubernetes_config
    from kubernetes.client import Configuration

    configuration: Any = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG")
    in_cluster = not path and not context and "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if in_cluster:
            kubernetes_config.load_incluster_config(configuration)
        else:
            kubernetes_config.load_kube_config(
                path, context, client_configuration=configuration, persist_config=False
            )
    except _refusals() as error:
        where = "the pod's service account" if in_cluster else path or "~/.kube/config"
        raise AccessError(
            f"cannot read cluster access from {where}: {error}. "
            "Name a kubeconfig with --kubeconfig or KUBECONFIG (and --context)"
        ) from error
    return configuration


class ServiceAccount(Access):
    """A pod's own account, read without the kubernetes package: for processes that must be small.

    Raises AccessError outside a pod. The token is read again as the kubelet rotates it.
    """

    FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")

    def _load(self) -> None:
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{key}", "") for key in ("HOST", "PORT"))
        if not host:
            raise AccessError("no KUBERNETES_SERVICE_HOST: this is not a pod of a cluster")
        self._configuration = SimpleNamespace(
            host=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            verify_ssl=True,
            tls_server_name=None,
            ssl_ca_cert=str(self.FOLDER / "ca.crt"),
            cert_file=None,
            key_file=None,
        )
        try:
            self._read_header()
        except OSError as error:
            raise AccessError(f"cannot read the pod's token: {error}") from error

    def _read_header(self) -> None:
        self._header = f"Bearer {(self.FOLDER / 'token').read_text().strip()}"
        self._read_at = time.monotonic()


def _read(path: str | None) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise AccessError(f"cannot read {path}: {error.strerror}") from error
