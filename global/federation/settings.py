"""The global layer's configuration file."""

from pathlib import Path

import msgspec

from cluster.errors import ConfigError
from federation import policies
from federation.documents import NAME
from federation.messages import GLOBAL_TOPIC, REPLY_TOPIC, REPORT_TOPIC
from scheduler.config.configuration import Latency
from scheduler.config.configuration_file import check_latency
from serving.security import is_loopback

API_VERSION, KIND = "config.gsch.io/v1alpha1", "GlobalConfiguration"
MAX_BYTES = 1024 * 1024
MAX_WORKERS = 100


class KubeletSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """The kubelet API of the nodes that stand for other clusters, for `kubectl logs`, `exec`,
    `attach` and `port-forward` of pods that were forwarded."""

    address: str = ""
    """The agent's IP address as the cluster's API server reaches it; empty: not served."""
    port: int = 10250
    """Its port there."""
    tls_cert_file: str = ""
    """Certificate, PEM. Empty: one of its own, which API servers take that verify none."""
    tls_private_key_file: str = ""
    """Its private key, PEM."""
    client_ca_file: str = ""
    """Authority of the API server's client certificate, PEM. Empty: the one that the cluster names
    in its ConfigMap kube-system/extension-apiserver-authentication."""


NO_KUBELET = KubeletSettings()


class ClusterSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """A cluster and its agent."""

    name: str
    """What requests call it; also its topic."""
    kubeconfig: str = ""
    """Path; empty for the default one."""
    context: str = ""
    """Context of the kubeconfig; empty for its current one."""
    location: str = "edge"
    """`edge`, `near` or `cloud`."""
    scheduler: str = "gsch"
    """schedulerName of the pods that are applied."""
    gateway: str = ""
    """Node from which latency counts when its source lies in another cluster."""
    rtts_ms: dict[str, float] = {}
    """Round-trip times to other clusters in milliseconds, where they are not measured."""
    latency: Latency = Latency()
    """Where measured round-trip times come from, as in the scheduler's configuration: within the
    cluster, and with `prometheus` also to other clusters (docs/latency.md)."""
    impersonate: bool = True
    """Apply objects as the ServiceAccount gsch-workloads of their namespace."""
    routable: list[str] = []
    """Clusters whose pods' addresses are reached from this one: only theirs come into its
    EndpointSlices."""
    kubelet: KubeletSettings = NO_KUBELET
    """The kubelet API for pods that were forwarded from here."""


class QueueSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """How requests are taken from the queues."""

    each: int = 50
    """N: requests that a round takes from each queue."""
    first_after: int = 2
    """K: failures after which a request goes before all others."""
    give_up_after: int = 5
    """Z: failures after which it is failed for good."""
    dispatched: int = 200
    """Requests of a policy that wait for a worker at most."""
    scheduling: int = 1000
    """Requests that are under way at once at most."""


class KafkaServers(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Kafka, where the bus is not inside the process."""

    servers: str = ""
    """host:port, separated by commas; empty for the bus inside the process."""
    ca_file: str = ""
    """Certificate authority; with it TLS is used."""
    user: str = ""
    """SCRAM-SHA-512 user; empty for none."""
    password_file: str = ""
    """The SCRAM user's password."""
    replication: int = 1
    """Replicas of topics that are made."""


class RedisServer(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Redis, by which several processes of the layer hear of changes at once. Nothing is lost
    without it."""

    url: str = ""
    """`redis://HOST:PORT/DB`, or `rediss://…` for TLS; empty for none."""
    password_file: str = ""
    """Redis' password, where the URL has none."""
    ca_file: str = ""
    """Certificate authority of `rediss://`."""
    yaml_ttl_hours: float = 24.0
    """With `legacy`: hours for which the YAML of a request is kept there as GS reads it."""


class CallbackSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Who is notified of how a request ended."""

    key_file: str = "gsch-callbacks.key"
    """The key that signs callbacks; made where there is none."""
    allow_private: bool = False
    """Whether callbacks may go to private addresses."""


class FrontAccess(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """How an agent that is a process of its own gets at the front."""

    url: str = ""
    """`https://HOST:PORT`; plain HTTP is for loopback."""
    token_file: str = ""
    """The agent's bearer token."""
    ca_file: str = ""
    """Certificate authority of the front; empty for the system's."""


class ScalingSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Workers as Deployments, whose size follows the age of the queue. The front does it."""

    deployments: dict[str, str] = {}
    """By policy, the Deployment of its workers; `*` for all that are not named. Empty: workers are
    not scaled."""
    namespace: str = "gsch-system"
    """Where they are."""
    policy_namespace: str = ""
    """Where workers of registered policies run; empty: no policy can be registered."""
    kubeconfig: str = ""
    """Path; empty for the pod's own ServiceAccount, or the default one."""
    max_workers: int = 5
    """Pods of each Deployment at most."""
    queue_age_seconds: float = 5.0
    """How long a request may wait for a worker before there are more of them."""


class GlobalConfiguration(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Everything that `gsch global up|front|worker|agent` read."""

    api_version: str
    """`config.gsch.io/v1alpha1`."""
    kind: str
    """`GlobalConfiguration`."""
    database: str = "sqlite:///gsch-global.db"
    """SQLAlchemy URL of a SQLite file or a PostgreSQL database."""
    database_password_file: str = ""
    """The database's password, where the URL has none."""
    key_file: str = "gsch-global.key"
    """Keys that encrypt YAML in the database; made where there is none."""
    address: str = "127.0.0.1"
    """Where the front listens; of workers and agents, health pages and metrics."""
    port: int = 8090
    """0 takes any."""
    token_file: str = ""
    """Bearer tokens of users and agents; needed beyond loopback."""
    tls_cert_file: str = ""
    """Certificate of the front, PEM; needed beyond loopback."""
    tls_private_key_file: str = ""
    """Its private key, PEM."""
    legacy: bool = False
    """Answer GS's own routes and messages too. Always so for routes on loopback."""
    console_url: str = ""
    """Where people reach the console; GS's pages lead there."""
    keep_finished_days: float = 30.0
    """Days after which finished requests are forgotten."""
    queue: QueueSettings = QueueSettings()
    """How requests are taken from the queues."""
    kafka: KafkaServers = KafkaServers()
    """Kafka, where the parts of the layer are several processes."""
    redis: RedisServer = RedisServer()
    """Redis, by which they hear of changes at once."""
    callbacks: CallbackSettings = CallbackSettings()
    """Who is notified of how a request ended."""
    front: FrontAccess = FrontAccess()
    """How an agent in a process of its own gets at the front."""
    scaling: ScalingSettings = ScalingSettings()
    """Workers as Deployments, whose size follows the age of the queue."""
    lease_namespace: str = "gsch-system"
    """Namespace of the Lease by which one of two agents of a cluster works."""
    clusters: list[ClusterSettings] = []
    """Of `up`, those whose agents run in this process; of `agent`, those that it may be for."""


def load(path: str) -> GlobalConfiguration:
    """Raises ConfigError, naming the field."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(data):,} bytes, at most {MAX_BYTES:,} are read")
    try:
        configuration = msgspec.yaml.decode(data, type=GlobalConfiguration)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    if (configuration.api_version, configuration.kind) != (API_VERSION, KIND):
        raise ConfigError(f"{path}: apiVersion {API_VERSION} and kind {KIND} are expected")
    return check(configuration, path)


def check(configuration: GlobalConfiguration, where: str) -> GlobalConfiguration:
    """What no type can say. Raises ConfigError."""
    names = [cluster.name for cluster in configuration.clusters]
    for cluster in configuration.clusters:
        if not NAME.fullmatch(cluster.name):
            raise ConfigError(
                f"{where}: clusters: {cluster.name!r} is no name: lower case letters, digits, '-' "
                "and '.' are"
            )
        if names.count(cluster.name) > 1:
            raise ConfigError(f"{where}: clusters: {cluster.name} is there twice")
        if cluster.name in (GLOBAL_TOPIC, REPORT_TOPIC, REPLY_TOPIC):
            raise ConfigError(f"{where}: clusters: {cluster.name} names a topic of all clusters")
    _check_scaling(configuration.scaling, where)
    _check_latencies(configuration, where)
    if not is_loopback(configuration.address):
        if not configuration.token_file:
            raise ConfigError(
                f"{where}: tokenFile: needed to listen on {configuration.address}, beyond loopback"
            )
        if not configuration.tls_cert_file:
            raise ConfigError(
                f"{where}: tlsCertFile: needed to listen on {configuration.address}, beyond "
                "loopback"
            )
    return configuration


def _check_latencies(configuration: GlobalConfiguration, where: str) -> None:
    for cluster in configuration.clusters:
        try:
            check_latency(cluster.latency)
        except ValueError as error:
            raise ConfigError(f"{where}: clusters: {cluster.name}: {error}") from error


def _check_scaling(scaling: ScalingSettings, where: str) -> None:
    for policy in scaling.deployments:
        if policy != "*" and policy not in policies.names():
            raise ConfigError(
                f"{where}: scaling.deployments: there is no policy {policy!r}: one of "
                f"{', '.join(policies.names())}, or *"
            )
    if scaling.policy_namespace and not NAME.fullmatch(scaling.policy_namespace):
        raise ConfigError(
            f"{where}: scaling.policyNamespace: {scaling.policy_namespace!r} is no name"
        )
    if scaling.policy_namespace == scaling.namespace:
        raise ConfigError(
            f"{where}: scaling.policyNamespace: one of its own, not {scaling.namespace}: what is "
            "registered may mount the Secrets that are there"
        )
    if not 1 <= scaling.max_workers <= MAX_WORKERS:
        raise ConfigError(f"{where}: scaling.maxWorkers: 1 to {MAX_WORKERS}")
    if scaling.queue_age_seconds <= 0:
        raise ConfigError(f"{where}: scaling.queueAgeSeconds: more than 0")


def cluster_of(configuration: GlobalConfiguration, name: str, where: str) -> ClusterSettings:
    """Raises ConfigError."""
    for cluster in configuration.clusters:
        if cluster.name == name:
            return cluster
    there = ", ".join(cluster.name for cluster in configuration.clusters) or "none"
    raise ConfigError(f"{where}: clusters: {name!r} is not among them; there are: {there}")


def secret(path: str, what: str) -> str:
    """A password or token from its file; empty for no file. Raises ConfigError."""
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what}: {path}: {error}") from error
