"""Two verdicts about one pod: the same, or what differs."""

from collections.abc import Callable
from typing import Any

import msgspec

from bench.differential.arena import OURS, PROFILE, STOCK, Arena, Verdict
from bench.differential.worlds import Json, World
from cluster.objects.core import Node, Pod
from cluster.state.resource_types import RESOURCES, put
from cluster.state.snapshot import load
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle

TRIES = 3
"""Offers of one pod before a difference is believed: watches may trail what was just made."""


async def differs(
    arena: Arena,
    world: World,
    pod: Json,
    seen: Callable[[Verdict, Verdict], None] = lambda ours, stock: None,
) -> str:
    """What differs between the schedulers about this pod; empty with nothing.

    `seen` is told both verdicts.
    """
    found = ""
    for _ in range(TRIES):
        ours, stock = await arena.offer(pod, OURS), await arena.offer(pod, STOCK)
        if seen is not None:
            seen(ours, stock)
        found = await _difference(arena, world, pod, ours, stock)
        if not found:
            return ""
    return found


async def _difference(arena: Arena, world: World, pod: Json, ours: Verdict, stock: Verdict) -> str:
    if ours == stock:
        return ""
    if not ours.node or not stock.node:
        return f"kube-scheduler: {_said(stock)}\ngsch:           {_said(ours)}"
    for scheduler, node in ((OURS, stock.node), (STOCK, ours.node)):
        pinned = await arena.offer(pod, scheduler, node)
        if pinned.node != node:
            return f"{scheduler} does not accept the other's {node}: {_said(pinned)}"
    best = best_nodes(world, pod)
    if stock.node not in best:
        return f"kube-scheduler takes {stock.node}, which gsch scores below {', '.join(best)}"
    return ""


def _said(verdict: Verdict) -> str:
    return f"fits on {verdict.node}" if verdict.node else verdict.message


def best_nodes(world: World, pod: Json) -> list[str]:
    """All nodes that score most for the pod, worked out by gsch's core from the plain objects."""
    snapshot = load(
        (_read(raw, Node) for raw in world.nodes), (_read(raw, Pod) for raw in world.placed)
    )
    for raw in world.others:
        put(snapshot, raw["kind"], _read(raw, RESOURCES[raw["kind"]].type))
    framework = Framework(msgspec.convert(PROFILE, Profile), Matrix())
    trial = Cycle(snapshot).trial(framework, pod_info(_read(pod, Pod)))
    return [snapshot.names[row] for row in trial.best().tolist()]


def _read(raw: Json, type_: type[Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(raw), type=type_)
