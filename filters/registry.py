"""Every plugin by name: those of this package and those that others install.

An out-of-tree plugin is a `filters.common.plugin.Plugin` under the entry-point group
`gsch.plugins`.
"""

from importlib.metadata import entry_points

from filters.balanced_allocation import NodeResourcesBalancedAllocation
from filters.common.plugin import Plugin
from filters.default_preemption import DefaultPreemption
from filters.image_locality import ImageLocality
from filters.inter_pod_affinity import InterPodAffinity
from filters.low_latency import LowLatency
from filters.node_affinity import NodeAffinity
from filters.node_declared_features import NodeDeclaredFeatures
from filters.node_name import NodeName
from filters.node_ports import NodePorts
from filters.node_unschedulable import NodeUnschedulable
from filters.node_volume_limits import NodeVolumeLimits
from filters.pod_topology_spread import PodTopologySpread
from filters.resources import NodeResourcesFit
from filters.scheduling_gates import SchedulingGates
from filters.taint_toleration import TaintToleration
from filters.unsupported import UnsupportedConstraints
from filters.volume_binding import VolumeBinding
from filters.volume_restrictions import VolumeRestrictions
from filters.volume_zone import VolumeZone

# In the order in which a node's first failing filter is named, which is upstream's.
IN_TREE: dict[str, type[Plugin]] = {
    plugin.NAME: plugin
    for plugin in (
        SchedulingGates,
        UnsupportedConstraints,
        LowLatency,
        NodeUnschedulable,
        NodeName,
        TaintToleration,
        NodeAffinity,
        NodePorts,
        NodeResourcesFit,
        VolumeRestrictions,
        NodeVolumeLimits,
        VolumeBinding,
        VolumeZone,
        PodTopologySpread,
        InterPodAffinity,
        DefaultPreemption,
        NodeResourcesBalancedAllocation,
        ImageLocality,
        NodeDeclaredFeatures,
    )
}

OUR_OWN = frozenset((UnsupportedConstraints.NAME, LowLatency.NAME))
"""Those that kube-scheduler does not have."""


def plugins() -> dict[str, type[Plugin]]:
    """In-tree plugins, then installed ones. Raises ValueError where two share a name."""
    registry = dict(IN_TREE)
    for entry in entry_points(group="gsch.plugins"):
        if entry.name in registry:
            raise ValueError(f"plugin {entry.name} of {entry.value} is already there")
        registry[entry.name] = entry.load()
    return registry
