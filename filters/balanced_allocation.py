"""NodeResourcesBalancedAllocation: prefers the node whose use becomes more even (upstream)."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cluster.snapshot import Ints, Snapshot, View
from filters.framework import MAX_SCORE, Plugin, PodInfo
from filters.resources import DEFAULT_RESOURCES, NATIVE, ResourceSpec, check_resources

State = list[tuple[str, int]]


class Args(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """NodeResourcesBalancedAllocationArgs: the resources whose use should be even."""

    resources: tuple[ResourceSpec, ...] = DEFAULT_RESOURCES


class NodeResourcesBalancedAllocation(Plugin):
    NAME = "NodeResourcesBalancedAllocation"

    def __init__(self, args: Args = Args()) -> None:
        check_resources(args.resources)
        self._args = args

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "NodeResourcesBalancedAllocation":
        return cls(msgspec.convert(args, Args))

    def sign(self, info: PodInfo) -> Any:
        return sorted(info.needs.requests.items())

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> State | None:
        """What the pod adds of each resource; nothing to tell apart for a best-effort pod."""
        requests = info.needs.requests
        state = [(spec.name, requests.get(spec.name, 0)) for spec in self._args.resources]
        if not any(amount for _, amount in state):
            return None
        return [(name, amount) for name, amount in state if amount or name in NATIVE]

    def score(self, state: State, view: View) -> Ints:
        """50 for a node that becomes less even, 75 for no change, 100 for one that evens out."""
        after = _evenness(state, view)
        before = _evenness([(name, 0) for name, _ in state], view)
        half = MAX_SCORE // 2
        # Go's division truncates; the dividend is never negative here (0..100).
        return half + (half + after - before) // 2


def _evenness(state: State, view: View) -> Ints:
    """(1 - standard deviation of the fractions in use) * 100, floored: 50..100."""
    count = len(state)
    fractions = np.zeros((count, len(view)))
    present = np.zeros((count, len(view)), np.bool_)
    for index, (name, amount) in enumerate(state):
        offered = view.allocatable(name)
        present[index] = offered > 0
        use = (view.requested(name) + amount) / np.maximum(offered, 1)
        fractions[index] = np.minimum(use, 1.0) * present[index]
    # Truncation to int is upstream's; fractions and deviation are float64 there as here.
    even: Ints = ((1.0 - _deviation(fractions, present)) * MAX_SCORE).astype(np.int64)
    return even


def _deviation(fractions: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the present fractions of each node; two are halved apart, as upstream does."""
    if len(fractions) == 2:
        apart = np.abs((fractions[0] - fractions[1]) / 2)
        return np.where(present.all(axis=0), apart, 0.0)
    counts = present.sum(axis=0)
    mean = fractions.sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(present, (fractions - mean) ** 2, 0.0).sum(axis=0)
    return np.where(counts > 1, np.sqrt(squares / np.maximum(counts, 1)), 0.0)
