"""UnsupportedConstraints: what a pod demands and no plugin here understands is never ignored.

The pod stays Pending and is told which of its fields is in the way and which of kube-scheduler's
plugins honours it, so that its owner can send it to a scheduler that has that plugin.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cluster.objects import Pod, TopologySpreadConstraint
from cluster.snapshot import Ints, Snapshot, View
from filters.framework import Event, Plugin, PodInfo, Prepared, Rejected, Unsignable
from filters.volumes import claim_names, waits_for_consumer

ZONE_LABELS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)


def _hard(constraint: TopologySpreadConstraint) -> bool:
    return constraint.when_unsatisfiable != "ScheduleAnyway"


def _host_ports(pod: Pod) -> bool:
    containers = [*pod.spec.containers]
    containers += [c for c in pod.spec.init_containers or () if c.restart_policy == "Always"]
    return any(port.host_port for c in containers for port in c.ports or ())


def _spread(pod: Pod) -> bool:
    return any(_hard(constraint) for constraint in pod.spec.topology_spread_constraints or ())


def _affinity(pod: Pod) -> bool:
    affinity = pod.spec.affinity
    term = affinity.pod_affinity if affinity else None
    return bool(term and term.required_during_scheduling_ignored_during_execution)


def _anti_affinity(pod: Pod) -> bool:
    affinity = pod.spec.affinity
    term = affinity.pod_anti_affinity if affinity else None
    return bool(term and term.required_during_scheduling_ignored_during_execution)


def _exclusive_disks(pod: Pod) -> bool:
    return any(
        v.gce_persistent_disk or v.aws_elastic_block_store or v.iscsi or v.rbd
        for v in pod.spec.volumes or ()
    )


# Field, the plugin that would honour it, and how it shows in the pod itself.
IN_POD: tuple[tuple[str, str, Callable[[Pod], Any]], ...] = (
    ("hostPort", "NodePorts", _host_ports),
    ("topologySpreadConstraints with DoNotSchedule", "PodTopologySpread", _spread),
    ("required podAffinity", "InterPodAffinity", _affinity),
    ("required podAntiAffinity", "InterPodAffinity", _anti_affinity),
    ("resourceClaims", "DynamicResources", lambda pod: pod.spec.resource_claims),
    ("schedulingGroup", "GangScheduling", lambda pod: pod.spec.scheduling_group),
    ("a disk that one node at a time may write", "VolumeRestrictions", _exclusive_disks),
)


class UnsupportedConstraints(Plugin):
    NAME = "UnsupportedConstraints"
    events = Event.CLAIM | Event.VOLUME | Event.STORAGE_CLASS

    def sign(self, info: PodInfo) -> Any:
        if any(claim_names(info.pod)):
            raise Unsignable
        return [bool(test(info.pod)) for _, _, test in IN_POD]

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Rejected | None:
        found = [f"{field} ({plugin})" for field, plugin, test in IN_POD if test(info.pod)]
        found += _in_claims(info.pod, snapshot)
        if not found:
            return None
        return Rejected(f"pod asks for what no plugin here understands: {', '.join(found)}")

    def filter(self, prepared: Prepared, view: View) -> Ints:
        return np.zeros(len(view), np.int64)


def _in_claims(pod: Pod, snapshot: Snapshot) -> Iterator[str]:
    for key in claim_names(pod):
        name = key.partition("/")[2]
        claim = snapshot.claims.get(key)
        if claim is None:
            continue
        if waits_for_consumer(claim, snapshot):
            yield f"claim {name} that waits for its first consumer (VolumeBinding)"
        if "ReadWriteOncePod" in (claim.spec.access_modes or ()):
            yield f"claim {name} with ReadWriteOncePod (VolumeRestrictions)"
        volume = snapshot.volumes.get(f"/{claim.spec.volume_name}")
        if volume is None:
            continue
        if volume.spec.csi is not None:
            yield f"claim {name} on a CSI volume (NodeVolumeLimits)"
        if any(label in (volume.metadata.labels or {}) for label in ZONE_LABELS):
            yield f"claim {name} on a zonal volume (VolumeZone)"
