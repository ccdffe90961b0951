"""Two configurations over the same cluster: where each puts every pod, and what is left over."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.state.snapshot import Snapshot
from scheduler.offline.simulate import PLACED, Placement


@dataclass(frozen=True, slots=True)
class Summary:
    """One configuration's outcome. `cpu` and `memory` are shares of what the nodes in use offer."""

    placed: int
    left: int
    nodes_in_use: int
    cpu: float
    memory: float


def summary(placements: list[Placement], snapshot: Snapshot) -> Summary:
    """The outcome of a simulation that ended in this snapshot."""
    view = snapshot.view()
    busy = view.requested("pods") > 0
    left = sum(p.result not in (PLACED, "Running") for p in placements)

    def share(resource: str) -> float:
        offered = int(np.sum(view.allocatable(resource)[busy]))
        used = int(np.sum(view.requested(resource)[busy]))
        return round(used / offered, 3) if offered else 0.0

    return Summary(
        sum(p.result == PLACED for p in placements),
        left,
        int(np.count_nonzero(busy)),
        share("cpu"),
        share("memory"),
    )


def side_by_side(first: list[Placement], second: list[Placement]) -> list[dict[str, Any]]:
    """A row a pod: what both configurations make of it, and whether that differs."""
    return [
        {
            "pod": a.pod,
            "first": a.node or a.result,
            "second": b.node or b.result,
            "differs": "" if (a.node, a.result) == (b.node, b.result) else "differs",
            "first_why": a.why,
            "second_why": b.why,
        }
        for a, b in zip(first, second, strict=True)
    ]
