"""Reading and checking a configuration file: mistakes are refused with their path."""

import math
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from cluster.errors import ConfigError
from scheduler.config.configuration import (
    API_VERSION,
    KIND,
    Configuration,
    ExtenderServer,
    Latency,
)
from serving.security import MIN_TOKEN, ServingError, is_loopback, read_token

MIN_BODY = 64 * 1024
MAX_BYTES = 1024 * 1024


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
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: expected a mapping with apiVersion and kind")
    for field, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if raw.get(field) != expected:
            raise ConfigError(f"{where}: {field} must be {expected}, got {raw.get(field)}")
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
    check_latency(configuration.latency)
    if not 1 <= configuration.parallelism <= 1024:
        raise ValueError(f"parallelism: 1..1024, got {configuration.parallelism}")
    initial_backoff, max_backoff = (
        configuration.pod_initial_backoff_seconds,
        configuration.pod_max_backoff_seconds,
    )
    if not 0 < initial_backoff <= max_backoff:
        raise ValueError("podInitialBackoffSeconds: above 0, at most podMaxBackoffSeconds")
    if not 0 < configuration.pod_max_in_unschedulable_pods_duration < math.inf:
        raise ValueError("podMaxInUnschedulablePodsDuration: seconds above 0")
    _check_profiles(configuration)


def check_latency(latency: Latency) -> None:
    """What no type can say. Raises ValueError."""
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
    credential = extender.client_ca_file or extender.token_file
    if not is_loopback(extender.bind_address) and not (extender.tls_cert_file and credential):
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
