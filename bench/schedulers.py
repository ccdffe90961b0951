"""gsch and kube-scheduler as processes beside a lab cluster, configured alike."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from lab import binaries
from lab.cluster import LabCluster

QPS = 5000
PORT = 10359
EXTENDER_PORT = 8888
EXTENDER_URL = f"http://127.0.0.1:{EXTENDER_PORT}"
READY_WITHIN = 60.0

Json = dict[str, Any]


@contextmanager
def extended(
    cluster: LabCluster, verbs: Sequence[str], port: int = PORT, **config: Any
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """kube-scheduler that calls a `gsch extender`; its process and the URL of its metrics."""
    path = cluster.folder / "extender.yaml"
    path.write_text(yaml.safe_dump(_gsch(port) | {"extender": {"port": EXTENDER_PORT}}))
    command = [sys.executable, "-m", "gsch", "extender", "--config", str(path)]
    command += ["--kubeconfig", str(cluster.kubeconfig)]
    with (cluster.folder / "extender.log").open("wb") as log:
        extender = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until_ready(extender, f"{EXTENDER_URL}/readyz")
        extenders = [
            {
                "urlPrefix": EXTENDER_URL,
                **{f"{verb}Verb": verb for verb in verbs},
                "weight": 200,
                "nodeCacheCapable": True,
            }
        ]
        with run("kube-scheduler", cluster, port, extenders=extenders, **config) as found:
            yield found
    finally:
        extender.terminate()
        extender.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Until the page answers. Raises RuntimeError."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} is not ready after {READY_WITHIN} s")


@contextmanager
def run(
    name: str, cluster: LabCluster, port: int = PORT, extra: Sequence[str] = (), **config: Any
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process of `gsch` or `kube-scheduler`, and the URL of its metrics.

    `config` are further fields of its configuration, `extra` further arguments.
    """
    path = cluster.folder / f"{name}-{port}.yaml"
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
    with (cluster.folder / f"{name}-{port}.log").open("wb") as log:
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
