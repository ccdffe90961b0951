"""Where an API server is and how to prove who we are: from a pod's service account, a kubeconfig
file, or, for what these two do not cover, by the official `kubernetes` package.

That package takes most of a second and forty megabytes to import: it is left to exec plugins, auth
providers and files that are merged."""

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import Struct

from cluster.errors import ClusterError

DEFAULT_KUBECONFIG = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_KUBECONFIG_BYTES = 4 * 1024 * 1024

UNREADABLE = (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError)
"""What reading credentials that do not hold raises."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class AccessError(ClusterError):
    """No usable way to a cluster; the text says what was tried and what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`ca` is PEM of the authorities to trust (None: the system's), `identity` PEM of the client
    certificate and its key. `server_name` is the name to expect in the server's certificate, where
    it is not that of `host`. `header` reads the value of the Authorization header anew: tokens are
    rotated."""

    host: str
    header: Callable[[], str | None]
    verify: bool = True
    server_name: str | None = None
    ca: bytes | None = None
    identity: bytes | None = None


def load(kubeconfig: str | None, context: str | None) -> Credentials:
    """Of the named kubeconfig, of KUBECONFIG, of the pod's service account, or of
    `~/.kube/config`, whichever comes first.

    Raises AccessError.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG")
    in_pod = not path and not context and "KUBERNETES_SERVICE_HOST" in os.environ
    where = "the pod's service account" if in_pod else path or DEFAULT_KUBECONFIG
    try:
        if in_pod:
            return of_service_account()
        return _of_file(path or DEFAULT_KUBECONFIG, context) or _by_package(path, context)
    except UNREADABLE as error:
        problem = str(error)
        if isinstance(error, FileNotFoundError):
            problem = f"{error.filename} does not exist"
        raise AccessError(
            f"cannot read cluster access from {where}: {problem}. "
            "Name a kubeconfig with --kubeconfig or KUBECONFIG (and --context)"
        ) from error


def of_service_account(folder: Path = SERVICE_ACCOUNT) -> Credentials:
    """Of the pod that this runs in. The token is read again as the kubelet rotates it.

    Raises AccessError outside a pod.
    """
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{key}", "") for key in ("HOST", "PORT"))
    if not host:
        raise AccessError("no KUBERNETES_SERVICE_HOST: this is not a pod of a cluster")
    try:
        ca, header = (folder / "ca.crt").read_bytes(), _token_file(folder / "token")
        header()
    except OSError as error:
        raise AccessError(f"cannot read the pod's service account: {error}") from error
    host = f"[{host}]" if ":" in host else host
    return Credentials(f"https://{host}:{port}", header, ca=ca)


# -- a kubeconfig file -------------------------------------------------------------------------


class _Cluster(Struct, rename="kebab"):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""


class _User(Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    # What only the kubernetes package does.
    exec: Any = None
    auth_provider: Any = None
    username: str = ""


class _Context(Struct):
    cluster: str
    user: str = ""


class _NamedCluster(Struct):
    name: str
    cluster: _Cluster


class _NamedUser(Struct):
    name: str
    user: _User


class _NamedContext(Struct):
    name: str
    context: _Context


class _Kubeconfig(Struct, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    contexts: list[_NamedContext] | None = None
    users: list[_NamedUser] | None = None
    current_context: str = ""


Named = TypeVar("Named", _NamedCluster, _NamedUser, _NamedContext)


def _of_file(path: str, context: str | None) -> Credentials | None:
    """None for what only the `kubernetes` package does: merged files, exec plugins, auth
    providers."""
    if os.pathsep in path:
        return None
    file = Path(path).expanduser()
    text = file.read_bytes()
    if len(text) > MAX_KUBECONFIG_BYTES:
        raise ValueError(f"larger than {MAX_KUBECONFIG_BYTES} bytes")
    try:
        config = msgspec.convert(yaml.load(text, _Loader), _Kubeconfig)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {str(error).splitlines()[0]}") from error
    context = context or config.current_context
    if not context:
        raise ValueError("it has no current-context")
    chosen = _named(config.contexts, "context", context).context
    cluster = _named(config.clusters, "cluster", chosen.cluster).cluster
    user = _named(config.users, "user", chosen.user).user if chosen.user else _User()
    if user.exec or user.auth_provider or user.username:
        return None
    folder = file.parent
    certificate = _pem(user.client_certificate_data, user.client_certificate, folder)
    key = _pem(user.client_key_data, user.client_key, folder)
    return Credentials(
        cluster.server.rstrip("/"),
        _header(user, folder),
        not cluster.insecure_skip_tls_verify,
        cluster.tls_server_name or None,
        _pem(cluster.certificate_authority_data, cluster.certificate_authority, folder),
        certificate + b"\n" + key if certificate and key else None,
    )


def _named(items: list[Named] | None, what: str, name: str) -> Named:
    for item in items or ():
        if item.name == name:
            return item
    names = ", ".join(item.name for item in items or ()) or "none"
    raise ValueError(f"it has no {what} {name!r} (it has: {names})")


def _pem(data: str, path: str, folder: Path) -> bytes | None:
    """Data stands before the file, as for kubectl."""
    if data:
        return base64.b64decode(data, validate=True)
    return (folder / path).read_bytes() if path else None


def _header(user: _User, folder: Path) -> Callable[[], str | None]:
    if user.token_file:
        return _token_file(folder / user.token_file)
    value = f"Bearer {user.token}" if user.token else None
    return lambda: value


def _token_file(path: Path) -> Callable[[], str]:
    return lambda: f"Bearer {path.read_text().strip()}"


# -- all the rest ------------------------------------------------------------------------------


def _by_package(path: str | None, context: str | None) -> Credentials:
    from kubernetes import config as kubernetes_config
    from kubernetes.client import Configuration
    from kubernetes.config.config_exception import ConfigException

    configuration: Any = Configuration()
    try:
        kubernetes_config.load_kube_config(
            path, context, client_configuration=configuration, persist_config=False
        )
    except ConfigException as error:
        raise ValueError(str(error)) from error

    def header() -> str | None:
        """Runs the exec plugin again where its token is no longer valid."""
        try:
            settings = configuration.auth_settings()
        except ConfigException as error:
            raise ValueError(str(error)) from error
        return settings["BearerToken"]["value"] if settings else None

    certificate, key = _file(configuration.cert_file), _file(configuration.key_file)
    if header() is None and not certificate:
        # The package logs what a plugin fails of, and goes on without.
        raise ValueError(
            "its user got neither a token nor a certificate (an exec plugin that fails or is not "
            "installed, or a password, which API servers take no more)"
        )
    return Credentials(
        str(configuration.host).rstrip("/"),
        header,
        bool(configuration.verify_ssl),
        configuration.tls_server_name or None,
        _file(configuration.ssl_ca_cert),
        certificate + b"\n" + key if certificate and key else None,
    )


def _file(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None
