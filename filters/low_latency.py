"""LowLatency: the feasible node nearest to a source goes first (GS's GLowLatencyPriority).

The source is a node, or the node of a pod. The least round-trip time wins; nodes within the
measurement's resolution of it are equally near, and the scores decide between them. A node that
was never measured comes after all that were; with none measured the scores decide alone.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from cluster.snapshot import Bools, Ints, Snapshot, View
from filters.framework import Event, Plugin, PodInfo, Prepared, Rejected
from latency.matrix import Matrix, Milliseconds


class Args(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"):
    """LowLatencyArgs: `resolution_ms`, below which two round-trip times count as the same."""

    resolution_ms: float = 0.1


class LowLatency(Plugin):
    NAME = "LowLatency"
    events = Event.POD_PLACED
    LOCAL = False

    def __init__(self, args: Args = Args(), matrix: Matrix | None = None) -> None:
        if not 0 <= args.resolution_ms < math.inf:
            raise ValueError(f"resolutionMs: 0 or more, got {args.resolution_ms:g}")
        self.matrix = matrix if matrix is not None else Matrix()
        self.resolution_ms = args.resolution_ms
        self._column: tuple[tuple[str, int, int, int], Milliseconds] | None = None

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "LowLatency":
        return cls(msgspec.convert(args, Args))

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | Rejected | None:
        """A pod that is to be near another waits until that one has a node."""
        if info.near_pod is not None and info.near_pod not in snapshot.pods:
            return Rejected(
                f"pod {info.near_pod}, which this pod is to be near, runs on no node yet"
            )
        return None

    def filter(self, prepared: Prepared, view: View) -> Ints:
        return np.zeros(len(view), np.int64)

    def source(self, info: PodInfo, snapshot: Snapshot) -> str | None:
        """The node to be near to, or None where the pod asks for none."""
        if info.near_pod is not None:
            record = snapshot.pods.get(info.near_pod)
            return record.node if record else None
        return info.near_node

    def times(self, info: PodInfo, snapshot: Snapshot) -> Milliseconds | None:
        """Round-trip times to every row, NaN where unknown; None where the pod asks for none."""
        source = self.source(info, snapshot)
        return None if source is None else self._times(source, snapshot)

    def _times(self, source: str, snapshot: Snapshot) -> Milliseconds:
        key = (source, self.matrix.version, len(snapshot), snapshot.nodes_version)
        if self._column is None or self._column[0] != key:
            self._column = key, self.matrix.from_source(source, snapshot.names)
        return self._column[1]

    def prefer(self, info: PodInfo, snapshot: Snapshot, feasible: Bools) -> Bools | None:
        times = self.times(info, snapshot)
        if times is None:
            return None
        known = feasible & ~np.isnan(times)
        if not known.any():
            return None
        near: Bools = known & (times <= times[known].min() + self.resolution_ms)
        return near
