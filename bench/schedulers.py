"""gsch and kube-scheduler as processes beside a lab cluster, configured alike."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from lab import binaries
from lab.cluster import LabCluster

QPS = 5000
PORT = 10359

Json = dict[str, Any]


@contextmanager
def run(
    name: str, cluster: LabCluster, port: int = PORT, extra: Sequence[str] = (), **config: Any
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process of `gsch` or `kube-scheduler`, and the URL of its metrics.

    `config` are further fields of its configuration, `extra` further arguments.
    """
    path = cluster.folder / f"{name}.yaml"
    if name == "gsch":
        path.write_text(yaml.safe_dump(_gsch(port) | config))
        command = [sys.executable, "-m", "gsch", "run", "--config", str(path)]
        command += ["--kubeconfig", str(cluster.kubeconfig)]
        url = f"http://127.0.0.1:{port}/metrics"
    else:
        path.write_text(json.dumps(_kube_scheduler(str(cluster.kubeconfig)) | config))
        command = [str(binaries.locate("kube-scheduler")), f"--config={path}"]
        command += [f"--secure-port={port}", "--bind-address=127.0.0.1"]
        command += [f"--cert-dir={cluster.folder}/certs"]
        command += ["--authorization-always-allow-paths=/metrics,/readyz"]
        url = f"https://127.0.0.1:{port}/metrics"
    with (cluster.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([*command, *extra], stdout=log, stderr=log)
    try:
        yield process, url
    finally:
        process.terminate()
        process.wait()


def _gsch(port: int) -> Json:
    return {
        "apiVersion": "config.gsch.io/v1alpha1",
        "kind": "GschConfiguration",
        "leaderElection": {"leaderElect": False},
        "server": {"port": port},
    }


def _kube_scheduler(kubeconfig: str) -> Json:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": QPS, "burst": QPS},
        "leaderElection": {"leaderElect": False},
    }
