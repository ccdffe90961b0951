"""LowLatency: the feasible node nearest to a source goes first (GS's GLowLatencyPriority).

The source is a node, or the node of a pod. The least round-trip time wins; nodes within the
measurement's resolution of it are equally near, and the scores decide between them. With weights
in the pod's gschConfig nearness is a score among the others instead.

Times that are not known are filled in, step by step: what was measured; what network coordinates
predict; for a node of which neither is known, the median of what is known of its zone, then of its
region. Where nothing at all is known of the source, nodes of its own zone go first, then those of
its region. Where the labels do not tell either, the scores decide alone. What stays unknown counts,
wherever times are compared, as UNKNOWN_FACTOR times the farthest that is known: it comes behind all
of them, and breaks no limit."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from cluster.state.snapshot import Bools, Ints, Snapshot, View
from filters.common.plugin import (
    MAX_SCORE,
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Rejected,
    Removed,
    refusals,
)
from latency.matrix import Matrix, Milliseconds

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
PLACES = (ZONE, REGION)
UNKNOWN_FACTOR = 1.5
MAX_KEPT_BYTES = 32 * 1024 * 1024
BYTES_A_ROW = 11
"""Of a kept answer: a time, and three marks."""


class LowLatencyArgs(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """What counts as near."""

    resolution_ms: float = 0.1
    """Milliseconds below which two round-trip times count as the same."""
    half_value_ms: float = 10.0
    """The round-trip time in ms at which nearness, where a pod weighs it against other scores, is
    worth half (50 of 100)."""


@dataclass(frozen=True, slots=True)
class Nearness:
    """Of every row, how far it is from a source.

    `times` in ms, NaN where unknown; `measured` where a time was measured for this very pair, and
    `estimated` where it is that of the node's zone or region (where neither, coordinates predict
    it); `steps`, where no time is known at all: 0 for the source's zone, 1 for its
    region, 2 elsewhere, and None where labels do not tell.
    """

    times: Milliseconds
    measured: Bools
    estimated: Bools
    steps: Ints | None = None

    @property
    def ranking(self) -> Milliseconds:
        """`times`, with what is unknown behind everything known."""
        unknown = np.isnan(self.times)
        if not unknown.any() or unknown.all():
            return self.times
        farthest = float(self.times[~unknown].max()) or 1.0
        return np.where(unknown, UNKNOWN_FACTOR * farthest, self.times)


class LowLatency(Plugin):
    NAME = "LowLatency"
    events = Event.POD_PLACED | Event.LATENCY | Event.NODE_ADD
    LOCAL = False

    def __init__(self, args: LowLatencyArgs = LowLatencyArgs()) -> None:
        if not 0 <= args.resolution_ms < math.inf:
            raise ValueError(f"resolutionMs: 0 or more, got {args.resolution_ms:g}")
        if not 0 < args.half_value_ms < math.inf:
            raise ValueError(f"halfValueMs: above 0, got {args.half_value_ms:g}")
        self.resolution_ms, self.half_value_ms = args.resolution_ms, args.half_value_ms
        self._kept: OrderedDict[str, Nearness] = OrderedDict()
        """By source, as of `_kept_for`."""
        self._kept_for: tuple[int, int, tuple[int, int]] = (-1, -1, (-1, -1))
        self._ids: tuple[tuple[int, int, int], Ints] | None = None

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "LowLatency":
        return cls(msgspec.convert(args, LowLatencyArgs))

    @property
    def matrix(self) -> Matrix:
        """Measured round-trip times."""
        return self.handle.round_trips

    # -- extension points ------------------------------------------------------------------

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[Bools] | Rejected | None:
        """A pod that is to be near another waits until that one has a node."""
        if info.near_pod is not None and info.near_pod not in snapshot.pods:
            return Rejected(
                f"pod {info.near_pod}, which this pod is to be near, runs on no node yet"
            )
        if info.max_latency_ms is None:
            return None
        near = self.nearness(info, snapshot)
        if near is None:
            return None
        source = self.source(info, snapshot)
        # What is not known is let through: an agent that is away must not stop a workload.
        far = (near.times > info.max_latency_ms) & ~near.estimated
        return Prepared(far, (f"node(s) more than {info.max_latency_ms:g} ms from {source}",))

    def filter(self, prepared: Prepared[Bools], view: View) -> Ints:
        return refusals(prepared.state[view.rows], 1 | UNRESOLVABLE)

    def filter_without(self, prepared: Prepared[Bools], view: View, removed: Removed) -> Ints:
        return self.filter(prepared, view)

    def prefer(self, info: PodInfo, snapshot: Snapshot, feasible: Bools) -> Bools | None:
        near = self.nearness(info, snapshot)
        if near is None:
            return None
        if not np.isnan(near.times).all() and feasible.any():
            times = near.ranking
            nearest: Bools = feasible & (times <= times[feasible].min() + self.resolution_ms)
            return nearest
        if near.steps is None or not feasible.any():
            return None
        first: Bools = feasible & (near.steps == near.steps[feasible].min())
        return first

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> Milliseconds | None:
        """Times to every row; None unless the pod weighs nearness against the other scores."""
        near = self.nearness(info, snapshot) if info.weights is not None else None
        return None if near is None or np.isnan(near.times).all() else near.ranking

    def score(self, state: Milliseconds, view: View) -> Ints:
        """100 at no distance, 50 at `halfValueMs`, and so on: one far node does not make all others
        look alike, as a scale from the nearest to the farthest would."""
        return np.rint(
            MAX_SCORE * self.half_value_ms / (self.half_value_ms + state[view.rows])
        ).astype(np.int64)

    # -- distances -------------------------------------------------------------------------

    def source(self, info: PodInfo, snapshot: Snapshot) -> str | None:
        """The node to be near to, or None where the pod asks for none."""
        if info.near_pod is not None:
            record = snapshot.pods.get(info.near_pod)
            return record.node if record else None
        return info.near_node

    def times(self, info: PodInfo, snapshot: Snapshot) -> Milliseconds | None:
        """Round-trip times to every row, NaN where unknown; None where the pod asks for none."""
        near = self.nearness(info, snapshot)
        return None if near is None else near.times

    def nearness(self, info: PodInfo, snapshot: Snapshot) -> Nearness | None:
        """None where the pod asks for no nearness."""
        source = self.source(info, snapshot)
        return None if source is None else self.from_node(source, snapshot)

    def from_node(self, source: str, snapshot: Snapshot) -> Nearness:
        """How far every row is from this node."""
        key = self.matrix.version, len(snapshot), snapshot.topology
        if self._kept_for != key:
            self._kept_for = key
            self._kept.clear()
        kept = self._kept.get(source)
        if kept is None:
            kept = self._kept[source] = self._work_out(source, snapshot)
            while len(self._kept) > 1 and self._too_many(len(snapshot)):
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(source)
        return kept

    def _too_many(self, rows: int) -> bool:
        return len(self._kept) * rows * BYTES_A_ROW > MAX_KEPT_BYTES

    def _work_out(self, source: str, snapshot: Snapshot) -> Nearness:
        rows = self._rows(snapshot)
        times, measured = self.matrix.row(source, rows), self.matrix.measured_row(source, rows)
        source_row = snapshot.row(source)
        if source_row is not None:
            times[source_row], measured[source_row] = 0.0, True
        view = snapshot.view()
        others = np.isfinite(times)
        if source_row is not None:
            others[source_row] = False
        if not others.any():
            nothing = np.zeros(len(view), np.bool_)
            return Nearness(times * np.nan, nothing, nothing, _steps(view, source_row))
        estimated = np.isnan(times) & view.valid
        for topology_key in PLACES:
            column = view.label(topology_key)
            if column is not None:
                _fill(times, column, others)
        return Nearness(times, measured, estimated & ~np.isnan(times))

    def _rows(self, snapshot: Snapshot) -> Ints:
        """Where each row's node stands in the matrix."""
        key = self.matrix.version, len(snapshot), snapshot.nodes_version
        if self._ids is None or self._ids[0] != key:
            self._ids = key, self.matrix.ids(snapshot.names)
        return self._ids[1]


def _fill(times: Milliseconds, column: Any, has_time: Bools) -> None:
    """Give rows without a time the median of those of their place that have one."""
    missing = np.isnan(times)
    for value_id in np.unique(column[missing]).tolist():
        there = (column == value_id) & has_time
        if value_id and there.any():
            times[missing & (column == value_id)] = np.median(times[there])


def _steps(view: View, source: int | None) -> Ints | None:
    """0 in the source's zone, 1 in its region, 2 elsewhere; None where it has no such label."""
    if source is None:
        return None
    steps = np.full(len(view), len(PLACES))
    labelled = False
    for step, topology_key in reversed(list(enumerate(PLACES))):
        column = view.label(topology_key)
        if column is not None and column[source]:
            steps[column == column[source]] = step
            labelled = True
    return steps if labelled else None
