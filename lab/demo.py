"""The examples on a control plane with 12 fake nodes, placed by `gsch run`."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from lab import binaries, nodes, processes
from lab.binaries import LabError
from lab.cluster import PARTS, LabCluster

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
    def settled(self) -> bool:
        return bool(self.node or self.why)

    @property
    def as_expected(self) -> bool:
        if self.expected.startswith(PENDING):
            return not self.node and self.expected.removeprefix(PENDING) in self.why
        return self.node in [name.strip() for name in self.expected.split("|")]


def run(keep: bool, console: Console) -> list[Row]:
    """The examples as `gsch run` places them. `keep` leaves cluster and scheduler running."""
    cluster = LabCluster(NAME)
    if cluster.exists:
        console.print("a demo from before is still there: taking it down first")
        cluster.down()
    found = binaries.ensure(PARTS, console)
    started = time.monotonic()
    console.print("bringing up etcd, kube-apiserver, kube-controller-manager and kwok")
    cluster.up()
    try:
        wanted = nodes.from_file(EXAMPLES / "cluster" / "nodes.yaml")
        asyncio.run(nodes.create(cluster.kubeconfig, wanted))
        asyncio.run(nodes.wait_ready(cluster.kubeconfig, len(wanted)))
        console.print(f"{len(wanted)} nodes are ready after {time.monotonic() - started:.1f} s")
        kubectl = _Kubectl(found["kubectl"], cluster.kubeconfig)
        with _scheduler(cluster, keep):
            rows = _follow(kubectl, console)
    except BaseException:
        cluster.down()
        raise
    if keep:
        print(f"export KUBECONFIG={cluster.kubeconfig}")  # noqa: T201
    else:
        cluster.down()
    return rows


class _Kubectl:
    def __init__(self, binary: Path, kubeconfig: Path) -> None:
        self._command = [str(binary), "--kubeconfig", str(kubeconfig)]

    def __call__(self, *arguments: str) -> str:
        answer = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, check=False
        )
        if answer.returncode:
            raise LabError(f"kubectl {' '.join(arguments)}: {answer.stderr.strip()}")
        return answer.stdout

    def pods(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self("get", "pods", "-o", "json"))["items"]
        return items


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


def _follow(kubectl: _Kubectl, console: Console) -> list[Row]:
    """Apply the examples and follow them until all are settled, or time is up."""
    folder = EXAMPLES / "pods"
    number = sum(
        document is not None
        for path in folder.glob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
    )
    processes.wait_until(lambda: "default" in kubectl("get", "serviceaccounts"), 30)
    kubectl("apply", "-f", str(folder))
    console.print(f"applied {number} pods of examples/pods")
    log = Path(kubectl._command[-1]).parent / "logs" / "gsch.log"
    deadline = time.monotonic() + WITHIN
    rows: list[Row] = []
    with console.status("waiting for the scheduler"):
        while time.monotonic() < deadline:
            rows = _rows(kubectl.pods(), log)
            if len(rows) == number and all(row.settled and row.as_expected for row in rows):
                break
            time.sleep(0.2)
    return rows


def _rows(pods: list[dict[str, Any]], log: Path) -> list[Row]:
    reasons = _decisions(log)
    rows = []
    for pod in pods:
        meta = pod["metadata"]
        conditions = pod.get("status", {}).get("conditions", [])
        refused: dict[str, str] = next(
            (c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"), {}
        )
        node = pod["spec"].get("nodeName", "")
        key = f"{meta['namespace']}/{meta['name']}"
        why = reasons.get(key, "") if node else refused.get("message", "")
        rows.append(Row(meta["name"], node, why, meta["annotations"][EXPECT]))
    return rows


def _decisions(log: Path) -> dict[str, str]:
    """What the scheduler logged about each decision, by pod."""
    found = {}
    for line in log.read_text().splitlines():
        if '"event": "decided"' in line:
            entry = json.loads(line)
            found[entry["pod"]] = entry["why"]
    return found
