"""The global layer over clusters with fake nodes: from a request by HTTP until its pod has a node.

    python -m bench.federation                     # all in one process, three clusters
    python -m bench.federation --apart --workers 2 # front, workers and agents as processes

Prints requests per second, latencies (p50, p99), CPU of each part per request, and writes to the
clusters' API servers per request. `--queued` hands requests in while no agent is there; `--ranking`
ranks simulated clusters, without any server. `--faults 10` kills each part (SIGKILL) so often and
starts it again, and prints how long it takes from then until a request that is handed in completes.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from federation.fleet import Fleet, NodeShape, Report
from federation.request import MOST_REQUESTED, Owner, PodNeeds, Request

from bench import schedulers
from cluster.api.access import Access
from cluster.api.client import ApiClient
from lab import binaries, nodes, processes
from lab.backing import Backing, Kafka, Postgres, Redis
from lab.cluster import LabCluster
from lab.measure import free_port

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: pod%d}
spec:
  containers:
  - name: c
    image: i
    resources: {requests: {cpu: 10m, memory: 10Mi}}
"""
AT_ONCE = 32
END_WITHIN_S = 1800.0
WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")


@dataclass(slots=True)
class Part:
    """A process of the layer, and what it has used."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def cpu_s(self) -> float:
        return cpu_s(self.process.pid)

    @property
    def rss_mib(self) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmRSS")) / 1024


def cpu_s(pid: int) -> float:
    """Seconds that the process has used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_clusters(made: list[LabCluster]) -> dict[str, float]:
    """Seconds that their control planes and schedulers have used, by program."""
    used: dict[str, float] = defaultdict(float)
    for one in made:
        for pid, arguments in processes.of_folder(one.folder).items():
            name = "scheduler" if "gsch" in arguments else Path(arguments[0]).name
            used[name] += cpu_s(pid)
    return used


@contextmanager
def clusters(number: int, each: int) -> Iterator[list[LabCluster]]:
    """Clusters with so many nodes each, and a scheduler for each of them."""
    binaries.ensure()
    made: list[LabCluster] = []
    with ExitStack() as closing:
        for index in range(number):
            one = LabCluster(f"bench-{os.getpid()}-{index}")
            one.up()
            closing.callback(one.down)
            asyncio.run(nodes.create(one.kubeconfig, nodes.wanted(each, None), lambda: None))
            process, url = closing.enter_context(schedulers.run("gsch", one, port=free_port()))
            schedulers.wait_until_ready(process, url)
            made.append(one)
        yield made


class Layer:
    """The layer's processes. A context manager."""

    def __init__(self, folder: Path, made: list[LabCluster], workers: int, apart: bool) -> None:
        self._folder, self._made, self._workers, self._apart = folder, made, workers, apart
        self.url = f"http://127.0.0.1:{free_port()}"
        self.parts: list[Part] = []

    def __enter__(self) -> "Layer":
        self._closing = ExitStack()
        self.servers: list[Backing] = []
        config: dict[str, Any] = {
            "apiVersion": "config.gsch.io/v1alpha1",
            "kind": "GlobalConfiguration",
            "database": f"sqlite:///{self._folder}/global.db",
            "keyFile": f"{self._folder}/key",
            "callbacks": {"keyFile": f"{self._folder}/callbacks"},
            "leaseNamespace": "default",
            "front": {"url": self.url},
            "clusters": [
                {"name": f"c{n}", "kubeconfig": str(one.kubeconfig)}
                for n, one in enumerate(self._made)
            ],
        }
        if self._apart:
            unique = os.getpid()
            kafka, redis, postgres = (
                self._closing.enter_context(one)
                for one in (
                    Kafka(f"kafka-{unique}"),
                    Redis(f"redis-{unique}"),
                    Postgres(f"postgres-{unique}"),
                )
            )
            self.servers = [kafka, redis, postgres]
            config |= {
                "database": postgres.url,
                "kafka": {"servers": kafka.url},
                "redis": {"url": redis.url},
            }
            self._start("front", config, "front", port=int(self.url.rpartition(":")[2]))
            for n in range(self._workers):
                self._start(f"worker-{n}", config, "worker")
            for n in range(len(self._made)):
                self._start(f"agent-c{n}", config, "agent", "--cluster", f"c{n}")
        else:
            self._start("layer", config, "up", port=int(self.url.rpartition(":")[2]))
        return self

    def _start(
        self, name: str, config: dict[str, Any], role: str, *options: str, port: int = 0
    ) -> None:
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config | {"port": port}))
        command = [sys.executable, "-m", "gsch", "global", role, "--config", str(path), *options]
        part = Part(name, command, self._folder / f"{name}.log")
        part.start()
        self._closing.callback(part.stop)
        self.parts.append(part)

    def __exit__(self, *_: object) -> None:
        self._closing.close()


async def until_there(session: aiohttp.ClientSession, url: str, number: int) -> None:
    while True:
        try:
            async with session.get(f"{url}/api/v1/clusters") as reply:
                if len((await reply.json())["items"]) == number:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.2)


async def load(url: str, number: int, total: int) -> dict[str, float]:
    """Submit so many requests, and wait until all are over."""
    async with aiohttp.ClientSession() as session:
        await until_there(session, url, number)
        room = asyncio.Semaphore(AT_ONCE)
        posts: list[float] = []
        names = [f"c{n}" for n in range(number)]

        async def submit(index: int) -> None:
            body = {"yaml": POD % index, "policy": MOST_REQUESTED, "clusters": [names]}
            async with room:
                begun = time.monotonic()
                async with session.post(f"{url}/api/v1/requests", json=body) as reply:
                    if reply.status != 201:
                        raise RuntimeError(await reply.text())
                posts.append(time.monotonic() - begun)

        started = time.time()
        await asyncio.gather(*(submit(index) for index in range(total)))
        submitted = time.time() - started
        items = await _all_ended(session, url, total)
    failed = [one for one in items if one["state"] != "completed"]
    if failed:
        raise RuntimeError(f"{len(failed)} did not complete: {failed[0]['message']}")
    took = [one["finishedAt"] - one["createdAt"] for one in items]
    return {
        "requests/s": total / (max(one["finishedAt"] for one in items) - started),
        "submit s": submitted,
        "POST p99 ms": 1000 * quantile(posts, 0.99),
        "p50 s": statistics.median(took),
        "p99 s": quantile(took, 0.99),
    }


async def _all_ended(session: aiohttp.ClientSession, url: str, total: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + END_WITHIN_S
    while time.monotonic() < deadline:
        async with session.get(f"{url}/metrics") as reply:
            text = await reply.text()
        ended = sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("gsch_global_requests{") and _final(line)
        )
        if ended >= total:
            break
        await asyncio.sleep(0.5)
    items: list[dict[str, Any]] = []
    token = ""
    while True:
        async with session.get(f"{url}/api/v1/requests?limit=500{token}") as reply:
            page = await reply.json()
        items += page["items"]
        if page["continue"] is None:
            return items
        token = f"&continue={page['continue']}"


def _final(line: str) -> bool:
    return any(f'"{state}"' in line for state in ("completed", "failed", "canceled"))


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


async def writes(made: list[LabCluster]) -> float:
    """Writes that the API servers have answered, by their own metrics; leases are left out."""
    total = 0.0
    for one in made:
        async with ApiClient(Access(str(one.kubeconfig))) as client:
            text = (await client.request("GET", "/metrics")).body.decode()
        for line in text.splitlines():
            if not line.startswith("apiserver_request_total{") or 'resource="leases"' in line:
                continue
            if any(f'verb="{verb}"' in line for verb in WRITES):
                total += float(line.rpartition(" ")[2])
    return total


def run(arguments: argparse.Namespace) -> dict[str, float]:
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        made = closing.enter_context(clusters(arguments.clusters, arguments.nodes))
        layer = closing.enter_context(Layer(folder, made, arguments.workers, arguments.apart))
        asyncio.run(_warm(layer.url, len(made)))
        before, cpu = asyncio.run(writes(made)), [part.cpu_s for part in layer.parts]
        around = cpu_of_clusters(made)
        figures = asyncio.run(load(layer.url, len(made), arguments.requests))
        figures["writes/request"] = (asyncio.run(writes(made)) - before) / arguments.requests
        for part, used in zip(layer.parts, cpu, strict=True):
            figures[f"{part.name} CPU ms/request"] = 1000 * (part.cpu_s - used) / arguments.requests
            figures[f"{part.name} RSS MiB"] = part.rss_mib
        for name, used in cpu_of_clusters(made).items():
            spent = 1000 * (used - around.get(name, 0.0)) / arguments.requests
            figures[f"{name} CPU ms/request"] = spent
        if arguments.keep_log:
            for path in folder.glob("*.log"):
                print(path.name, path.read_text()[-2000:], file=sys.stderr)
    return figures


def faults(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds from the SIGKILL of each part, which is started again at once, until a request
    completes that is handed in right after it (p50, max)."""
    figures: dict[str, float] = {}
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        made = closing.enter_context(clusters(arguments.clusters, arguments.nodes))
        layer = closing.enter_context(Layer(folder, made, arguments.workers, arguments.apart))
        asyncio.run(_warm(layer.url, len(made)))
        asyncio.run(load(layer.url, len(made), AT_ONCE))
        undisturbed = [asyncio.run(_one(layer.url, len(made), -n)) for n in range(1, 11)]
        figures["nothing p50 s"] = statistics.median(undisturbed)
        number = 0
        targets: list[Part | Backing] = [*layer.parts, *layer.servers]
        for part in targets:
            took = []
            for _ in range(arguments.faults):
                number += 1
                begun = time.monotonic()
                part.kill()
                part.start()
                asyncio.run(_one(layer.url, len(made), number))
                took.append(time.monotonic() - begun)
            name = part.name if isinstance(part, Part) else type(part).__name__.lower()
            figures[f"{name} p50 s"] = statistics.median(took)
            figures[f"{name} max s"] = max(took)
        asyncio.run(_all_completed(layer.url))
    return figures


async def _one(url: str, number: int, index: int) -> float:
    """Hand in one request, again until it is taken, and wait until it completes; seconds."""
    names = [f"c{n}" for n in range(number)]
    body = {"yaml": POD % index, "policy": MOST_REQUESTED, "clusters": [names]}
    begun, made = time.monotonic(), ""
    async with aiohttp.ClientSession() as session:
        while time.monotonic() - begun < END_WITHIN_S:
            try:
                if not made:
                    key = {"Idempotency-Key": f"fault{index}"}
                    async with session.post(
                        f"{url}/api/v1/requests", json=body, headers=key
                    ) as reply:
                        made = (await reply.json())["id"] if reply.status == 201 else ""
                else:
                    async with session.get(f"{url}/api/v1/requests/{made}") as reply:
                        if reply.status == 200 and (await reply.json())["state"] == "completed":
                            return time.monotonic() - begun
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
    raise RuntimeError(f"request {made} did not complete")


async def _all_completed(url: str) -> None:
    """Whatever was under way at a kill too."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/api/v1/requests?limit=500") as reply,
    ):
        states = Counter(one["state"] for one in (await reply.json())["items"])
    if set(states) != {"completed"}:
        raise RuntimeError(f"not all requests completed: {dict(states)}")


async def _warm(url: str, number: int) -> None:
    async with aiohttp.ClientSession() as session:
        await until_there(session, url, number)


def queued(arguments: argparse.Namespace) -> dict[str, float]:
    """What it costs to hand requests in while no agent is there, and to list them; and how long
    they take once agents come."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        with Layer(folder, [], 1, apart=False) as layer:
            asyncio.run(_warm(layer.url, 0))
            figures = asyncio.run(_queue(layer, arguments.requests))
        made = closing.enter_context(clusters(arguments.clusters, arguments.nodes))
        begun = time.monotonic()
        layer = closing.enter_context(Layer(folder, made, 1, apart=False))
        states = asyncio.run(_ended_by_state(layer.url, len(made), arguments.requests))
        figures["s until all ended"] = time.monotonic() - begun
        figures |= {f"of them {state}": number for state, number in states.items()}
        figures["RSS MiB then"] = layer.parts[0].rss_mib
        return figures


async def _ended_by_state(url: str, number: int, total: int) -> Counter[str]:
    async with aiohttp.ClientSession() as session:
        await until_there(session, url, number)
        return Counter(one["state"] for one in await _all_ended(session, url, total))


async def _queue(layer: Layer, total: int) -> dict[str, float]:
    """One client after another, as people and controllers come."""
    posts: list[float] = []
    lists: list[float] = []
    resident: list[float] = []
    async with aiohttp.ClientSession() as session:
        for index in range(total):
            body = {"yaml": POD % index, "policy": MOST_REQUESTED}
            begun = time.monotonic()
            async with session.post(f"{layer.url}/api/v1/requests", json=body) as reply:
                if reply.status != 201:
                    raise RuntimeError(await reply.text())
            posts.append(time.monotonic() - begun)
            if index % 100 == 99:
                begun = time.monotonic()
                async with session.get(f"{layer.url}/api/v1/requests?limit=50") as reply:
                    await reply.read()
                lists.append(time.monotonic() - begun)
                resident.append(layer.parts[0].rss_mib)
    return {
        "POST p50 ms": 1000 * statistics.median(posts),
        "POST p99 ms": 1000 * quantile(posts, 0.99),
        "list p99 ms": 1000 * quantile(lists, 0.99),
        "RSS MiB after a tenth": resident[len(resident) // 10],
        "RSS MiB at the end": resident[-1],
    }


def ranking(number: int, shapes: int, rounds: int) -> dict[str, float]:
    """Milliseconds in which so many clusters of so many node shapes are ranked."""
    fleet = Fleet()
    for n in range(number):
        offered = {"cpu": 64000, "memory": 256 << 30, "pods": 110, "nvidia.com/gpu": 8}
        left = [(n * 7 + s * 3) % 16 / 16 for s in range(shapes)]
        free = [{k: int(v * part) for k, v in offered.items()} for part in left]
        fleet.set(Report(f"c{n}", [NodeShape(10, offered, one) for one in free]), 0.0)
    pods = [PodNeeds(3, {"cpu": 500, "memory": 1 << 30, "pods": 1})]
    request = Request("r", Owner(), MOST_REQUESTED, "f", [], 0.0, pods=pods)
    names, times = list(fleet.clusters), []
    for _ in range(rounds):
        begun = time.perf_counter()
        fleet.rank(request, names, 0.0)
        times.append(1000 * (time.perf_counter() - begun))
    return {"p50 ms": statistics.median(times), "p99 ms": quantile(times, 0.99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=20, help="in each cluster")
    parser.add_argument("--apart", action="store_true", help="Kafka, Redis and PostgreSQL")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--queued", action="store_true", help="requests that no agent takes")
    parser.add_argument("--faults", type=int, default=0, help="kills of each part")
    parser.add_argument("--ranking", action="store_true")
    parser.add_argument("--keep-log", action="store_true", help="print the parts' last lines")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    if arguments.ranking:
        figures = ranking(1000, 20, 300)
    elif arguments.faults:
        figures = faults(arguments)
    elif arguments.queued:
        figures = queued(arguments)
    else:
        figures = run(arguments)
    if arguments.output == "json":
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:32} {value:10.2f}")


if __name__ == "__main__":
    main()
