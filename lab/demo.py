"""The examples on a control plane with 12 fake nodes, placed by `gsch run`."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from lab import binaries, nodes, processes
from lab.binaries import LabError
from lab.cluster import PARTS, LabCluster
from lab.kubectl import kubectl

HERE = Path(__file__).resolve().parent.parent
EXAMPLES = HERE / "examples"
NAME = "demo"
EXPECT = "gsch.io/expect"
PENDING = "Pending: "
WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """A pod: where it is, why, and whether that is what its example promises."""

    pod: str
    node: str
    why: str
    expected: str

    @property
    def as_expected(self) -> bool:
        if self.expected.startswith(PENDING):
            return not self.node and self.expected.removeprefix(PENDING) in self.why
        return self.node in [name.strip() for name in self.expected.split("|")]


def expectations() -> dict[str, str]:
    """By name of a pod in the examples, where it must end. Raises LabError outside a checkout."""
    pods = [
        document["metadata"]
        for path in sorted((EXAMPLES / "pods").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document is not None
    ]
    if not pods:
        raise LabError(
            f"{EXAMPLES}/pods is not here: the demo works from a checkout of the project"
        )
    return {meta["name"]: meta["annotations"][EXPECT] for meta in pods}


def run(keep: bool, console: Console) -> list[Row]:
    """The examples as `gsch run` places them. `keep` leaves cluster and scheduler running."""
    cluster = LabCluster(NAME)
    if cluster.exists:
        console.print("a demo from before is still there: taking it down first")
        cluster.down()
    binaries.ensure(PARTS, console)
    started = time.monotonic()
    console.print("bringing up etcd, kube-apiserver, kube-controller-manager and kwok")
    cluster.up()
    try:
        wanted = nodes.from_file(EXAMPLES / "cluster" / "nodes.yaml")
        asyncio.run(nodes.create(cluster.kubeconfig, wanted))
        asyncio.run(nodes.wait_ready(cluster.kubeconfig, len(wanted)))
        console.print(f"{len(wanted)} nodes are ready after {time.monotonic() - started:.1f} s")
        with _scheduler(cluster, keep):
            outcome = _follow(cluster, console)
    except BaseException:
        cluster.down()
        raise
    if keep:
        print(f"export KUBECONFIG={cluster.kubeconfig}")  # noqa: T201
    else:
        cluster.down()
    return outcome


@contextmanager
def _scheduler(cluster: LabCluster, keep: bool) -> Iterator[None]:
    """`gsch run` against the cluster; its log lies in the cluster's folder, and so dies with it."""
    config = cluster.folder / "gsch.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "config.gsch.io/v1alpha1",
                "kind": "GschConfiguration",
                "leaderElection": {"leaderElect": False},
                "server": {"port": 0},
                "latency": {"file": str(EXAMPLES / "cluster" / "latency.yaml")},
                "seed": 1,
            }
        )
    )
    path = cluster.folder / "logs" / "gsch.log"
    command = [sys.executable, "-m", "gsch", "run", "--verbose", "--config", str(config)]
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--kubeconfig", str(cluster.kubeconfig)],
            cwd=HERE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        if (
            not processes.wait_until(
                lambda: b'"event": "scheduling"' in path.read_bytes() or process.poll() is not None,
                30,
            )
            or process.poll() is not None
        ):
            raise LabError(f"the scheduler did not start:\n{path.read_text()[-2000:]}")
        yield
    finally:
        if not keep:
            process.terminate()
            process.wait(30)


def _follow(cluster: LabCluster, console: Console) -> list[Row]:
    """Apply the examples and follow them until all are settled, or time is up."""
    expected, path = expectations(), cluster.kubeconfig
    processes.wait_until(lambda: "default" in kubectl(path, "get", "serviceaccounts"), 30)
    kubectl(path, "apply", "-f", str(EXAMPLES / "pods"))
    console.print(f"applied {len(expected)} pods of examples/pods")
    deadline = time.monotonic() + WITHIN
    with console.status("waiting for the scheduler"):
        while True:
            pods = json.loads(kubectl(path, "get", "pods", "-o", "json"))["items"]
            latest = _rows(pods, cluster.folder / "logs" / "gsch.log", expected)
            if all(row.as_expected for row in latest) or time.monotonic() > deadline:
                return latest
            time.sleep(0.2)


def _rows(pods: list[dict[str, Any]], log: Path, expected: Mapping[str, str]) -> list[Row]:
    """One for each expected pod, whether it is there or not."""
    reasons = _decisions(log)
    outcomes: dict[str, tuple[str, str]] = {}
    for pod in pods:
        meta = pod["metadata"]
        conditions = pod.get("status", {}).get("conditions", [])
        refused: dict[str, str] = next(
            (c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"), {}
        )
        node = pod["spec"].get("nodeName", "")
        key = f"{meta['namespace']}/{meta['name']}"
        why = reasons.get(key, "") if node else refused.get("message", "")
        outcomes[meta["name"]] = node, why
    return rows(outcomes, expected)


def rows(outcomes: Mapping[str, tuple[str, str]], expected: Mapping[str, str]) -> list[Row]:
    """One for each expected pod; `outcomes` are (node, why) by name."""
    return [
        Row(name, *outcomes.get(name, ("", "nothing was decided")), expected_node)
        for name, expected_node in expected.items()
    ]


def _decisions(log: Path) -> dict[str, str]:
    """What the scheduler logged about each decision, by pod."""
    reasons = {}
    for line in log.read_text().splitlines():
        if '"event": "decided"' in line:
            entry = json.loads(line)
            reasons[entry["pod"]] = entry["why"]
    return reasons
