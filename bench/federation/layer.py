"""Clusters with fake nodes and the layer's processes over them, and what they use."""

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from bench import schedulers
from cluster.api.access import Access
from cluster.api.client import ApiClient
from lab import binaries, nodes, processes
from lab.backing import Backing, Kafka, Postgres, Redis
from lab.cluster import LabCluster
from lab.measure import free_port

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
