"""`gsch global up` as a process, and clusters for it."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from federation.agent.rewrite import REQUEST_LABEL

from lab import binaries
from lab.cluster import LabCluster
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json
from tests.harness.process import ROOT, Gsch

FINAL = ("completed", "failed", "canceled")


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster of the layer."""

    name: str
    lab: LabCluster
    kube: Kube
    scheduler: Gsch


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


class Layer(Gsch):
    """The layer over these clusters. A context manager."""

    STARTED = "serving"

    def __init__(self, folder: Path, clusters: list[Member], **config: Any) -> None:
        self._clusters, self._given = clusters, config
        super().__init__(folder, clusters[0].lab.kubeconfig, "global")

    def configure(self, **config: Any) -> None:
        base: Json = {
            "apiVersion": "config.gsch.io/v1alpha1",
            "kind": "GlobalConfiguration",
            "database": f"sqlite:///{self.folder}/global.db",
            "keyFile": str(self.folder / "global.key"),
            "port": 0,
            "clusters": [
                {"name": one.name, "kubeconfig": str(one.lab.kubeconfig)} for one in self._clusters
            ],
        }
        self.config.write_text(yaml.safe_dump(base | self._given))

    def launch(self) -> None:
        self._starts += 1
        self.log = self.folder / f"global.{self._starts}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gsch", "global", "up", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        """Start, and wait until every cluster's agent was heard of."""
        super().start()
        names = {one.name for one in self._clusters}
        wait_for(lambda: {c["name"] for c in self.ok("GET", "/clusters")["items"]} >= names)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.lines(self.SERVING)[0]['port']}"

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
        status, found = self.call(method, path, body, **headers)
        assert status < 300, (status, found)
        return found

    def submit(self, text: str, policy: str = "GMostRequestedPriority", **fields: Any) -> str:
        """A new request's id."""
        body = {"yaml": text, "policy": policy, **fields}
        return str(self.ok("POST", "/requests", body)["id"])

    def ended(self, request_id: str, seconds: float = 120) -> dict[str, Any]:
        """The request, once it is over."""

        def look() -> dict[str, Any] | None:
            found = self.ok("GET", f"/requests/{request_id}")
            return found if found["state"] in FINAL else None

        return wait_for(look, seconds)


def pods_by_request(clusters: list[Member]) -> dict[str, list[str]]:
    """By request, the cluster of each of its pods: from the API servers alone."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in clusters:
        for pod in one.kube.items("/api/v1/pods"):
            request_id = (pod["metadata"].get("labels") or {}).get(REQUEST_LABEL)
            if request_id:
                found[request_id].append(one.name)
    return found
