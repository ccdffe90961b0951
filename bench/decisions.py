"""Decisions a second, without an API server: filter, score, select and assume, pod after pod.

Each shape of pod is a file in bench/workloads. Pods are decoded and read before the clock starts,
as the scheduler does when they arrive. With `--against` the same program measures another checkout
in turns, and the ratio is printed.

    python -m bench.decisions
    python -m bench.decisions --nodes 100000 --shapes different,anti
    python -m bench.decisions --against ../other-checkout --rounds 3
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

BEFORE = {
    "cluster.objects.core": "cluster.objects",
    "cluster.state.resource_types": "cluster.kinds",
    "cluster.state.snapshot": "cluster.snapshot",
    "filters.common.plugin": "filters.framework",
    "scheduler.config.configuration": "scheduler.configuration",
    "scheduler.config.pod_info": "scheduler.pods",
    "scheduler.cycle.framework": "scheduler.profiles",
    "scheduler.cycle.scheduling_cycle": "scheduler.cycle",
}
"""Where older checkouts have these modules."""

if find_spec("cluster.kinds") is not None:
    sys.modules.update({new: import_module(old) for new, old in BEFORE.items()})

from cluster.objects.core import Node, Pod
from cluster.state.resource_types import RESOURCES, put
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from latency.coordinates import DIMENSIONS, Coordinates
from latency.matrix import Matrix, Readings
from scheduler.config.configuration import Configuration
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework, frameworks
from scheduler.cycle.scheduling_cycle import Cycle

try:
    from scheduler.cycle.reservation import reserve
except ImportError:  # of a checkout from before there was any
    reserve = None  # type: ignore[assignment]

WORKLOADS = Path(__file__).parent / "workloads"
SHAPES = (
    "same", "policy", "different", "spread", "anti", "daemonset", "csi", "csi-events",
    "local-volumes", "capacity", "low-latency",
)  # fmt: skip
WARM_UP = 16
ZONES = 3

console = Console(stderr=True)


class Range(msgspec.Struct, forbid_unknown_fields=True):
    """The n-th pod gets `first + n % count`."""

    first: int
    count: int


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    """What a cluster has and the pods that come; `{n}` is the number of the node or pod.

    `nodes` overrides the number of nodes at the everyday size. `at_large` 0 leaves the shape out
    where more nodes are asked for. `running` pods of the same kind have a node already; each node
    has `copies` of the `per_node` objects; each node measures `peers` others.
    """

    description: str
    pod: dict[str, Any]
    vary: dict[str, Range] = {}
    nodes: int = 0
    at_large: int = 1
    running: int = 0
    objects: list[dict[str, Any]] = []
    per_node: list[dict[str, Any]] = []
    copies: int = 1
    per_pod: list[dict[str, Any]] = []
    storage_events: bool = False
    peers: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """`rate` in decisions a second, `median_ms` and `p99_ms` of one of them."""

    shape: str
    nodes: int
    decisions: int
    rate: float
    median_ms: float
    p99_ms: float


def read(shape: str) -> Workload:
    return msgspec.convert(yaml.safe_load((WORKLOADS / f"{shape}.yaml").read_text()), Workload)


class Template:
    """JSON text with `{name}` in the place of numbers."""

    def __init__(self, value: dict[str, Any], type_: Any) -> None:
        self._text = json.dumps(value)
        self._decode = msgspec.json.Decoder(type_).decode

    def make(self, **numbers: int) -> Any:
        text = self._text
        for name, number in numbers.items():
            text = text.replace(f"{{{name}}}", str(number))
        return self._decode(text.encode())


def cluster(workload: Workload, nodes: int) -> Snapshot:
    snapshot = Snapshot()
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    labels = {"kubernetes.io/hostname": "node-{n}", "topology.kubernetes.io/zone": "zone-{z}"}
    node = Template(
        {"metadata": {"name": "node-{n}", "labels": labels}, "status": {"allocatable": amounts}},
        Node,
    )
    for n in range(nodes):
        snapshot.set_node(node.make(n=n, z=n % ZONES))
    _put_all(snapshot, workload.objects, range(1))
    for copy in range(workload.copies):
        _put_all(snapshot, workload.per_node, range(nodes), f"-{copy}" if copy else "")
    return snapshot


def _put_all(
    snapshot: Snapshot, objects: list[dict[str, Any]], numbers: range, suffix: str = ""
) -> None:
    for raw in objects:
        template = Template(raw, RESOURCES[raw["kind"]].type)
        for n in numbers:
            item = template.make(n=n)
            if suffix:
                meta = msgspec.structs.replace(item.metadata, name=item.metadata.name + suffix)
                item = msgspec.structs.replace(item, metadata=meta)
            put(snapshot, raw["kind"], item)


def pods(workload: Workload, numbers: range) -> list[Pod]:
    meta = {"name": "pod-{n}", "namespace": "default", "uid": "uid-{n}"}
    raw = {**workload.pod, "metadata": meta | workload.pod.get("metadata", {})}
    raw["spec"] = {"schedulerName": "gsch", **raw["spec"]}
    template = Template(raw, Pod)
    vary = workload.vary.items()
    return [
        template.make(n=n, **{name: r.first + n % r.count for name, r in vary}) for n in numbers
    ]


def place_running(snapshot: Snapshot, running: list[Pod], nodes: int) -> None:
    for number, pod in enumerate(running):
        spec = msgspec.structs.replace(pod.spec, node_name=f"node-{number % nodes}")
        snapshot.set_pod(msgspec.structs.replace(pod, spec=spec))


def measured(nodes: int, peers: int) -> Matrix:
    """Round-trip times of nodes at random places, `peers` of them measured by each node."""
    matrix = Matrix()
    if not peers:
        return matrix
    rng = np.random.default_rng(1)
    names = [f"node-{n}" for n in range(nodes)]
    points, heights = rng.normal(scale=10, size=(nodes, DIMENSIONS)), rng.uniform(0, 2, nodes)
    one = np.repeat(np.arange(nodes), peers)
    other = rng.integers(0, nodes, nodes * peers)
    times = np.linalg.norm(points[one] - points[other], axis=1) + heights[one] + heights[other]
    matrix.replace(
        Readings(
            [names[i] for i in one.tolist()], [names[i] for i in other.tolist()],
            times, np.full(len(times), np.inf),
        ),
        Coordinates(dict(zip(names, range(nodes), strict=True)), points, heights),
    )  # fmt: skip
    return matrix


def run(shape: str, nodes: int, decisions: int) -> Result:
    workload = read(shape)
    snapshot = cluster(workload, nodes)
    everyone = range(workload.running + decisions + WARM_UP)
    _put_all(snapshot, workload.per_pod, everyone)
    found = pods(workload, everyone)
    place_running(snapshot, found[: workload.running], nodes)
    infos = [pod_info(pod) for pod in found[workload.running :]]
    framework = frameworks(Configuration(seed=1), measured(nodes, workload.peers))["gsch"]
    cycle = Cycle(snapshot, seed=1)
    volumes = list(snapshot.storage.volumes.values()) if workload.storage_events else []
    gc.collect()
    gc.freeze()
    seconds = []
    for number, info in enumerate(infos):
        if volumes:
            # Any volume but those of the pods that come: one that has been mounted for long.
            put(snapshot, "PersistentVolume", volumes[number % max(workload.running, 1)])
        started = time.perf_counter()
        _decide(cycle, snapshot, framework, info)
        seconds.append(time.perf_counter() - started)
    gc.unfreeze()
    timed = seconds[WARM_UP:]
    return Result(
        shape,
        nodes,
        len(timed),
        round(len(timed) / sum(timed), 1),
        round(statistics.median(timed) * 1000, 4),
        round(sorted(timed)[len(timed) * 99 // 100] * 1000, 4),
    )


def _decide(cycle: Cycle, snapshot: Snapshot, framework: Framework, info: PodInfo) -> None:
    decision: Any = cycle.decide(framework, info)
    if getattr(decision, "diagnosis", None) is not None:
        raise RuntimeError(f"{info.pod.key}: {decision.diagnosis.message}")
    snapshot.assume(info.pod, info.needs, decision.row)
    if reserve is not None:
        reserve(framework, decision.trial, info, snapshot, decision.row)
    elif decision.reservation is not None:
        snapshot.storage.assume(decision.reservation)


def elsewhere(checkout: Path, shape: str, nodes: int, decisions: int) -> Result:
    """The same measurement by this program on another checkout's modules."""
    arguments = ["--shapes", shape, "--nodes", str(nodes), "--decisions", str(decisions), "--json"]
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__).resolve()), *arguments],
        env={**os.environ, "PYTHONPATH": f"{checkout}:{checkout / 'global'}"},
        capture_output=True,
        check=True,
        text=True,
    )
    return Result(**json.loads(done.stdout)[0])


def show(rows: list[tuple[Result, Result | None]]) -> None:
    table = Table(box=None, header_style="bold")
    for name in ("SHAPE", "NODES", "PER SECOND", "MEDIAN ms", "P99 ms", "OTHER", "RATIO"):
        table.add_column(name, justify="left" if name == "SHAPE" else "right")
    for here, there in rows:
        other = (
            ("", "") if there is None else (f"{there.rate:,.0f}", f"{here.rate / there.rate:.2f}")
        )
        table.add_row(
            here.shape, f"{here.nodes:,}", f"{here.rate:,.0f}", f"{here.median_ms:.3f}",
            f"{here.p99_ms:.3f}", *other,
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--shapes", default=",".join(SHAPES), help="comma-separated")
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--decisions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[tuple[Result, Result | None]] = []
    for shape in options.shapes.split(","):
        workload = read(shape)
        nodes = options.nodes
        if nodes > 5000 and not workload.at_large:
            continue
        if nodes == 5000 and workload.nodes:
            nodes = workload.nodes
        for _ in range(options.rounds):
            if not options.json:
                console.print(f"{shape}: {workload.description}")
            # Each in a process of its own: neither inherits the other's caches.
            here = (
                run(shape, nodes, options.decisions)
                if options.json
                else elsewhere(Path(__file__).resolve().parents[1], shape, nodes, options.decisions)
            )
            there = None
            if options.against:
                there = elsewhere(options.against.resolve(), shape, nodes, options.decisions)
            rows.append((here, there))
    if options.json:
        print(json.dumps([asdict(here) for here, _ in rows]))
    else:
        show(rows)


if __name__ == "__main__":
    main()
