"""TaintToleration: refuses untolerated taints, prefers nodes with fewer soft ones (upstream)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cluster.objects.core import Taint
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


class TaintToleration(Plugin):
    NAME = "TaintToleration"
    events = Event.NODE_ADD | Event.NODE_TAINT
    RELATIVE = True
    LOOKS_AT_PODS = False

    def sign(self, info: PodInfo) -> Any:
        return info.pod.spec.tolerations

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | None:
        return Prepared(untolerated(info, snapshot), (REASON,))

    def filter(self, prepared: Prepared, view: View) -> Ints:
        return refusals(prepared.state.of(view) > 0, 1 | UNRESOLVABLE)

    def remedies(self, prepared: Prepared, snapshot: Snapshot, row: int) -> list[Remedy]:
        taints = snapshot.taint_sets.values[snapshot.view().taint_set[row]] or ()
        return [
            Remedy(f"a toleration of the taint {taint}")
            for taint in taints
            if prepared.state.test(taint)
        ]

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> "_Counts":
        soft = [t for t in info.pod.spec.tolerations or () if t.effect in ("", SOFT)]

        def avoided(taint: Taint) -> bool:
            return taint.effect == SOFT and not any_tolerates(soft, taint)

        return _Counts(snapshot, avoided)

    def score(self, state: "_Counts", view: View) -> Ints:
        """How many soft taints of the node the pod does not tolerate."""
        return state.of(view)

    def normalize(self, raw: Ints) -> Ints:
        return default_normalize(raw, reverse=True)


def untolerated(info: PodInfo, snapshot: Snapshot) -> "_Counts":
    """How many taints of each node keep the pod away."""
    tolerations = info.pod.spec.tolerations or []

    def refused(taint: Taint) -> bool:
        return taint.effect in NO_SCHEDULE and not any_tolerates(tolerations, taint)

    return _Counts(snapshot, refused)


class _Counts:
    """How many taints of each distinct set meet a test, judged once for all nodes that share it."""

    def __init__(self, snapshot: Snapshot, test: Callable[[Taint], bool]) -> None:
        self._sets, self.test = snapshot.taint_sets, test
        self._counts = np.zeros(0, np.int64)
        self._generation = self._sets.generation

    def of(self, view: View) -> Ints:
        """The count of each node's set."""
        if self._generation != self._sets.generation:
            # A number means another set by now.
            self._generation, self._counts = self._sets.generation, np.zeros(0, np.int64)
        known = len(self._counts)
        if known < len(self._sets):
            fresh = [sum(map(self.test, taints or ())) for taints in self._sets.values[known:]]
            self._counts = np.concatenate([self._counts, np.array(fresh, np.int64)])
        counts: Ints = self._counts[view.taint_set]
        return counts
