"""NodeUnschedulable: a cordoned node takes only pods that tolerate it (upstream plugin)."""

from typing import Any

from cluster.state.snapshot import UNSCHEDULABLE_TAINT, Ints, Snapshot, View
from filters.common.plugin import UNRESOLVABLE, Event, Plugin, PodInfo, Prepared, Remedy, refusals
from filters.common.tolerations import any_tolerates

REASON = "node(s) were unschedulable"


class NodeUnschedulable(Plugin):
    NAME = "NodeUnschedulable"
    events = Event.NODE_ADD | Event.NODE_TAINT
    LOOKS_AT_PODS = False

    def sign(self, info: PodInfo) -> Any:
        return info.pod.spec.tolerations

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[None] | None:
        if any_tolerates(info.pod.spec.tolerations or (), UNSCHEDULABLE_TAINT):
            return None
        return Prepared(None, (REASON,))

    def filter(self, prepared: Prepared[None], view: View) -> Ints:
        return refusals(view.unschedulable, 1 | UNRESOLVABLE)

    def remedies(self, prepared: Prepared[None], snapshot: Snapshot, row: int) -> list[Remedy]:
        return [Remedy("the node uncordoned")]
