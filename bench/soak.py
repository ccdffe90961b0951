"""Memory of a leader and of a standby while pods come and go, on one control plane.

Pods are created and deleted in batches, half of them bound and half hopeless; after each batch the
resident memory of both processes is read. It may grow to what a batch needs, and no further: the
program ends with 1 where either is larger at the end than after the first third.

    python -m bench.soak --pods 200000
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import schedulers
from bench.drain import create_pods
from cluster.api.access import Access
from cluster.api.client import ApiClient, TransportError, with_query
from cluster.objects.core import Bookmark, ObjectList, Pod
from lab import binaries, nodes
from lab.cluster import LabCluster, Options
from lab.measure import free_port

LEASE = {"leaderElect": True, "resourceName": "soak", "resourceNamespace": "kube-system"}
PODS = "/api/v1/namespaces/default/pods"
MAY_GROW, MAY_GROW_MIB = 1.05, 8
"""Share and MiB by which memory may differ from one batch to another."""

console = Console(stderr=True)


def bodies(first: int, count: int) -> Iterator[dict[str, Any]]:
    """Every second pod asks for more than any node has; all have a label of their own."""
    for number in range(first, first + count):
        cpu = "50m" if number % 2 else "999"
        container = {
            "name": "main",
            "image": "registry.example/pause:1",
            "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}},
        }
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{number}", "labels": {"own": f"v{number}"}},
            "spec": {"schedulerName": "gsch", "containers": [container]},
        }


def rss_mib(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def churn(kubeconfig: Path, first: int, count: int) -> None:
    """One batch comes, is decided, and goes."""
    await create_pods(kubeconfig, bodies(first, count))
    async with ApiClient(Access(str(kubeconfig))) as client:
        decided = 0
        while decided < count:
            items = (await client.get(PODS, ObjectList[Pod])).items or []
            decided = sum(bool(p.spec.node_name or p.status.conditions) for p in items)
            await asyncio.sleep(1)
        await delete_all(client, PODS)


async def delete_all(client: ApiClient, path: str) -> None:
    """Until the collection is empty, which takes longer than one request may."""
    options = json.dumps({"gracePeriodSeconds": 0}).encode()
    while (await client.get(with_query(path, {"limit": 1}), ObjectList[Bookmark])).items:
        try:
            await client.request("DELETE", path, options)
        except TransportError:
            await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pods", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=100)
    options = parser.parse_args()
    binaries.ensure()
    cluster = LabCluster("soak")
    cluster.down()
    cluster.up(Options(bare=True))
    rows: list[tuple[int, float, float]] = []
    try:
        made = [nodes.plain(n) for n in range(options.nodes)]
        asyncio.run(nodes.create(cluster.kubeconfig, made))
        with ExitStack() as stack:
            processes = []
            for _ in range(2):
                port = free_port()
                config: dict[str, Any] = {"leaderElection": LEASE, "server": {"port": port}}
                process, url = stack.enter_context(schedulers.run("gsch", cluster, port, **config))
                schedulers.wait_until_ready(process, url.replace("/metrics", "/readyz"))
                processes.append(process)
            for first in range(0, options.pods, options.batch):
                asyncio.run(churn(cluster.kubeconfig, first, options.batch))
                time.sleep(1)
                rows.append((first + options.batch, *(rss_mib(p) for p in processes)))
                console.print(f"{rows[-1][0]:>8} pods: {rows[-1][1]:.0f} / {rows[-1][2]:.0f} MiB")
    finally:
        cluster.down()
    sys.exit(report(rows))


def report(rows: list[tuple[int, float, float]]) -> int:
    """The exit code: 1 where memory grew."""
    table = Table(box=None, header_style="bold")
    for name in ("PODS", "LEADER (MiB)", "STANDBY (MiB)"):
        table.add_column(name, justify="right")
    for pods, *sizes in rows[:: max(len(rows) // 10, 1)] + rows[-1:]:
        table.add_row(f"{pods:,}", *(f"{size:.0f}" for size in sizes))
    Console().print(table)
    third = max(len(rows) // 3, 1)
    for column in (1, 2):
        before = max(row[column] for row in rows[:third])
        if rows[-1][column] > before * MAY_GROW + MAY_GROW_MIB:
            print(f"grew from {before:.0f} to {rows[-1][column]:.0f} MiB")
            return 1
    return 0


if __name__ == "__main__":
    main()
