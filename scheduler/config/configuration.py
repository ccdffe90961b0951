"""The configuration file: KubeSchedulerConfiguration's shape in an API group of our own.

Unknown fields are refused with the path of the mistake. `gsch config default` prints what holds
without a file.
"""

import math
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from cluster.errors import ConfigError
from serving.security import MIN_TOKEN, ServingError, is_loopback, read_token

API_VERSION = "config.gsch.io/v1alpha1"
KIND = "GschConfiguration"
MIN_BODY = 64 * 1024
MAX_BYTES = 1024 * 1024


class _Struct(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Base of the configuration's objects: camelCase, nothing unknown, immutable."""


class ClientConnection(_Struct, frozen=True):
    """`kubeconfig`: path of the kubeconfig file; empty for KUBECONFIG or the pod's account."""

    kubeconfig: str = ""


class LeaderElection(_Struct, frozen=True):
    """Lease election between replicas. Durations in seconds: leaseDuration > renewDeadline >
    1.2 × retryPeriod."""

    leader_elect: bool = True
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    resource_name: str = "gsch"
    resource_namespace: str = "kube-system"


class Server(_Struct, frozen=True):
    """Where /livez, /readyz, /metrics and /configz are served.

    Beyond loopback both TLS files and a token file are asked for; /livez and /readyz need no token.
    """

    bind_address: str = "127.0.0.1"
    port: int = 10359
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    token_file: str = ""


class ExtenderServer(_Struct, frozen=True):
    """Where `gsch extender` listens, and what it adds to filtering.

    Beyond loopback TLS is asked for, and a way to know the client: `clientCaFile` (kube-scheduler
    can show a certificate, and nothing else) or `tokenFile`. `latencyMarginMs`, where given, leaves
    pods under the low-latency policy only the nodes within so many ms of the best one.
    """

    bind_address: str = "127.0.0.1"
    port: int = 8888
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    client_ca_file: str = ""
    token_file: str = ""
    max_body_bytes: int = 10 * 1024 * 1024
    latency_margin_ms: float | None = None


class ConfigMapReference(_Struct, frozen=True):
    """A key of a ConfigMap."""

    namespace: str
    name: str
    key: str = "latency.yaml"


class AgentsService(_Struct, frozen=True):
    """The headless Service of the latency agents; each of them is asked directly.

    `caFile`, where given, has them asked by HTTPS.
    """

    namespace: str
    service: str
    port: int = 8787
    token_file: str = ""
    ca_file: str = ""


class PrometheusServer(_Struct, frozen=True):
    """A Prometheus that scrapes the latency agents. A token, or a name and a password, or none."""

    url: str
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""


class Latency(_Struct, frozen=True):
    """Where round-trip times come from: one of `file`, `configMap`, `agents` and `prometheus`.

    Agents and Prometheus are asked every `intervalSeconds`; what was measured longer than
    `maxAgeSeconds` ago counts as unknown. `cluster` names the cluster whose nodes are meant, where
    one Prometheus has several. `jitterWeight`: so many times its jitter is added to a round-trip
    time before the two are divided by the share of probes that got through (docs/latency.md)."""

    file: str = ""
    config_map: ConfigMapReference | None = None
    agents: AgentsService | None = None
    prometheus: PrometheusServer | None = None
    cluster: str = ""
    interval_seconds: float = 15.0
    max_age_seconds: float = 120.0
    jitter_weight: float = 1.0

    @property
    def measured(self) -> bool:
        """Whether times are measured, and age, and are not just written down."""
        return self.agents is not None or self.prometheus is not None


class PluginRef(_Struct, frozen=True):
    """A plugin by name; `weight` (1..100) counts for scores only."""

    name: str
    weight: int = 0


class PluginChoice(_Struct, frozen=True):
    """Plugins to add and to leave out; `*` in `disabled` leaves out all defaults."""

    enabled: tuple[PluginRef, ...] = ()
    disabled: tuple[PluginRef, ...] = ()


class Plugins(_Struct, frozen=True):
    """By extension point; `multiPoint` is for every point that the plugin has."""

    multi_point: PluginChoice = PluginChoice()
    pre_enqueue: PluginChoice = PluginChoice()
    filter: PluginChoice = PluginChoice()
    post_filter: PluginChoice = PluginChoice()
    score: PluginChoice = PluginChoice()
    reserve: PluginChoice = PluginChoice()
    permit: PluginChoice = PluginChoice()
    pre_bind: PluginChoice = PluginChoice()


class PluginConfig(_Struct, frozen=True):
    """A plugin's arguments, in that plugin's own form."""

    name: str
    args: dict[str, Any] = {}


class Profile(_Struct, frozen=True):
    """Which pods are ours (`schedulerName`) and which plugins decide about them."""

    scheduler_name: str
    plugins: Plugins = Plugins()
    plugin_config: tuple[PluginConfig, ...] = ()


class Configuration(_Struct, frozen=True):
    """The whole file.

    `parallelism`: binds in flight. `podInitialBackoffSeconds`, `podMaxBackoffSeconds`: the first
    and longest pause before a pod whose attempt failed is tried again.
    `podMaxInUnschedulablePodsDuration`: seconds after which an unschedulable pod is tried again
    without any event. `seed`: of the draw between equally good nodes; null for a new one at each
    start."""

    api_version: str = API_VERSION
    kind: str = KIND
    client_connection: ClientConnection = ClientConnection()
    leader_election: LeaderElection = LeaderElection()
    server: Server = Server()
    extender: ExtenderServer = ExtenderServer()
    latency: Latency = Latency()
    parallelism: int = 64
    pod_initial_backoff_seconds: float = 1.0
    pod_max_backoff_seconds: float = 10.0
    pod_max_in_unschedulable_pods_duration: float = 300.0
    seed: int | None = None
    profiles: tuple[Profile, ...] = (Profile("gsch"), Profile("griffin_scheduler"))


def load(path: Path) -> Configuration:
    """Read a configuration file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: bytes, where: str) -> Configuration:
    """Read configuration text. Raises ConfigError, naming `where` and the field."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: larger than {MAX_BYTES} bytes")
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: expected a mapping with apiVersion and kind")
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if raw.get(field) != wanted:
            raise ConfigError(f"{where}: {field} must be {wanted}, got {raw.get(field)}")
    try:
        configuration = msgspec.convert(raw, Configuration)
        check(configuration)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return configuration


def check(configuration: Configuration) -> None:
    """Refuse values that cannot hold together. Raises ValueError naming the field."""
    election, server = configuration.leader_election, configuration.server
    if not election.lease_duration > election.renew_deadline > 1.2 * election.retry_period > 0:
        raise ValueError(
            "leaderElection: leaseDuration > renewDeadline > 1.2 × retryPeriod > 0 must hold"
        )
    if not 0 <= server.port <= 65535:
        raise ValueError(f"server.port: 0..65535, got {server.port}")
    if bool(server.tls_cert_file) != bool(server.tls_private_key_file):
        raise ValueError("server: tlsCertFile and tlsPrivateKeyFile go together")
    if not is_loopback(server.bind_address) and not (server.tls_cert_file and server.token_file):
        raise ValueError(
            f"server: {server.bind_address} is beyond loopback, which needs tlsCertFile, "
            "tlsPrivateKeyFile and tokenFile"
        )
    _check_extender(configuration.extender)
    _check_latency(configuration.latency)
    if not 1 <= configuration.parallelism <= 1024:
        raise ValueError(f"parallelism: 1..1024, got {configuration.parallelism}")
    first, most = configuration.pod_initial_backoff_seconds, configuration.pod_max_backoff_seconds
    if not 0 < first <= most:
        raise ValueError("podInitialBackoffSeconds: above 0, at most podMaxBackoffSeconds")
    if not 0 < configuration.pod_max_in_unschedulable_pods_duration < math.inf:
        raise ValueError("podMaxInUnschedulablePodsDuration: seconds above 0")
    _check_profiles(configuration)


def _check_latency(latency: Latency) -> None:
    given = [latency.file, latency.config_map, latency.agents, latency.prometheus]
    if sum(map(bool, given)) > 1:
        raise ValueError("latency: one of file, configMap, agents and prometheus, not several")
    if not 0 < latency.interval_seconds <= latency.max_age_seconds < math.inf:
        raise ValueError("latency: intervalSeconds above 0, at most maxAgeSeconds")
    if not 0 <= latency.jitter_weight < math.inf:
        raise ValueError("latency.jitterWeight: 0 or more")
    server = latency.prometheus
    if server is not None and urlsplit(server.url).scheme not in ("http", "https"):
        raise ValueError(f"latency.prometheus.url: http:// or https://, got {server.url}")
    if server is not None and server.token_file and server.username:
        raise ValueError("latency.prometheus: tokenFile or username, not both")


def _check_extender(extender: ExtenderServer) -> None:
    if not 0 <= extender.port <= 65535:
        raise ValueError(f"extender.port: 0..65535, got {extender.port}")
    if bool(extender.tls_cert_file) != bool(extender.tls_private_key_file):
        raise ValueError("extender: tlsCertFile and tlsPrivateKeyFile go together")
    if extender.client_ca_file and not extender.tls_cert_file:
        raise ValueError("extender.clientCaFile: needs tlsCertFile")
    known = extender.client_ca_file or extender.token_file
    if not is_loopback(extender.bind_address) and not (extender.tls_cert_file and known):
        raise ValueError(
            f"extender: {extender.bind_address} is beyond loopback, which needs tlsCertFile, "
            "tlsPrivateKeyFile, and clientCaFile or tokenFile"
        )
    if extender.max_body_bytes < MIN_BODY:
        raise ValueError(f"extender.maxBodyBytes: at least {MIN_BODY}")
    if extender.latency_margin_ms is not None and not 0 <= extender.latency_margin_ms < math.inf:
        raise ValueError("extender.latencyMarginMs: 0 or more")


def _check_profiles(configuration: Configuration) -> None:
    names = [profile.scheduler_name for profile in configuration.profiles]
    if not names:
        raise ValueError("profiles: at least one is needed")
    for index, name in enumerate(names):
        if not name:
            raise ValueError(f"profiles[{index}].schedulerName: must not be empty")
        if name in names[:index]:
            raise ValueError(f"profiles[{index}].schedulerName: {name} is taken")


def token(path: str, field: str, at_least: int = MIN_TOKEN) -> bytes:
    """The token in the file, without surrounding white space; empty without a path.

    Raises ConfigError, naming the field.
    """
    try:
        return read_token(path, at_least)
    except ServingError as error:
        raise ConfigError(f"{field}: {error}") from error


def dump(configuration: Configuration) -> str:
    """The configuration as YAML, every field written out."""
    return yaml.safe_dump(msgspec.to_builtins(configuration), sort_keys=False)
