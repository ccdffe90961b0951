"""Drain a backlog with gsch and with kube-scheduler, in turns, each on a fresh control plane.

All pods are pending before the scheduler starts. The rate runs from the first bind to the last, as
each scheduler's own `scheduler_schedule_attempts_total` tells (polled, which costs both the same);
that every pod is bound, and on nodes that hold it, is then read from the API server.

    python -m bench.drain --nodes 5000 --pods 10000 --rounds 2
    python -m bench.drain --extender --nodes 1000 --pods 5000 --shape packed
"""

import argparse
import asyncio
import json
import os
import re
import ssl
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import schedulers
from cluster.api.access import Access
from cluster.api.client import ApiClient, with_query
from cluster.objects.core import ObjectList, Pod
from lab import binaries, nodes
from lab.cluster import LabCluster, Options

NODE = {"cpu": "4", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"}
IN_FLIGHT = 64
EXTENDED = "kube-scheduler+extender"
POLL = 0.5
SHAPES = ("same", "different", "spread", "apart", "packed")
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Result:
    """One drain: pods a second, seconds until the last bind and until the last event, CPU, RSS."""

    scheduler: str
    pods_per_s: float
    bound_s: float
    events_s: float
    cpu_s: float
    rss_mib: float


def pod(number: int, scheduler: str, shape: str) -> dict[str, Any]:
    """A pending pod of 100m / 500Mi; `shape` says what else.

    different: no two alike; spread: evenly over zones; apart: one to a node; packed: under gsch's
    packing policy, which the extender honours too.
    """
    cpu, memory = (50 + number % 97, 300 + number) if shape == "different" else (100, 500)
    made = _plain(number, scheduler, cpu, memory)
    spec, labels = made["spec"], {"app": "bench"}
    if shape == "spread":
        constraint = {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
        spec["topologySpreadConstraints"] = [
            constraint | {"labelSelector": {"matchLabels": labels}}
        ]
    elif shape == "apart":
        term = {"topologyKey": HOST, "labelSelector": {"matchLabels": labels}}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        spec["affinity"] = {"podAntiAffinity": required}
    elif shape == "packed":
        config = json.dumps({"type": "local", "priority": "GMostRequestedPriority"})
        spec["containers"][0]["env"] = [{"name": "gschConfig", "value": config}]
    made["metadata"]["labels"] = labels
    return made


def _plain(number: int, scheduler: str, cpu: int, memory: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "namespace": "default"},
        "spec": {
            "schedulerName": scheduler,
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example/pause:1",
                    "resources": {"requests": {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}},
                }
            ],
        },
    }


async def create_pods(kubeconfig: Path, bodies: Iterator[dict[str, Any]]) -> None:
    limit = asyncio.Semaphore(IN_FLIGHT)
    async with ApiClient(Access(str(kubeconfig))) as client:

        async def one(body: dict[str, Any]) -> None:
            async with limit:
                reply = await client.request("POST", "/api/v1/namespaces/default/pods", body)
            if not reply.ok:
                raise RuntimeError(reply.error.message)

        await asyncio.gather(*map(one, bodies))


_TLS = ssl.create_default_context()
# kube-scheduler signs its own certificate; it is asked on loopback only.
_TLS.check_hostname, _TLS.verify_mode = False, ssl.CERT_NONE
_SCHEDULED = re.compile(
    rb'^scheduler_schedule_attempts_total\{[^}]*result="scheduled"[^}]*\} ([0-9.e+]+)', re.MULTILINE
)


def scheduled(url: str) -> int:
    """Pods that the scheduler has bound, 0 while it does not answer yet."""
    try:
        with urllib.request.urlopen(url, context=_TLS, timeout=10) as reply:  # noqa: S310
            found = _SCHEDULED.findall(reply.read())
    except (urllib.error.URLError, OSError):
        return 0
    return round(sum(map(float, found)))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def drain(name: str, arguments: argparse.Namespace) -> Result:
    """One run on a control plane of its own."""
    cluster = LabCluster(f"bench-{name}"[:20])
    cluster.down()
    cluster.up(Options(bare=True))
    try:
        console.print(f"{name}: {arguments.nodes} nodes, {arguments.pods} pods")
        made = (nodes.plain(n, NODE) for n in range(arguments.nodes))
        asyncio.run(nodes.create(cluster.kubeconfig, list(made)))
        profile = "gsch" if name == "gsch" else "default-scheduler"
        bodies = (pod(n, profile, arguments.shape) for n in range(arguments.pods))
        asyncio.run(create_pods(cluster.kubeconfig, bodies))
        time.sleep(arguments.settle)
        with _started(name, cluster, arguments) as (process, url):
            first, seen, last = _follow(process, url, arguments.pods)
            if name == EXTENDED:
                _print_latencies()
            events = asyncio.run(_wait_for_events(cluster.kubeconfig, arguments.pods, first))
            cpu, rss = cpu_seconds(process.pid), peak_mib(process.pid)
        asyncio.run(_check(cluster.kubeconfig, arguments.pods))
    finally:
        cluster.down()
    seconds = last - first
    return Result(name, (arguments.pods - seen) / seconds, seconds, events, cpu, rss)


def _started(
    name: str, cluster: LabCluster, arguments: argparse.Namespace
) -> AbstractContextManager[tuple[subprocess.Popen[bytes], str]]:
    if name == "gsch":
        return schedulers.run(name, cluster)
    more: dict[str, Any] = {}
    if arguments.sample:
        more["percentageOfNodesToScore"] = arguments.sample
    if name == EXTENDED:
        return schedulers.extended(cluster, arguments.verbs.split(","), **more)
    return schedulers.run(name, cluster, **more)


def _print_latencies() -> None:
    """The extender's p50 and p99 of each verb, from the buckets of its own histogram."""
    with urllib.request.urlopen(f"{schedulers.EXTENDER_URL}/metrics") as reply:  # noqa: S310
        text = reply.read().decode()
    buckets: dict[str, list[tuple[float, float]]] = {}
    pattern = r'gsch_extender_request_duration_seconds_bucket\{le="([^"]+)",verb="([^"]+)"\} (\S+)'
    for limit, verb, count in re.findall(pattern, text):
        buckets.setdefault(verb, []).append((float(limit), float(count)))
    for verb, found in buckets.items():
        total = found[-1][1]
        p50, p99 = (
            next(limit for limit, count in found if count >= share * total) * 1000
            for share in (0.5, 0.99)
        )
        print(f"{verb}: {total:.0f} calls, p50 ≤ {p50:.2f} ms, p99 ≤ {p99:.2f} ms")


def _follow(process: subprocess.Popen[bytes], url: str, pods: int) -> tuple[float, int, float]:
    """(time of the first sight of bound pods, how many they were, time when all were bound)."""
    first, seen = 0.0, 0
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the scheduler ended with {process.returncode}")
        number, now = scheduled(url), time.monotonic()
        if number and not first:
            first, seen = now, number
        if number >= pods:
            return first, seen, now
        time.sleep(POLL)


async def _wait_for_events(kubeconfig: Path, pods: int, first: float) -> float:
    """Seconds from the first bind until every pod has its event (kube-scheduler may drop some)."""
    path = with_query("/apis/events.k8s.io/v1/events", {"limit": 1})
    async with ApiClient(Access(str(kubeconfig))) as client:
        last, since = -1, time.monotonic()
        while True:
            reply = await client.request("GET", path)
            page = json.loads(reply.body)
            number = len(page["items"]) + page["metadata"].get("remainingItemCount", 0)
            now = time.monotonic()
            if number != last:
                last, since = number, now
            if number >= pods or now - since > 3:
                if number < pods:
                    console.print(f"only {number} of {pods} events were written")
                return since - first
            await asyncio.sleep(POLL)


async def _check(kubeconfig: Path, pods: int) -> None:
    """Every pod bound, no node overcommitted in pods or cpu: from the API server."""
    async with ApiClient(Access(str(kubeconfig))) as client:
        items = (await client.get("/api/v1/pods", ObjectList[Pod])).items or []
    placed = Counter(p.spec.node_name for p in items)
    if len(items) != pods or "" in placed:
        raise RuntimeError(f"{placed['']} pods are not bound")
    if max(placed.values()) > 40:
        raise RuntimeError("a node holds more pods than its cpu allows")


def report(results: list[Result]) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("SCHEDULER", "PODS/S", "BOUND (s)", "EVENTS (s)", "CPU (s)", "RSS (MiB)"):
        table.add_column(heading, justify="right")
    for r in results:
        cells = (r.pods_per_s, r.bound_s, r.events_s, r.cpu_s, r.rss_mib)
        table.add_row(r.scheduler, *(f"{cell:.1f}" for cell in cells))
    Console().print(table)
    pairs = list(zip(results[::2], results[1::2], strict=False))
    ratios = [a.pods_per_s / b.pods_per_s for a, b in pairs]
    if ratios and results[0].scheduler != results[1].scheduler:
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        names = f"{results[0].scheduler} / {results[1].scheduler}"
        print(f"{names}, pods/s: {statistics.median(ratios):.2f} (pairs: {shown})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="same")
    parser.add_argument("--only", choices=("gsch", "kube-scheduler", EXTENDED))
    parser.add_argument("--extender", action="store_true", help=f"{EXTENDED} instead of gsch")
    parser.add_argument("--verbs", default="filter,prioritize", help="that the extender is asked")
    parser.add_argument("--sample", type=int, default=0, help="percentageOfNodesToScore")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds before the start")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    arguments = parser.parse_args()
    binaries.ensure()
    names = [EXTENDED if arguments.extender else "gsch", "kube-scheduler"]
    if arguments.only:
        names = [arguments.only]
    results = [drain(name, arguments) for _ in range(arguments.rounds) for name in names]
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        report(results)


if __name__ == "__main__":
    main()
