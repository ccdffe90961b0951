"""What `gsch console` is told: its clusters, and how to ask about each of them."""

from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from cluster.errors import ConfigError

MAX_BYTES = 1024 * 1024


class SettingsError(ConfigError):
    """The settings do not hold; the text names the field and the mend."""


class _Struct(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    pass


class SourceAddress(_Struct, frozen=True):
    """An HTTP(S) server: a token, or a name and a password, or neither."""

    url: str = ""
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""


class Cluster(_Struct, frozen=True):
    """One cluster: a Prometheus, its scheduler, or both.

    With both, Prometheus gives the numbers and the scheduler explains pods. `label` is the name
    that the cluster has in Prometheus' `source_cluster`, where it has several clusters.
    """

    name: str
    prometheus: SourceAddress = SourceAddress()
    scheduler: SourceAddress = SourceAddress()
    label: str = ""


def load(path: Path) -> tuple[Cluster, ...]:
    """A YAML list of clusters. Raises SettingsError."""
    try:
        text = path.read_bytes()
        if len(text) > MAX_BYTES:
            raise SettingsError(f"{path}: larger than {MAX_BYTES} bytes")
        clusters = msgspec.convert(yaml.safe_load(text), tuple[Cluster, ...])
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}; expected a list of clusters") from error
    return check(clusters)


def check(clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
    """The same clusters. Raises SettingsError for what cannot be."""
    if not clusters:
        raise SettingsError(
            "no cluster: give --prometheus, --scheduler, --clusters FILE, or --global"
        )
    names = [cluster.name for cluster in clusters]
    for cluster in clusters:
        if not cluster.name or names.count(cluster.name) > 1:
            raise SettingsError(f"cluster name {cluster.name!r}: empty, or given twice")
        if not cluster.prometheus.url and not cluster.scheduler.url:
            raise SettingsError(f"cluster {cluster.name}: needs a prometheus or a scheduler")
        for endpoint in (cluster.prometheus, cluster.scheduler):
            check_address(endpoint)
    return clusters


def check_address(endpoint: SourceAddress) -> None:
    """Raises SettingsError for what cannot be."""
    if endpoint.url and urlsplit(endpoint.url).scheme not in ("http", "https"):
        raise SettingsError(f"{endpoint.url}: expected http:// or https://")
    if endpoint.token_file and endpoint.username:
        raise SettingsError(f"{endpoint.url}: a token or a user name, not both")
