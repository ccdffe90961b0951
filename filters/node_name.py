"""NodeName: a pod that names its node goes there or nowhere (upstream plugin of this name)."""

from typing import Any

from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import UNRESOLVABLE, Event, Plugin, PodInfo, Prepared, refusals

REASON = "node(s) didn't match the requested node name"


class NodeName(Plugin):
    NAME = "NodeName"
    events = Event.NODE_ADD
    LOOKS_AT_PODS = False

    def sign(self, info: PodInfo) -> Any:
        return info.pod.spec.node_name

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[int | None] | None:
        name = info.pod.spec.node_name
        return Prepared(snapshot.row(name), (REASON,)) if name else None

    def filter(self, prepared: Prepared[int | None], view: View) -> Ints:
        return refusals(~view.is_row(prepared.state), 1 | UNRESOLVABLE)
