"""How long simulated clusters take to be ranked, without any server."""

import statistics
import time

from federation.fleet import Fleet, NodeShape, Report
from federation.request import MOST_REQUESTED, Owner, PodNeeds, Request

from bench.federation.load import quantile


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
