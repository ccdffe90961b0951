"""NodeResourcesFit: enough of every resource, and scores by how much of them is in use.

Source: upstream's noderesources plugin. Reasons for one node may be several; `pods` comes first.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from cluster.objects.requests import CPU, EPHEMERAL_STORAGE, MEMORY, PODS, written
from cluster.state.snapshot import Floats, Ints, Snapshot, View
from filters.common.plugin import (
    MAX_SCORE,
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Remedy,
    Removed,
)

LEAST_ALLOCATED, MOST_ALLOCATED, RATIO = (
    "LeastAllocated",
    "MostAllocated",
    "RequestedToCapacityRatio",
)

# Resources that count for a node even when the pod asks for none of them.
NATIVE = (CPU, MEMORY, EPHEMERAL_STORAGE)

MAX_WEIGHT = 100
EXACT_BELOW = 2**45
"""Amounts (32 TiB of memory, say) below which floating point division is exact enough."""
MAX_POINT_SCORE = 10


class ResourceSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A resource that is scored, with its weight of 1..100.

    `nvidia.com/*` stands for every resource of that vendor that the pod asks for: whole GPUs,
    shared ones (`nvidia.com/gpu.shared`) and slices (`nvidia.com/mig-1g.5gb`).
    """

    name: str
    """Name of the resource."""
    weight: int = 1
    """Its weight, 1..100."""


DEFAULT_RESOURCES = (ResourceSpec(CPU), ResourceSpec(MEMORY))


class ShapePoint(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """At so many per cent of a resource in use, this score (0..10)."""

    utilization: int
    """Per cent of the resource in use, 0..100."""
    score: int
    """What that is worth, 0..10."""


class Ratio(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The points between which the score runs straight, by rising utilization."""

    shape: tuple[ShapePoint, ...] = ()
    """The points, by rising utilization."""


class ScoringStrategy(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """`type` LeastAllocated, MostAllocated or RequestedToCapacityRatio, over `resources`.

    `requestedToCapacityRatio` belongs to the last of them.
    """

    type: str = LEAST_ALLOCATED
    """LeastAllocated, MostAllocated or RequestedToCapacityRatio."""
    resources: tuple[ResourceSpec, ...] = DEFAULT_RESOURCES
    """The resources that are scored."""
    requested_to_capacity_ratio: Ratio | None = None
    """Of the last type alone."""


class NodeResourcesFitArgs(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """How nodes are scored, and which extended resources go unchecked (upstream)."""

    scoring_strategy: ScoringStrategy = ScoringStrategy()
    """How."""
    ignored_resources: tuple[str, ...] = ()
    """Extended resources that the filter leaves aside, by name."""
    ignored_resource_groups: tuple[str, ...] = ()
    """The same, by what stands before the slash."""


def check_resources(resources: tuple[ResourceSpec, ...]) -> None:
    """Raises ValueError for a weight out of range or no resource at all."""
    if not resources:
        raise ValueError("resources: at least one is needed")
    for spec in resources:
        if not 1 <= spec.weight <= MAX_WEIGHT:
            raise ValueError(
                f"resources: the weight of {spec.name} must be 1..{MAX_WEIGHT}, got {spec.weight}"
            )


Requests = list[tuple[str, int]]
"""(resource, amount), in the order in which upstream names them."""


class NodeResourcesFit(Plugin):
    NAME = "NodeResourcesFit"
    BY_COLUMNS = True
    events = Event.NODE_ADD | Event.NODE_ALLOCATABLE | Event.POD_GONE

    def __init__(self, args: NodeResourcesFitArgs = NodeResourcesFitArgs()) -> None:
        strategy = args.scoring_strategy
        check_resources(strategy.resources)
        if strategy.type not in (LEAST_ALLOCATED, MOST_ALLOCATED, RATIO):
            raise ValueError(
                f"scoringStrategy.type: {LEAST_ALLOCATED}, {MOST_ALLOCATED} or {RATIO}, got "
                f"{strategy.type}"
            )
        ratio = strategy.requested_to_capacity_ratio
        if (ratio is not None) != (strategy.type == RATIO):
            raise ValueError(f"requestedToCapacityRatio: with type {RATIO}, and only then")
        self._args, self._type = args, strategy.type
        self._shape = _checked(ratio.shape) if ratio else ()

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "NodeResourcesFit":
        return cls(msgspec.convert(args, NodeResourcesFitArgs))

    def sign(self, info: PodInfo) -> Any:
        return sorted(info.needs.requests.items()), info.needs.nonzero

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Requests]:
        wanted = [(PODS, info.needs.requests[PODS])]
        wanted += [(n, a) for n, a in _ordered(info.needs.requests) if not self._ignores(n)]
        reasons = tuple("Too many pods" if n == PODS else f"Insufficient {n}" for n, _ in wanted)
        return Prepared(wanted, reasons)

    def filter(self, prepared: Prepared[Requests], view: View) -> Ints:
        return self._short(prepared, view, None)

    def filter_without(self, prepared: Prepared[Requests], view: View, removed: Removed) -> Ints:
        return self._short(prepared, view, removed)

    def _short(self, prepared: Prepared[Requests], view: View, removed: Removed | None) -> Ints:
        bits = np.zeros(len(view), np.int64)
        for index, (name, amount) in enumerate(prepared.state):
            if removed is None and view.short_nowhere(name, amount):
                continue
            free = view.free(name)
            if removed is not None:
                free = free + removed.requested(name)
            short = free < amount
            if short.any():
                bits |= short * np.int64(1 << index)
                if name != PODS:
                    bits |= (amount > view.allocatable(name)) * np.int64(UNRESOLVABLE)
        return bits

    def remedies(self, prepared: Prepared[Requests], snapshot: Snapshot, row: int) -> list[Remedy]:
        view = snapshot.view(np.array([row]))
        remedies = []
        for name, amount in prepared.state:
            offered, used = int(view.allocatable(name)[0]), int(view.requested(name)[0])
            missing = amount + used - offered
            if missing > 0:
                text = (
                    f"{written(name, missing)} more {name} (asks {written(name, amount)}, "
                    f"{written(name, max(offered - used, 0))} of {written(name, offered)} free)"
                )
                remedies.append(Remedy(text, min(missing / max(offered, 1), 1.0)))
        return remedies

    def _ignores(self, name: str) -> bool:
        group, slash, _ = name.partition("/")
        return bool(slash) and (
            name in self._args.ignored_resources or group in self._args.ignored_resource_groups
        )

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> list[tuple[str, int, int]]:
        """(resource, weight, what the pod adds), without extended ones that it does not ask for."""
        nonzero = dict(zip((CPU, MEMORY), info.needs.nonzero, strict=True))
        resources = []
        for spec in self._args.scoring_strategy.resources:
            if spec.name.endswith("/*"):
                vendor = spec.name[:-1]
                resources += [
                    (name, spec.weight, asked)
                    for name, asked in sorted(info.needs.requests.items())
                    if name.startswith(vendor)
                ]
                continue
            amount = nonzero.get(spec.name, info.needs.requests.get(spec.name, 0))
            if amount or spec.name in NATIVE:
                resources.append((spec.name, spec.weight, amount))
        return resources

    def score(self, state: list[tuple[str, int, int]], view: View) -> Ints:
        # In place wherever possible: this runs over every row for every pod of a new kind.
        total: Floats | None = None
        weights: Any = 0
        for name, weight, amount in state:
            offered, _, used = view.real(name)
            everywhere = view.offered_everywhere(name)
            whole = offered if everywhere else np.maximum(offered, 1.0)
            part = self._part(used, amount, whole, view.largest(name))
            counts = None if everywhere else offered > 0
            if self._type == RATIO:
                counts = part > 0 if counts is None else counts & (part > 0)
            if weight != 1:
                part *= weight
            if counts is not None:
                part *= counts
            weights = weights + (weight if counts is None else weight * counts)
            total = part if total is None else np.add(total, part, out=total)
        if total is None:
            return np.zeros(len(view), np.int64)
        total /= max(weights, 1) if isinstance(weights, int) else np.maximum(weights, 1)
        if self._type == RATIO:
            # Rounded there and truncated elsewhere, as upstream does.
            total += 0.5
        return total.astype(np.int64)

    def _part(self, used: Floats, more: int, offered: Floats, largest: int) -> Floats:
        """One resource's score with so much more in use, 0..100, a whole number."""
        if self._type == LEAST_ALLOCATED:
            counted = offered - used
            counted -= more
            np.maximum(counted, 0.0, out=counted)
        else:
            counted = used + more
            np.minimum(counted, offered, out=counted)
        percent(counted, offered, largest)
        if self._type != RATIO:
            return counted
        return _along(self._shape, counted.astype(np.int64)).astype(np.float64)


def percent(part: Floats, whole: Floats, largest: int) -> None:
    """Make `part` 100 × part / whole, rounded down, for whole numbers 0 <= part <= whole <=
    largest, whole > 0.

    Floating point division, several times as fast as that of integers, rounds down to the very same
    number where amounts are no larger than EXACT_BELOW: 100 × part is exact, and a quotient that is
    not an integer lies at least 1 / whole away from the next one, more than the rounding error of a
    quotient of at most 100."""
    if largest < EXACT_BELOW:
        part *= MAX_SCORE
        part /= whole
        np.floor(part, out=part)
    else:
        part[:] = part.astype(np.int64) * MAX_SCORE // whole.astype(np.int64)


def _ordered(requests: Mapping[str, int]) -> list[tuple[str, int]]:
    """cpu, memory, ephemeral-storage, then the rest by name; without pods and zeros."""
    rank = {name: index for index, name in enumerate(NATIVE)}
    rest = [(n, a) for n, a in requests.items() if n != PODS and a > 0]
    return sorted(rest, key=lambda item: (rank.get(item[0], len(rank)), item[0]))


def _checked(shape: tuple[ShapePoint, ...]) -> tuple[ShapePoint, ...]:
    """Raises ValueError for points that make no function of 0..100 per cent."""
    if not shape:
        raise ValueError("requestedToCapacityRatio.shape: at least one point is needed")
    for index, point in enumerate(shape):
        where = f"requestedToCapacityRatio.shape[{index}]"
        if not 0 <= point.utilization <= MAX_SCORE:
            raise ValueError(f"{where}.utilization: 0..100, got {point.utilization}")
        if not 0 <= point.score <= MAX_POINT_SCORE:
            raise ValueError(f"{where}.score: 0..10, got {point.score}")
        if index and point.utilization <= shape[index - 1].utilization:
            raise ValueError(f"{where}.utilization: above that of the point before")
    return shape


def _along(shape: tuple[ShapePoint, ...], utilization: Ints) -> Ints:
    """The score at each utilization, straight between points and level beyond them."""
    scale = MAX_SCORE // MAX_POINT_SCORE
    result = np.full_like(utilization, shape[-1].score * scale)
    for left, right in reversed(list(pairwise(shape))):
        rise = (right.score - left.score) * scale * (utilization - left.utilization)
        width = right.utilization - left.utilization
        # Go's division truncates towards zero, also where the line falls.
        step = np.sign(rise) * (np.abs(rise) // width)
        between = utilization <= right.utilization
        result = np.where(between, left.score * scale + step, result)
    return np.where(utilization <= shape[0].utilization, shape[0].score * scale, result)
