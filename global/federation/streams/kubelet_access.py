"""Who may ask the kubelet API of virtual nodes, as a kubelet has it: a client certificate of the
cluster's authority says who it is, and the API server whether it may."""

import datetime
import ipaddress
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.api.client import ApiClient, ApiError
from cluster.errors import ConfigError
from federation.settings import KubeletSettings
from serving.security import in_memory_file

AUTHORITY = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
ALLOWED_FOR_S = 60.0
"""Seconds for which an allowance is not asked for again; a refusal always is."""
MAX_ALLOWED = 1000
VALID = datetime.timedelta(days=3650)
VERBS = {"GET": "get", "HEAD": "get", "POST": "create"}


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


class _Status(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = _Status()


class KubeletAccess:
    """Asks the API server of one cluster, and remembers for a while whom it let in."""

    def __init__(self, client: ApiClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._until: dict[tuple[str, tuple[str, ...], str, str], float] = {}

    async def allowed(self, certificate: Mapping[str, Any], method: str, node: str) -> bool:
        """Whether the subject of this certificate (as `ssl` gives it) may. Raises ApiError,
        TransportError."""
        user, groups = subject_of(certificate)
        verb = VERBS.get(method, "")
        if not user or not verb:
            return False
        key = user, groups, verb, node
        if self._until.get(key, 0.0) > self._clock():
            return True
        spec = {
            "user": user,
            "groups": [*groups, "system:authenticated"],
            "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": "proxy",
                "name": node,
            },
        }  # fmt: skip
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        reply = await self._client.request("POST", REVIEWS, body)
        if not reply.ok:
            raise ApiError(reply, "ask who may see virtual nodes")
        if not reply.decode(_Review).status.allowed:
            return False
        if len(self._until) >= MAX_ALLOWED:
            self._until.clear()
        self._until[key] = self._clock() + ALLOWED_FOR_S
        return True


def subject_of(certificate: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """User and groups: common name and organisations."""
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    user = next((value for name, value in fields if name == "commonName"), "")
    return user, tuple(value for name, value in fields if name == "organizationName")


async def server_tls(client: ApiClient, name: str, given: KubeletSettings) -> ssl.SSLContext:
    """What the kubelet API listens with. Without files: a certificate of our own, and the
    authority of client certificates that the cluster names.

    Raises ConfigError, ApiError, TransportError.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        if given.client_ca_file:
            context.load_verify_locations(cafile=given.client_ca_file)
        else:
            config = await client.get(AUTHORITY, _ConfigMap)
            context.load_verify_locations(cadata=config.data["client-ca-file"])
        if given.tls_cert_file:
            context.load_cert_chain(given.tls_cert_file, given.tls_private_key_file or None)
        else:
            _load_own(context, name, given.address)
    except KeyError as error:
        raise ConfigError(
            "kubelet.clientCaFile: the cluster names no authority of client certificates "
            "(ConfigMap kube-system/extension-apiserver-authentication)"
        ) from error
    except (OSError, ssl.SSLError) as error:
        files = given.tls_cert_file, given.tls_private_key_file, given.client_ca_file
        raise ConfigError(f"kubelet: {', '.join(filter(None, files))}: {error}") from error
    return context


def _load_own(context: ssl.SSLContext, name: str, address: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
    ])  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with in_memory_file(pem) as path:
        context.load_cert_chain(path)
