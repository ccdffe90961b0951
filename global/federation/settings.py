"""The global layer's configuration file."""

from pathlib import Path

import msgspec

from cluster.errors import ConfigError
from serving.security import is_loopback

API_VERSION, KIND = "config.gsch.io/v1alpha1", "GlobalConfiguration"
MAX_BYTES = 1024 * 1024


class ClusterSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """A cluster whose agent runs in this process."""

    name: str
    """What requests call it; also its topic."""
    kubeconfig: str = ""
    """Path; empty for the default one."""
    context: str = ""
    location: str = "edge"
    """`edge`, `near` or `cloud`."""
    scheduler: str = "gsch"
    """schedulerName of the pods that are applied."""
    gateway: str = ""
    """Node from which latency counts when its source lies in another cluster."""
    rtts_ms: dict[str, float] = {}
    """Round-trip times to other clusters in milliseconds."""
    impersonate: bool = True
    """Apply objects as the ServiceAccount gsch-workloads of their namespace."""


class QueueSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """How requests are taken from the queues."""

    each: int = 50
    """N: requests that a round takes from each queue."""
    first_after: int = 2
    """K: failures after which a request goes before all others."""
    give_up_after: int = 5
    """Z: failures after which it is failed for good."""
    dispatched: int = 200
    """Requests that wait for a worker at most."""
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
    replication: int = 1
    """Replicas of topics that are made."""


class GlobalConfiguration(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """Everything that `gsch global up` reads."""

    api_version: str
    kind: str
    database: str = "sqlite:///gsch-global.db"
    """SQLAlchemy URL of a SQLite file or a PostgreSQL database."""
    key_file: str = "gsch-global.key"
    """Keys that encrypt YAML in the database; made where there is none."""
    address: str = "127.0.0.1"
    """Where the front listens."""
    port: int = 8090
    """0 takes any."""
    token_file: str = ""
    """Bearer tokens of users and agents; needed beyond loopback."""
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    keep_finished_days: float = 30.0
    """Days after which finished requests are forgotten."""
    queue: QueueSettings = QueueSettings()
    kafka: KafkaServers = KafkaServers()
    clusters: list[ClusterSettings] = []


def load(path: str) -> GlobalConfiguration:
    """Raises ConfigError, naming the field."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(data):,} bytes, at most {MAX_BYTES:,} are read")
    try:
        found = msgspec.yaml.decode(data, type=GlobalConfiguration)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    if (found.api_version, found.kind) != (API_VERSION, KIND):
        raise ConfigError(f"{path}: apiVersion {API_VERSION} and kind {KIND} are expected")
    return check(found, path)


def check(found: GlobalConfiguration, where: str) -> GlobalConfiguration:
    """What no type can say. Raises ConfigError."""
    names = [cluster.name for cluster in found.clusters]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: clusters: {name} is there twice")
    if not is_loopback(found.address):
        if not found.token_file:
            raise ConfigError(
                f"{where}: tokenFile: needed to listen on {found.address}, beyond loopback"
            )
        if not found.tls_cert_file:
            raise ConfigError(
                f"{where}: tlsCertFile: needed to listen on {found.address}, beyond loopback"
            )
    return found
