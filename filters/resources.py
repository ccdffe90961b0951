"""NodeResourcesFit: enough of every resource, and LeastAllocated / MostAllocated scores.

Source: upstream's noderesources plugin. Reasons for one node may be several; `pods` comes first.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from cluster.requests import CPU, EPHEMERAL_STORAGE, MEMORY, PODS
from cluster.snapshot import Ints, Snapshot, View
from filters.framework import MAX_SCORE, UNRESOLVABLE, Event, Plugin, PodInfo, Prepared

LEAST, MOST = "LeastAllocated", "MostAllocated"

# Resources that count for a node even when the pod asks for none of them.
NATIVE = (CPU, MEMORY, EPHEMERAL_STORAGE)

MAX_WEIGHT = 100


class ResourceSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A resource that is scored, with its weight of 1..100."""

    name: str
    weight: int = 1


DEFAULT_RESOURCES = (ResourceSpec(CPU), ResourceSpec(MEMORY))


class ScoringStrategy(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`type` LeastAllocated or MostAllocated, over `resources`."""

    type: str = LEAST
    resources: tuple[ResourceSpec, ...] = DEFAULT_RESOURCES


class Args(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """NodeResourcesFitArgs: how nodes are scored, and which extended resources go unchecked."""

    scoring_strategy: ScoringStrategy = ScoringStrategy()
    ignored_resources: tuple[str, ...] = ()
    ignored_resource_groups: tuple[str, ...] = ()


def check_resources(resources: tuple[ResourceSpec, ...]) -> None:
    """Raises ValueError for a weight out of range or no resource at all."""
    if not resources:
        raise ValueError("resources: at least one is needed")
    for spec in resources:
        if not 1 <= spec.weight <= MAX_WEIGHT:
            raise ValueError(
                f"resources: the weight of {spec.name} must be 1..{MAX_WEIGHT}, got {spec.weight}"
            )


class NodeResourcesFit(Plugin):
    NAME = "NodeResourcesFit"
    events = Event.NODE_ADD | Event.NODE_ALLOCATABLE | Event.POD_GONE

    def __init__(self, args: Args = Args()) -> None:
        check_resources(args.scoring_strategy.resources)
        if args.scoring_strategy.type not in (LEAST, MOST):
            raise ValueError(
                f"scoringStrategy.type: {LEAST} or {MOST}, got {args.scoring_strategy.type}"
            )
        self._args = args
        self._most = args.scoring_strategy.type == MOST

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "NodeResourcesFit":
        return cls(msgspec.convert(args, Args))

    def sign(self, info: PodInfo) -> Any:
        return sorted(info.needs.requests.items()), info.needs.nonzero

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared:
        wanted = [(PODS, info.needs.requests[PODS])]
        wanted += [(n, a) for n, a in _ordered(info.needs.requests) if not self._ignores(n)]
        reasons = tuple("Too many pods" if n == PODS else f"Insufficient {n}" for n, _ in wanted)
        return Prepared(wanted, reasons)

    def filter(self, prepared: Prepared, view: View) -> Ints:
        bits = np.zeros(len(view), np.int64)
        for index, (name, amount) in enumerate(prepared.state):
            offered = view.allocatable(name)
            short = amount > offered - view.requested(name)
            if short.any():
                bits |= short * np.int64(1 << index)
                if name != PODS:
                    bits |= (amount > offered) * np.int64(UNRESOLVABLE)
        return bits

    def _ignores(self, name: str) -> bool:
        group, slash, _ = name.partition("/")
        return bool(slash) and (
            name in self._args.ignored_resources or group in self._args.ignored_resource_groups
        )

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> list[tuple[str, int, int]]:
        """(resource, weight, what the pod adds), without extended ones that it does not ask for."""
        nonzero = dict(zip((CPU, MEMORY), info.needs.nonzero, strict=True))
        found = []
        for spec in self._args.scoring_strategy.resources:
            amount = nonzero.get(spec.name, info.needs.requests.get(spec.name, 0))
            if amount or spec.name in NATIVE:
                found.append((spec.name, spec.weight, amount))
        return found

    def score(self, state: list[tuple[str, int, int]], view: View) -> Ints:
        total = np.zeros(len(view), np.int64)
        weights = np.zeros(len(view), np.int64)
        for name, weight, amount in state:
            offered = view.allocatable(name)
            used = view.nonzero_requested(name) + amount
            present = offered > 0
            if self._most:
                part = np.minimum(used, offered) * MAX_SCORE
            else:
                part = np.maximum(offered - used, 0) * MAX_SCORE
            total += weight * (part // np.maximum(offered, 1)) * present
            weights += weight * present
        return total // np.maximum(weights, 1)


def _ordered(requests: Mapping[str, int]) -> list[tuple[str, int]]:
    """cpu, memory, ephemeral-storage, then the rest by name; without pods and zeros."""
    rank = {name: index for index, name in enumerate(NATIVE)}
    rest = [(n, a) for n, a in requests.items() if n != PODS and a > 0]
    return sorted(rest, key=lambda item: (rank.get(item[0], len(rank)), item[0]))
