"""TaintToleration: refuses untolerated taints, prefers nodes with fewer soft ones (upstream)."""

from typing import Any

import numpy as np

from cluster.objects import Toleration
from cluster.snapshot import Ints, Snapshot, View
from filters.framework import (
    UNRESOLVABLE,
    Event,
    Plugin,
    PodInfo,
    Prepared,
    default_normalize,
    lookup,
    refusals,
)
from filters.tolerations import NO_SCHEDULE, any_tolerates

REASON = "node(s) had untolerated taint(s)"
SOFT = "PreferNoSchedule"

State = tuple[list[Toleration], Snapshot]


class TaintToleration(Plugin):
    NAME = "TaintToleration"
    events = Event.NODE_ADD | Event.NODE_TAINT
    RELATIVE = True

    def sign(self, info: PodInfo) -> Any:
        return info.pod.spec.tolerations

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared | None:
        return Prepared((info.pod.spec.tolerations or [], snapshot), (REASON,))

    def filter(self, prepared: Prepared, view: View) -> Ints:
        tolerations, snapshot = prepared.state
        refused = [
            any(
                taint.effect in NO_SCHEDULE and not any_tolerates(tolerations, taint)
                for taint in taints or ()
            )
            for taints in snapshot.taint_sets.values
        ]
        return refusals(lookup(refused, view.taint_set), 1 | UNRESOLVABLE)

    def pre_score(self, info: PodInfo, snapshot: Snapshot) -> State:
        soft = [t for t in info.pod.spec.tolerations or () if t.effect in ("", SOFT)]
        return soft, snapshot

    def score(self, state: State, view: View) -> Ints:
        """How many soft taints of the node the pod does not tolerate."""
        tolerations, snapshot = state
        counts = [
            sum(t.effect == SOFT and not any_tolerates(tolerations, t) for t in taints or ())
            for taints in snapshot.taint_sets.values
        ]
        return np.array(counts, np.int64)[view.taint_set]

    def normalize(self, raw: Ints) -> Ints:
        return default_normalize(raw, reverse=True)
