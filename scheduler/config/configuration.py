"""The configuration file: KubeSchedulerConfiguration's shape in an API group of our own.

docs/configuration.md is made of the strings below each field; `scheduler.config.configuration_file`
reads and checks files.
"""

from typing import Any

import msgspec

API_VERSION = "config.gsch.io/v1alpha1"
KIND = "GschConfiguration"


class _Struct(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Base of the configuration's objects: camelCase, nothing unknown, immutable."""


class ClientConnection(_Struct, frozen=True):
    """How the API server is reached."""

    kubeconfig: str = ""
    """Path of the kubeconfig file; empty for KUBECONFIG, the pod's own account, or
    ~/.kube/config."""


class LeaderElection(_Struct, frozen=True):
    """Election of the replica that schedules, by a Lease. leaseDuration > renewDeadline > 1.2 ×
    retryPeriod."""

    leader_elect: bool = True
    """Whether to hold a Lease while scheduling; false for a single process."""
    lease_duration: float = 15.0
    """Seconds after which others may take a lease that was not renewed."""
    renew_deadline: float = 10.0
    """Seconds for which the holder tries to renew; then it gives up, and the process ends with code
    1."""
    retry_period: float = 2.0
    """Seconds between tries to acquire or renew."""
    resource_name: str = "gsch"
    """Name of the Lease."""
    resource_namespace: str = "kube-system"
    """Its namespace."""


class Server(_Struct, frozen=True):
    """Where health, metrics, explanations and the configuration are served. Beyond loopback both
    TLS files and a token file are needed; /livez and /readyz need no token."""

    bind_address: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 10359
    """Port; 0 for any free one."""
    tls_cert_file: str = ""
    """PEM of the certificate and its chain."""
    tls_private_key_file: str = ""
    """PEM of its key."""
    token_file: str = ""
    """File with the bearer token that clients show, at least 16 characters."""


class ExtenderServer(_Struct, frozen=True):
    """Where `gsch extender` listens, and what it adds to filtering. Beyond loopback TLS is needed,
    and a way to know the client: `clientCaFile` (kube-scheduler can show a certificate, and nothing
    else) or `tokenFile`."""

    bind_address: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8888
    """Port; 0 for any free one."""
    tls_cert_file: str = ""
    """PEM of the certificate and its chain."""
    tls_private_key_file: str = ""
    """PEM of its key."""
    client_ca_file: str = ""
    """PEM of the authority whose certificates clients must show."""
    token_file: str = ""
    """File with the bearer token that clients show, at least 16 characters."""
    max_body_bytes: int = 10 * 1024 * 1024
    """Bytes that a request may have, at least 64 KiB."""
    latency_margin_ms: float | None = None
    """Milliseconds: pods under the low-latency policy keep only nodes within so many of the nearest
    one that fits; null for no such rule."""


class ConfigMapReference(_Struct, frozen=True):
    """A key of a ConfigMap."""

    namespace: str
    """Namespace of the ConfigMap."""
    name: str
    """Its name."""
    key: str = "latency.yaml"
    """The key whose text is read."""


class AgentsService(_Struct, frozen=True):
    """The headless Service of the latency agents; each of them is asked directly."""

    namespace: str
    """Namespace of the Service."""
    service: str
    """Its name."""
    port: int = 8787
    """Port of the agents."""
    token_file: str = ""
    """File with the bearer token to show."""
    ca_file: str = ""
    """PEM of the authority to trust; where given, agents are asked by HTTPS."""


class PrometheusServer(_Struct, frozen=True):
    """A Prometheus that scrapes the latency agents. A token, or a name and a password, or
    neither."""

    url: str
    """Its URL, http:// or https://."""
    token_file: str = ""
    """File with the bearer token to show."""
    username: str = ""
    """Name for basic authentication."""
    password_file: str = ""
    """File with its password."""
    ca_file: str = ""
    """PEM of the authority to trust."""


class Latency(_Struct, frozen=True):
    """Where round-trip times come from: at most one of `file`, `configMap`, `agents` and
    `prometheus`."""

    file: str = ""
    """Path of a YAML list of {source, target, rtt_ms}; followed as it changes."""
    config_map: ConfigMapReference | None = None
    """The same in a ConfigMap."""
    agents: AgentsService | None = None
    """The agents themselves."""
    prometheus: PrometheusServer | None = None
    """A Prometheus that scrapes them."""
    cluster: str = ""
    """Name of the cluster whose nodes are meant, where one Prometheus has several; empty for
    all."""
    interval_seconds: float = 15.0
    """Seconds between two questions to agents or Prometheus."""
    max_age_seconds: float = 120.0
    """Seconds after which a measured time counts as unknown."""
    jitter_weight: float = 1.0
    """So many times its jitter is added to a round-trip time, before both are divided by the share
    of probes that got through (docs/latency.md)."""

    @property
    def measured(self) -> bool:
        """Whether times are measured, and age, and are not just written down."""
        return self.agents is not None or self.prometheus is not None


class PluginRef(_Struct, frozen=True):
    """A plugin by name."""

    name: str
    """Name of the plugin."""
    weight: int = 0
    """Weight of its score, 1..100; 0 for the default."""


class PluginChoice(_Struct, frozen=True):
    """Plugins to add to the defaults and to leave out of them."""

    enabled: tuple[PluginRef, ...] = ()
    """Plugins that are on."""
    disabled: tuple[PluginRef, ...] = ()
    """Plugins that are off; `*` leaves out all defaults."""


class Plugins(_Struct, frozen=True):
    """By extension point."""

    multi_point: PluginChoice = PluginChoice()
    """For every extension point that a plugin has."""
    pre_enqueue: PluginChoice = PluginChoice()
    """Before the queue."""
    filter: PluginChoice = PluginChoice()
    """Which nodes fit."""
    post_filter: PluginChoice = PluginChoice()
    """Where no node fits: preemption."""
    score: PluginChoice = PluginChoice()
    """Which feasible node is best."""
    reserve: PluginChoice = PluginChoice()
    """What is held for a pod that has a node."""
    permit: PluginChoice = PluginChoice()
    """Whether it may be bound, and when."""
    pre_bind: PluginChoice = PluginChoice()
    """What is done before the bind."""


class PluginConfig(_Struct, frozen=True):
    """Arguments of a plugin."""

    name: str
    """Name of the plugin."""
    args: dict[str, Any] = {}
    """Its arguments, in that plugin's own form (below)."""


class Profile(_Struct, frozen=True):
    """Which pods are scheduled, and by which plugins."""

    scheduler_name: str
    """The schedulerName of its pods."""
    plugins: Plugins = Plugins()
    """Differences from the default plugins."""
    plugin_config: tuple[PluginConfig, ...] = ()
    """Arguments of plugins."""


class Configuration(_Struct, frozen=True):
    """The whole file."""

    api_version: str = API_VERSION
    """As given."""
    kind: str = KIND
    """As given."""
    client_connection: ClientConnection = ClientConnection()
    """How the API server is reached."""
    leader_election: LeaderElection = LeaderElection()
    """Which of several replicas schedules."""
    server: Server = Server()
    """Health, metrics and explanations."""
    extender: ExtenderServer = ExtenderServer()
    """Of `gsch extender` alone."""
    latency: Latency = Latency()
    """Where round-trip times come from."""
    parallelism: int = 64
    """Writes that pods wait for (binds, evictions, volumes) at once, 1..1024."""
    pod_initial_backoff_seconds: float = 1.0
    """Seconds before a pod whose attempt failed is tried again, the first time; then twice as long
    each time."""
    pod_max_backoff_seconds: float = 10.0
    """Seconds that this pause has at most."""
    pod_max_in_unschedulable_pods_duration: float = 300.0
    """Seconds after which an unschedulable pod is tried again without any event."""
    seed: int | None = None
    """Seed of the draw between equally good nodes; null for a new one at each start."""
    profiles: tuple[Profile, ...] = (Profile("gsch"), Profile("griffin_scheduler"))
    """One for each schedulerName."""
