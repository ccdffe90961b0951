"""Why a pod goes where it goes, in a few words."""

import numpy as np

from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from filters.low_latency import Nearness
from scheduler.config.gschconfig import LOW_LATENCY
from scheduler.cycle.framework import Framework
from scheduler.cycle.trial import Trial


def why(framework: Framework, info: PodInfo, trial: Trial, snapshot: Snapshot, row: int) -> str:
    """In a few words, why this row was taken among the feasible ones."""
    head = why_in_short(framework, info, trial, snapshot, row)
    if " ms from " in head and info.weights is None:
        return head
    index = int(np.count_nonzero(trial.feasible[:row]))
    parts = [f"{name} {int(scaled[index])}" for name, _, _, scaled in trial.score_table()]
    return f"{head}; {', '.join(parts)}" if parts else head


def why_in_short(
    framework: Framework, info: PodInfo, trial: Trial, snapshot: Snapshot, row: int
) -> str:
    """As `why`, without any score: cheap enough for every decision."""
    fitting = trial.feasible_count
    head = f"1 of {fitting} nodes that fit" if fitting > 1 else "the only node that fits"
    times = framework.latency.times(info, snapshot) if info.policy == LOW_LATENCY else None
    if times is None or np.isnan(times[row]):
        return head
    nearest = ", the nearest" if info.weights is None else ""
    return f"{times[row]:.4g} ms from its source{nearest}: {head}"


def latency_warning(framework: Framework, info: PodInfo, snapshot: Snapshot, row: int) -> str:
    """The warning for the owner of a pod that was placed by times that nobody measured; else
    empty."""
    if info.policy != LOW_LATENCY or info.member is not None:
        return ""
    if info.near_node is None and info.near_pod is None:
        return "gschConfig names nothing to be near to: placed by the other scores"
    for plugin in framework.latency.plugins:
        near = plugin.nearness(info, snapshot)
        if near is not None and (near.estimated[row] or np.isnan(near.times[row])):
            return _unmeasured(plugin.source(info, snapshot) or "", near, snapshot.names[row])
    return ""


def _unmeasured(source: str, near: Nearness, node: str) -> str:
    head = f"no fresh round-trip time is known from {source} to"
    if not np.isnan(near.times).all():
        return f"{head} {node}: went by what its zone or region measures"
    if near.steps is not None:
        return f"{head} any node that fits: placed by zone and region labels"
    return f"{head} any node that fits: placed by the other scores"
