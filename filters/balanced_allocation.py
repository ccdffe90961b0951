"""NodeResourcesBalancedAllocation: prefers the node whose use becomes more even (upstream)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cluster.state.snapshot import Bools, Floats, Ints, Snapshot, View
from cluster.state.view import Columns
from filters.common.plugin import MAX_SCORE, Plugin, PodInfo
from filters.resources import DEFAULT_RESOURCES, NATIVE, ResourceSpec, check_resources

State = list[tuple[str, int]]

MAX_COMPUTED_WHOLE = 8192
"""Rows up to which to compute all anew costs less than to pick out those that changed."""


class NodeResourcesBalancedAllocationArgs(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which resources are to be used alike (upstream)."""

    resources: tuple[ResourceSpec, ...] = DEFAULT_RESOURCES
    """The resources."""


class NodeResourcesBalancedAllocation(Plugin):
    NAME = "NodeResourcesBalancedAllocation"
    BY_COLUMNS = True

    def __init__(
        self, args: NodeResourcesBalancedAllocationArgs = NodeResourcesBalancedAllocationArgs()
    ) -> None:
        check_resources(args.resources)
        self._args = args
        self._kept: dict[tuple[str, ...], _Kept] = {}

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "NodeResourcesBalancedAllocation":
        return cls(msgspec.convert(args, NodeResourcesBalancedAllocationArgs))

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
        score = _evenness([_fraction(name, amount, view) for name, amount in state])
        score += self._uneven_now(state, view)
        score >>= 1
        return score

    def _uneven_now(self, state: State, view: View) -> Ints:
        """What a pod's evenness is added to before it is halved, which depends on nodes alone: the
        same for every pod, and so kept for whole views."""
        names = tuple(name for name, _ in state)
        whole = view.whole
        if whole is None or whole.asking:
            return _baseline(names, view)
        kept = self._kept.get(names)
        if kept is None or kept.snapshot is not whole or kept.version < whole.nodes_touched:
            kept = self._kept[names] = _Kept(whole, whole.version, _baseline(names, view))
        elif kept.version < whole.version:
            if len(view) <= MAX_COMPUTED_WHOLE:
                kept.baseline = _baseline(names, view)
            else:
                rows = whole.changed_since(kept.version)
                kept.baseline[rows] = _baseline(names, whole.view(rows))
            kept.version = whole.version
        return kept.baseline


@dataclass(slots=True)
class _Kept:
    snapshot: Columns
    version: int
    baseline: Ints


def _baseline(names: tuple[str, ...], view: View) -> Ints:
    """150 - evenness: (with the pod + this) / 2 is upstream's (with - without + 50) / 2 + 50, whose
    dividend is never negative, so that both round down."""
    baseline = _evenness([_fraction(name, 0, view) for name in names])
    return np.subtract(MAX_SCORE + MAX_SCORE // 2, baseline, out=baseline)


Fraction = tuple[Floats, Bools | None]
"""The share of a resource in use by row, 1 at most; and where there is any of it (None:
everywhere)."""


def _fraction(name: str, amount: int, view: View) -> Fraction:
    offered, used, _ = view.real(name)
    everywhere = view.offered_everywhere(name)
    share = used + amount
    share /= offered if everywhere else np.maximum(offered, 1.0)
    if not view.short_nowhere(name, amount):
        np.minimum(share, 1.0, out=share)
    return share, None if everywhere else offered > 0


def _evenness(fractions: list[Fraction]) -> Ints:
    """(1 - standard deviation of the fractions in use) * 100, floored: 50..100."""
    if len(fractions) == 2 and all(present is None for _, present in fractions):
        # Two are halved apart, as upstream does.
        deviation = fractions[0][0] - fractions[1][0]
        np.abs(deviation, out=deviation)
        deviation /= 2
    else:
        everywhere = np.ones(len(fractions[0][0]), np.bool_)
        present = np.array([everywhere if p is None else p for _, p in fractions])
        deviation = _deviation(np.array([f for f, _ in fractions]) * present, present)
    # Truncation to int is upstream's; fractions and deviation are float64 there as here.
    np.subtract(1.0, deviation, out=deviation)
    deviation *= MAX_SCORE
    return deviation.astype(np.int64)


def _deviation(fractions: Floats, present: NDArray[np.bool_]) -> Floats:
    """Of the present fractions of each node; two are halved apart, as upstream does."""
    if len(fractions) == 2:
        deviation = np.abs((fractions[0] - fractions[1]) / 2)
        return np.where(present.all(axis=0), deviation, 0.0)
    counts = present.sum(axis=0)
    mean = fractions.sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(present, (fractions - mean) ** 2, 0.0).sum(axis=0)
    return np.where(counts > 1, np.sqrt(squares / np.maximum(counts, 1)), 0.0)
