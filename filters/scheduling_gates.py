"""SchedulingGates: a pod with gates is not looked at until they are gone (KEP-3521)."""

from cluster.objects.core import Pod
from filters.common.plugin import Plugin


class SchedulingGates(Plugin):
    NAME = "SchedulingGates"

    def pre_enqueue(self, pod: Pod) -> str:
        """Why the pod may not be queued; empty where it may. The API server has told its owner."""
        gates = pod.spec.scheduling_gates
        return f"scheduling gates: {', '.join(gate.name for gate in gates)}" if gates else ""
