"""The experiment over two clusters: four nodes 5 ms away, two 1 ms, each with its own control plane
and scheduler, and the global layer above them. The sender is in a third one, which has no nodes.

Every stage is a request of its own, from the first to the last, since each is to be near the one
before. Ways: in a cluster drawn by lot (as many times out of six as it has nodes, within it by
kube-scheduler's default weights), by GMostRequestedPriority, and by GLowLatencyPriority.
"""

import json
import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import Progress

from bench import schedulers
from bench.pipeline import report
from bench.pipeline.placements import CLIENT, STAGES, pod
from bench.pipeline.run import Experiment, Placed, Result, Video, ready, settled
from lab import nodes
from lab.binaries import LabError
from lab.cluster import LabCluster
from lab.measure import HostAgent, PrometheusProcess, deploy_agents, free_port
from lab.pods import CHECKOUT
from lab.real import RealCluster

LOT, MOST, NEAR = "by lot", "most requested", "low latency"
WAYS = (LOT, MOST, NEAR)
POLICIES = {MOST: "GMostRequestedPriority", NEAR: "GLowLatencyPriority"}
FAR_MS = 5.0
CENTER = "center"
INTERVAL = 0.3
NODES = {"far": 4, "near": 2}
"""Of `nodes.yaml`, by the beginning of their names."""

Json = dict[str, Any]


def runs(
    video: Video, model: Path, seed: int, repeats: int, window: int, console: Console
) -> Iterator[Result]:
    """All runs, in turns."""
    with _layer() as (front, clusters):
        experiment = Experiment(LayerPlacer(front, clusters, model, seed), video)
        plan = [
            (apart, repeat, way)
            for apart in (False, True)
            for repeat in range(repeats)
            for way in WAYS
        ]
        with Progress(console=console) as progress:
            task = progress.add_task("two clusters", total=len(plan))
            for apart, repeat, way in plan:
                result = experiment.run(way, apart, FAR_MS, repeat, window)
                progress.console.print(report.line(result))
                progress.advance(task)
                yield result


class LayerPlacer:
    """By requests to the layer's front."""

    def __init__(
        self, front: "Front", clusters: Mapping[str, RealCluster], model: Path, seed: int
    ) -> None:
        self._front, self._clusters, self._model = front, clusters, model
        self._random = random.Random(seed)
        self._requests: dict[str, list[str]] = {}

    def place(self, way: str, run: str, apart: bool) -> Mapping[str, Placed]:
        requests = self._requests.setdefault(run, [])
        placed: dict[str, Placed] = {}
        source: Json = {"sourceCluster": CENTER}
        for stage in STAGES:
            made = pod(run, stage, self._model, None, different_nodes=apart)
            del made["metadata"]["namespace"]
            body = {"yaml": yaml.safe_dump(made), "acceptWithinSeconds": 20, **self._how(way)}
            if way == NEAR:
                body |= source
            requests.append(self._front.ask("POST", "/requests", body)["id"])
            cluster = self._completed(requests[-1])
            placed |= ready(self._clusters[cluster], f"run={run},stage={stage}")
            source = {"sourceCluster": cluster, "sourcePod": f"default/{run}-{stage}"}
        return placed

    def remove(self, run: str) -> None:
        requests = self._requests.pop(run, [])
        for one in requests:
            self._front.ask("DELETE", f"/requests/{one}")
        settled(lambda: all(self._state(one)["state"] == "canceled" for one in requests), 60)

    def _how(self, way: str) -> Json:
        if way != LOT:
            return {"policy": POLICIES[way], "clusters": [list(NODES)]}
        first = self._random.choice([name for name, count in NODES.items() for _ in range(count)])
        return {"policy": "GSelectedClusters", "clusters": sorted(NODES, key=lambda n: n != first)}

    def _completed(self, request_id: str) -> str:
        """The cluster that took it. Raises LabError."""
        settled(lambda: self._state(request_id)["state"] in ("completed", "failed"), 60)
        record = self._state(request_id)
        taken = [one["cluster"] for one in record["attempts"] if one["state"] == "succeeded"]
        if not taken:
            raise LabError(f"request {request_id} was not placed: {record['message']}")
        return str(taken[0])

    def _state(self, request_id: str) -> Json:
        return self._front.ask("GET", f"/requests/{request_id}")


class Front:
    """The layer's REST API."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/v1"

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Raises LabError for a refusal."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
                answer: Json = json.load(reply)
        except urllib.error.HTTPError as error:
            raise LabError(f"{method} {path}: {error.read().decode()[:500]}") from error
        return answer

    def rtts(self) -> dict[tuple[str, str], float]:
        """Milliseconds from cluster to cluster, as they were reported."""
        try:
            items = self.ask("GET", "/clusters")["items"]
        except OSError:
            return {}
        return {(one["name"], other): ms for one in items for other, ms in one["rttsMs"].items()}


@contextmanager
def _layer() -> Iterator[tuple[Front, dict[str, RealCluster]]]:
    """The layer over both clusters, once it knows how far they are from the sender."""
    with ExitStack() as stack:
        clusters = {name: _bring_up(stack, name) for name in NODES}
        far, near = clusters["far"], clusters["near"]
        far.reach(near)
        near.reach(far)
        center = LabCluster("experiment-center")
        if center.exists:
            center.down()
        center.up()
        stack.callback(center.down)
        prometheus = _measured(stack, clusters)
        latency = {"prometheus": {"url": prometheus.url}, "intervalSeconds": INTERVAL,
                   "maxAgeSeconds": 60}  # fmt: skip
        for number, cluster in enumerate(clusters.values()):
            port = schedulers.PORT + number
            gsch, metrics = stack.enter_context(
                schedulers.run("gsch", cluster, port=port, latency=latency)
            )
            schedulers.wait_until_ready(gsch, metrics)
        front = stack.enter_context(_global(center, clusters, latency))
        pairs = {(CENTER, "far"), (CENTER, "near"), ("far", "near")}
        settled(lambda: pairs <= front.rtts().keys(), 60)
        yield front, clusters


def _bring_up(stack: ExitStack, name: str) -> RealCluster:
    cluster = RealCluster(f"experiment-{name}")
    if cluster.exists:
        cluster.down()
    everywhere = nodes.from_file(Path(__file__).parent / "nodes.yaml")
    own = [one for one in everywhere if one["metadata"]["name"].startswith(name)]
    # kube-scheduler places the agents themselves.
    cluster.bring_up(own, kube_scheduler=True)
    stack.callback(cluster.down)
    return cluster


def _measured(stack: ExitStack, clusters: Mapping[str, RealCluster]) -> PrometheusProcess:
    """Agents on every node, one beside the sender, and one in the far cluster for the way to the
    near one; and a Prometheus that has their readings."""
    agents = {name: deploy_agents(cluster, INTERVAL) for name, cluster in clusters.items()}
    far = clusters["far"]
    sender = HostAgent(far, CLIENT, {}, INTERVAL, of_cluster=CENTER, further=agents)
    between = HostAgent(
        far, "far-1", {}, INTERVAL, of_cluster="far", further={"near": agents["near"]}, index=1
    )
    targets = [sender.target, between.target]
    stack.enter_context(sender)
    stack.enter_context(between)
    targets += [f"{address}:8787" for own in agents.values() for address in own.values()]
    return stack.enter_context(PrometheusProcess(far.folder / "prometheus", targets))


@contextmanager
def _global(
    center: LabCluster, clusters: Mapping[str, RealCluster], latency: Json
) -> Iterator[Front]:
    folder = center.folder
    kubeconfigs = {CENTER: center.kubeconfig, **{n: c.kubeconfig for n, c in clusters.items()}}
    port = free_port()
    config = {
        "apiVersion": "config.gsch.io/v1alpha1",
        "kind": "GlobalConfiguration",
        "database": f"sqlite:///{folder}/global.db",
        "keyFile": str(folder / "global.key"),
        "callbacks": {"keyFile": str(folder / "callbacks.key")},
        "port": port,
        "clusters": [
            {"name": name, "kubeconfig": str(path), "latency": latency,
             **({"gateway": f"{name}-1"} if name in NODES else {})}
            for name, path in kubeconfigs.items()
        ],
    }  # fmt: skip
    path = folder / "global.yaml"
    path.write_text(yaml.safe_dump(config))
    command: Sequence[str] = [sys.executable, "-m", "gsch", "global", "up", "--config", str(path)]
    with (folder / "global.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
    try:
        yield Front(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)
