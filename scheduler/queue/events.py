"""Cluster events by upstream's labels, and what each may make schedulable."""

from dataclasses import dataclass

from cluster.state.node_columns import Change
from filters.common.plugin import Event


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """`flags` are what plugins register for; `label` is what metrics call it."""

    flags: Event
    label: str


ASSIGNED_POD_ADD = ClusterEvent(Event.POD_PLACED, "AssignedPodAdd")
ASSIGNED_POD_DELETE = ClusterEvent(Event.POD_GONE, "AssignedPodDelete")
NODE_ADD = ClusterEvent(Event.NODE_ADD, "NodeAdd")
NODE_DELETE = ClusterEvent(Event.NODE_GONE, "NodeDelete")
PLUGIN_OBJECT_CHANGE = ClusterEvent(Event.PLUGIN, "PluginObjectChange")
LATENCY_CHANGE = ClusterEvent(Event.LATENCY, "LatencyChange")
CONFIGURATION_RELOAD = ClusterEvent(~Event.NONE, "ConfigurationReload")

NODE_UPDATES = {
    Change.ALLOCATABLE: ClusterEvent(Event.NODE_ALLOCATABLE, "NodeAllocatableChange"),
    Change.LABELS: ClusterEvent(Event.NODE_LABEL, "NodeLabelChange"),
    Change.TAINTS: ClusterEvent(Event.NODE_TAINT, "NodeTaintChange"),
    Change.FEATURES: ClusterEvent(Event.NODE_FEATURE, "NodeDeclaredFeatureChange"),
}

RESOURCE_UPDATES = {
    kind: ClusterEvent(flags, f"{kind}Change")
    for kind, flags in {
        "Namespace": Event.NAMESPACE,
        "PersistentVolumeClaim": Event.CLAIM,
        "PersistentVolume": Event.VOLUME,
        "StorageClass": Event.STORAGE_CLASS,
        "CSINode": Event.CSI,
        "CSIDriver": Event.CSI,
        "CSIStorageCapacity": Event.CSI,
        "VolumeAttachment": Event.CSI,
    }.items()
}
"""By kind; changes of other kinds make nothing schedulable."""


def assigned_pod_update(flags: Event) -> ClusterEvent:
    """What an update of a pod on a node changed for others."""
    return ClusterEvent(flags, "AssignedPodUpdate")
