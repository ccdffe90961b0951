"""`gsch global up` as a process, and clusters for it."""

import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from lab import binaries
from lab.backing import Kafka, Postgres, Redis
from lab.cluster import LabCluster
from lab.measure import free_port
from scheduler.config.pod_info import REQUEST_LABEL
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import ROOT, Gsch

FINAL = ("completed", "failed", "canceled")


@dataclass(frozen=True, slots=True)
class Away:
    """A cluster that cannot be reached."""

    name: str
    kubeconfig: Path = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster of the layer."""

    name: str
    lab: LabCluster | Away
    kube: Kube
    scheduler: Gsch
    settings: Json = field(default_factory=dict)
    """Further ones of it in the layer's configuration."""


@contextmanager
def members(folder: Path, *names: str, nodes: int = 3, cpu: str = "4") -> Iterator[list[Member]]:
    """Clusters with a few nodes each, and a scheduler for each of them."""
    binaries.ensure()
    made = []
    with ExitStack() as closing:
        for name in names:
            lab = LabCluster(f"{name}-{os.getpid()}")
            lab.up()
            closing.callback(lab.down)
            kube = Kube(lab.kubeconfig)
            kube.create(*(node_json(f"{name}-n{i}", cpu=cpu, pods="500") for i in range(nodes)))
            own = folder / name
            own.mkdir()
            scheduler = closing.enter_context(Gsch(own, lab.kubeconfig))
            made.append(Member(name, lab, kube, scheduler))
        yield made


class Part(Gsch):
    """A process of the layer: `gsch global <role>`. A context manager."""

    STARTED = "serving"

    def __init__(self, folder: Path, clusters: list[Member], role: str, *options: str,
                 name: str = "", **config: Any) -> None:  # fmt: skip
        self._clusters, self._given = clusters, config
        self._role, self._options = role, options
        super().__init__(folder, clusters[0].lab.kubeconfig, name or role)

    def configure(self, **config: Any) -> None:
        base: Json = {
            "apiVersion": "config.gsch.io/v1alpha1",
            "kind": "GlobalConfiguration",
            "database": f"sqlite:///{self.folder}/global.db",
            "keyFile": str(self.folder / "global.key"),
            "callbacks": {"keyFile": str(self.folder / "callbacks.key")},
            "port": 0,
            "clusters": [
                {"name": one.name, "kubeconfig": str(one.lab.kubeconfig), **one.settings}
                for one in self._clusters
            ],
        }
        self.config.write_text(yaml.safe_dump(base | self._given))

    def launch(self) -> None:
        self._starts += 1
        self.log = self.config.with_suffix(f".{self._starts}.log")
        command = ["global", self._role, "--config", str(self.config), *self._options]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gsch", *command], cwd=ROOT, stdout=log, stderr=log,
                env=self._environment(),
            )  # fmt: skip


class Front(Part):
    """What answers HTTP: the front alone, or the whole layer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.lines(self.SERVING)[0]['port']}"

    def wait_for_clusters(self, *names: str) -> None:
        """Until every cluster's agent was heard of."""
        wait_for(lambda: {c["name"] for c in self.ok("GET", "/clusters")["items"]} >= set(names))

    def wait_for_heard(self, name: str) -> None:
        """Until the cluster is not lost (any more)."""
        wait_for(lambda: [c for c in self.ok("GET", "/clusters")["items"]
                          if c["name"] == name and not c["lost"]])  # fmt: skip

    def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Status and decoded answer of `/api/v1` and the path."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def ok(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        status, record = self.call(method, path, body, **headers)
        assert status < 300, (status, record)
        return record

    def submit(self, text: str, policy: str = "GMostRequestedPriority", **fields: Any) -> str:
        """A new request's id."""
        body = {"yaml": text, "policy": policy, **fields}
        return str(self.ok("POST", "/requests", body)["id"])

    def requests(self) -> list[dict[str, Any]]:
        """All of them, page by page."""
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self.ok("GET", f"/requests?limit=500{token}")
            items += page["items"]
            if page["continue"] is None:
                return items
            token = f"&continue={page['continue']}"

    def ended(self, request_id: str, seconds: float = 120) -> dict[str, Any]:
        """The request, once it is over."""

        def look() -> dict[str, Any] | None:
            record = self.ok("GET", f"/requests/{request_id}")
            return record if record["state"] in FINAL else None

        return wait_for(look, seconds)


class Layer(Front):
    """The layer over these clusters, in one process."""

    def __init__(
        self, folder: Path, clusters: list[Member], *, wait: bool = True, **config: Any
    ) -> None:
        """`wait`: until every cluster's agent was heard of."""
        self._wait = wait
        super().__init__(folder, clusters, "up", **config)

    def start(self) -> None:
        super().start()
        if self._wait:
            self.wait_for_clusters(*(one.name for one in self._clusters))


class Servers:
    """Kafka, Redis and PostgreSQL of one layer. A context manager."""

    def __init__(self, proxied: int = 0, *, secure: bool = False) -> None:
        """`secure`: Kafka and Redis with TLS and passwords."""
        unique = f"{os.getpid()}-{secrets.token_hex(3)}"
        self.kafka = Kafka(f"kafka-{unique}", proxied=proxied, secure=secure)
        self.redis = Redis(f"redis-{unique}", secure=secure)
        self.postgres = Postgres(f"postgres-{unique}")

    def __enter__(self) -> Self:
        self._closing = ExitStack()
        for one in (self.kafka, self.redis, self.postgres):
            self._closing.enter_context(one)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()


class Apart:
    """The layer as processes of their own: a front, two workers, an agent a cluster and one that
    stands by. A context manager."""

    def __init__(self, folder: Path, clusters: list[Member], servers: Servers,
                 agent_kafka: dict[str, str] | None = None, **config: Any) -> None:  # fmt: skip
        """`agent_kafka`: where the agents of these clusters find Kafka."""
        self.clusters, self._servers = clusters, servers
        common: Json = {
            "database": servers.postgres.url,
            "kafka": {"servers": servers.kafka.url},
            "redis": {"url": servers.redis.url},
            "leaseNamespace": "default",
            **config,
        }
        # The agents know it by its port, which a restart must not change.
        self.front = Front(folder, clusters, "front", **common, port=free_port())
        self.workers = [
            Part(folder, clusters, "worker", name=f"worker-{n}", **common) for n in range(2)
        ]
        self._folder, self._common = folder, common
        self._agent_kafka = agent_kafka or {}
        self.agents: dict[str, Part] = {}

    def __enter__(self) -> Self:
        self._closing = ExitStack()
        self._closing.enter_context(self.front)
        for worker in self.workers:
            self._closing.enter_context(worker)
        for one in self.clusters:
            self.agents[one.name] = self._closing.enter_context(self.agent(one.name))
        self.front.wait_for_clusters(*(one.name for one in self.clusters))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def agent(self, cluster: str, name: str = "") -> Part:
        """A further agent of the cluster, not started."""
        servers = self._agent_kafka.get(cluster, self._servers.kafka.url)
        config = self._common | {
            "kafka": {**self._common["kafka"], "servers": servers},
            "front": {"url": self.front.url},
        }
        name = name or f"agent-{cluster}"
        return Part(self._folder, self.clusters, "agent", "--cluster", cluster, name=name, **config)


def pods_by_request(clusters: list[Member]) -> dict[str, list[str]]:
    """By request, the cluster of each of its pods: from the API servers alone."""
    record: dict[str, list[str]] = defaultdict(list)
    for one in clusters:
        for pod in one.kube.items("/api/v1/pods"):
            request_id = (pod["metadata"].get("labels") or {}).get(REQUEST_LABEL)
            if request_id:
                record[request_id].append(one.name)
    return record


def clear(clusters: list[Member]) -> None:
    """Remove whatever tests made in the default namespace, and the Works."""
    for one in clusters:
        for kind in ("/apis/apps/v1/namespaces/default/deployments",
                     "/apis/apps/v1/namespaces/default/statefulsets",
                     "/apis/batch/v1/namespaces/default/jobs",
                     "/api/v1/namespaces/default/pods",
                     "/api/v1/namespaces/default/configmaps"):  # fmt: skip
            one.kube.delete(kind)
        one.kube.delete("/apis/federation.gsch.io/v1alpha1/works")
        wait_for(partial(_no_pods, one.kube))


def _no_pods(kube: Kube) -> bool:
    return not kube.items("/api/v1/pods")


def pod(name: str, cpu: str = "10m", **spec: Any) -> str:
    made = pod_json(name, {"cpu": cpu}, **spec)
    del made["metadata"]["namespace"]
    return yaml.safe_dump(made)


def deployment(name: str, replicas: int, cpu: str = "10m") -> str:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return yaml.safe_dump(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [container]},
                },
            },
        }
    )
