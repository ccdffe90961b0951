"""TaintToleration: refuses untolerated taints, prefers nodes with fewer soft ones (upstream)."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from cluster.objects.core import Taint, Toleration
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import (
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    Remedy,
    default_normalize,
    refusals,
)
from filters.common.tolerations import NO_SCHEDULE, any_tolerates

REASON = "node(s) had untolerated taint(s)"
SOFT = "PreferNoSchedule"
MAX_KEPT = 64
"""Sets of tolerations of which it is kept which taints they leave: few workloads differ in them."""


class TaintToleration(Plugin):
    NAME = "TaintToleration"
    events = Event.NODE_ADD | Event.NODE_TAINT
    RELATIVE = True
    LOOKS_AT_PODS = False

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bool, tuple[Toleration, ...]], _Counts] = OrderedDict()

    def sign(self, info: PodInfo) -> Any:
        return info.pod.spec.tolerations

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared["_Counts"] | None:
        return Prepared(self._counts(info, snapshot, False), (REASON,))

    def filter(self, prepared: Prepared["_Counts"], view: View) -> Ints:
        return refusals(prepared.state.of(view) > 0, 1 | UNRESOLVABLE)

    def remedies(self, prepared: Prepared["_Counts"], snapshot: Snapshot, row: int) -> list[Remedy]:
        taints = snapshot.taint_sets.values[snapshot.view().taint_set[row]] or ()
        return [
            Remedy(f"a toleration of the taint {taint}")
            for taint in taints
            if prepared.state.test(taint)
        ]

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> "_Counts":
        return self._counts(info, snapshot, True)

    def score(self, state: "_Counts", view: View) -> Ints:
        """How many soft taints of the node the pod does not tolerate."""
        return state.of(view)

    def normalize(self, raw: Ints) -> Ints:
        return default_normalize(raw, reverse=True)

    def _counts(self, info: PodInfo, snapshot: Snapshot, soft: bool) -> "_Counts":
        key = soft, tuple(info.pod.spec.tolerations or ())
        counts = self._kept.get(key)
        if counts is None or counts.sets is not snapshot.taint_sets:
            counts = self._kept[key] = (
                avoided(info, snapshot) if soft else untolerated(info, snapshot)
            )
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return counts


def avoided(info: PodInfo, snapshot: Snapshot) -> "_Counts":
    """How many soft taints of each node the pod does not tolerate."""
    tolerations = [t for t in info.pod.spec.tolerations or () if t.effect in ("", SOFT)]

    def untolerated_soft(taint: Taint) -> bool:
        return taint.effect == SOFT and not any_tolerates(tolerations, taint)

    return _Counts(snapshot, untolerated_soft)


def untolerated(info: PodInfo, snapshot: Snapshot) -> "_Counts":
    """How many taints of each node keep the pod away."""
    tolerations = info.pod.spec.tolerations or []

    def refused(taint: Taint) -> bool:
        return taint.effect in NO_SCHEDULE and not any_tolerates(tolerations, taint)

    return _Counts(snapshot, refused)


class _Counts:
    """How many taints of each distinct set meet a test, judged once for all nodes that share it."""

    def __init__(self, snapshot: Snapshot, test: Callable[[Taint], bool]) -> None:
        self.sets, self.test = snapshot.taint_sets, test
        self._counts = np.zeros(0, np.int64)
        self._generation = self.sets.generation

    def of(self, view: View) -> Ints:
        """The count of each node's set."""
        if self._generation != self.sets.generation:
            # A number means another set by now.
            self._generation, self._counts = self.sets.generation, np.zeros(0, np.int64)
        counted = len(self._counts)
        if counted < len(self.sets):
            fresh = [sum(map(self.test, taints or ())) for taints in self.sets.values[counted:]]
            self._counts = np.concatenate([self._counts, np.array(fresh, np.int64)])
        counts: Ints = self._counts[view.taint_set]
        return counts
