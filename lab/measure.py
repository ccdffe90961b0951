"""Latency agents and Prometheus for a cluster of real nodes, for tests and benchmarks."""

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab import host
from lab.binaries import LabError
from lab.pods import CHECKOUT, mount_host, python_command
from lab.processes import wait_until
from lab.real import RealCluster

SYSTEM = "gsch-system"
PORT = 8787


def deploy_agents(cluster: RealCluster, interval: float) -> dict[str, str]:
    """The manifest's agents on every node, ready; their addresses by node. Raises LabError."""
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    ]
    for document in yaml.safe_load_all((CHECKOUT / "manifests" / "agent.yaml").read_text()):
        document["metadata"]["namespace"] = SYSTEM
        if document["kind"] == "DaemonSet":
            spec = document["spec"]["template"]["spec"]
            arguments = spec["containers"][0].pop("args")
            spec["containers"][0]["command"] = python_command(
                "-m", "gsch", *arguments, "--interval", str(interval)
            )
            document["spec"]["template"]["spec"] = mount_host(spec)
        documents.append(document)
    cluster.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(documents))
    words = ["rollout", "status", "daemonset/gsch-agent", "--timeout=60s"]
    cluster.kubectl("-n", SYSTEM, *words)
    pods = json.loads(cluster.kubectl("-n", SYSTEM, "get", "pods", "-o", "json"))
    return {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in pods["items"]}


class HostAgent:
    """An agent beside the master, which measures from there to every node's agent; or on node
    `index`, beside the one that is a pod."""

    def __init__(
        self,
        cluster: RealCluster,
        name: str,
        agents: Mapping[str, str],
        interval: float,
        *,
        of_cluster: str = "",
        further: Mapping[str, Mapping[str, str]] = {},
        index: int = 0,
    ) -> None:
        """`of_cluster` is what its cluster is called, `further` other clusters' agents by name."""
        peers = cluster.folder / f"peers-{name}.yaml"
        listed = [{"name": node, "address": address} for node, address in agents.items()]
        listed += [
            {"name": node, "address": address, "cluster": other}
            for other, of_other in further.items()
            for node, address in of_other.items()
        ]
        peers.write_text(yaml.safe_dump(listed))
        address = cluster.address(index) if index else cluster.outside
        self.target = f"{address}:{PORT}"
        command = [sys.executable, "-m", "gsch", "agent", "--node", name, "--peers", str(peers)]
        command += ["--bind-address", address, "--interval", str(interval)]
        if of_cluster:
            command += ["--cluster", of_cluster]
        if index:
            command = host.inside(cluster.namespace(index), *command)
        with (cluster.folder / "logs" / f"agent-{name}.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)

    def __enter__(self) -> "HostAgent":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)


class PrometheusProcess:
    """Debian's Prometheus over these targets, as a process. A context manager."""

    def __init__(
        self,
        folder: Path,
        targets: Sequence[str],
        scrape: str = "500ms",
        further: Sequence[str] = (),
    ) -> None:
        self._folder, self._port, self._further = folder, free_port(), further
        self.url = f"http://127.0.0.1:{self._port}"
        folder.mkdir(parents=True, exist_ok=True)
        self._targets = folder / "targets.json"
        self.scrape(targets)
        discovery = [{"files": [str(self._targets)], "refresh_interval": "1s"}]
        settings = {
            "global": {"scrape_interval": scrape, "scrape_timeout": scrape},
            "scrape_configs": [{"job_name": "gsch", "file_sd_configs": discovery}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))

    def scrape(self, targets: Sequence[str]) -> None:
        """Scrape these from now on."""
        self._targets.write_text(json.dumps([{"targets": list(targets)}]))

    def __enter__(self) -> "PrometheusProcess":
        command = [
            "prometheus",
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{self._port}",
            *self._further,
        ]
        try:
            with (self._folder / "log").open("wb") as log:
                self._process = subprocess.Popen(command, stdout=log, stderr=log)
        except FileNotFoundError:
            raise LabError("Prometheus is not installed: apt-get install prometheus") from None
        if not wait_until(self._ready, 30):
            raise LabError(f"Prometheus did not start: {(self._folder / 'log').read_text()[-800:]}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as reply:  # noqa: S310
                return bool(reply.status == 200)
        except urllib.error.HTTPError as error:
            # It speaks, and wants TLS or a password.
            return error.code in (400, 401)
        except (urllib.error.URLError, OSError):
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's samples."""
        url = f"{self.url}/api/v1/query?query={urllib.parse.quote(expression)}"
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310
            samples: list[dict[str, Any]] = json.load(reply)["data"]["result"]
        return samples

    def median_ms(self, source: str, target: str) -> float:
        """The median round trip of a pair in ms; NaN while there is none."""
        labels = f'source="{source}",target="{target}",quantile="0.5"'
        samples = self.query(f"gsch_rtt_seconds{{{labels}}}")
        return float(samples[0]["value"][1]) * 1000 if samples else float("nan")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
