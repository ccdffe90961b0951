"""UnsupportedConstraints: what a pod demands and no plugin here understands is never ignored.

The pod stays Pending and is told which of its fields is in the way and which of kube-scheduler's
plugins honours it, so that its owner can send it to a scheduler that has that plugin.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from cluster.objects.core import Pod
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import Plugin, PodInfo, Prepared, Rejected

# Field, the plugin that would honour it, and how it shows in the pod itself.
IN_POD: tuple[tuple[str, str, Callable[[Pod], Any]], ...] = (
    ("resourceClaims", "DynamicResources", lambda pod: pod.spec.resource_claims),
)


class UnsupportedConstraints(Plugin):
    NAME = "UnsupportedConstraints"
    LOOKS_AT_PODS = False

    def sign(self, info: PodInfo) -> Any:
        return [bool(test(info.pod)) for _, _, test in IN_POD]

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Rejected | None:
        unsupported = [f"{field} ({plugin})" for field, plugin, test in IN_POD if test(info.pod)]
        if not unsupported:
            return None
        return Rejected(f"pod asks for what no plugin here understands: {', '.join(unsupported)}")

    def filter(self, prepared: Prepared[None], view: View) -> Ints:
        return np.zeros(len(view), np.int64)
