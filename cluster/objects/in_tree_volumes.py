"""In-tree volumes as the CSI drivers see them that took them over (KEP-625, csi-translation-lib).

kubelets of today attach them by those drivers; nodes say so in an annotation of their CSINode."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from cluster.objects.api_objects import CsiNode, CsiSource, PersistentVolume
from cluster.objects.core import Disk, NodeSelector, NodeSelectorTerm, Pod, Requirement

MIGRATED_PLUGINS = "storage.alpha.kubernetes.io/migrated-plugins"
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
BETA_ZONE = "failure-domain.beta.kubernetes.io/zone"
BETA_REGION = "failure-domain.beta.kubernetes.io/region"


@dataclass(frozen=True, slots=True)
class InTreePlugin:
    """`name` is the in-tree plugin (and provisioner); `zone_key` is the driver's label for zones,
    empty where it has none."""

    name: str
    driver: str
    zone_key: str = ""


PLUGINS = {
    "gce_persistent_disk": InTreePlugin(
        "kubernetes.io/gce-pd", "pd.csi.storage.gke.io", "topology.gke.io/zone"
    ),
    "aws_elastic_block_store": InTreePlugin(
        "kubernetes.io/aws-ebs", "ebs.csi.aws.com", "topology.ebs.csi.aws.com/zone"
    ),
    "azure_disk": InTreePlugin("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    "cinder": InTreePlugin(
        "kubernetes.io/cinder",
        "cinder.csi.openstack.org",
        "topology.cinder.csi.openstack.org/zone",
    ),
    "portworx_volume": InTreePlugin("kubernetes.io/portworx-volume", "pxd.portworx.com"),
}
"""By the field of a volume's source."""

_DRIVERS = {plugin.name: plugin.driver for plugin in PLUGINS.values()}


def driver_of_provisioner(provisioner: str) -> str:
    """The CSI driver that makes the volumes of a StorageClass."""
    return _DRIVERS.get(provisioner, provisioner)


def plugin_of(volume: PersistentVolume) -> InTreePlugin | None:
    """The plugin of an in-tree volume that a CSI driver took over."""
    for field, plugin in PLUGINS.items():
        if getattr(volume.spec, field) is not None:
            return plugin
    return None


def csi_source(volume: PersistentVolume) -> CsiSource | None:
    """The volume's CSI driver, its own or the one that took over; None with none."""
    if volume.spec.csi is not None:
        return volume.spec.csi
    for field, plugin in PLUGINS.items():
        disk: Disk | None = getattr(volume.spec, field)
        if disk is not None:
            return CsiSource(plugin.driver) if _managed(disk) else None
    return None


def inline_volumes(pod: Pod) -> Iterator[tuple[str, str]]:
    """(driver, volume handle) of the in-tree disks that the pod names itself."""
    for volume in pod.spec.volumes or ():
        for field, plugin in PLUGINS.items():
            disk: Disk | None = getattr(volume, field)
            if disk is not None and _managed(disk):
                yield plugin.driver, disk.pd_name or disk.disk_uri or _bare(disk.volume_id)


def translated_affinity(volume: PersistentVolume, plugin: InTreePlugin) -> NodeSelector | None:
    """The volume's node affinity in the labels of the driver: zones under the driver's key, from
    the volume's labels where the affinity has none."""
    affinity = volume.spec.node_affinity.required if volume.spec.node_affinity else None
    terms = list(affinity.node_selector_terms or ()) if affinity else []
    if not plugin.zone_key:
        return affinity
    keys = {one.key for term in terms for one in term.match_expressions or ()}
    labels = volume.metadata.labels or {}
    beta = ZONE not in keys and (BETA_ZONE in keys or (ZONE not in labels and BETA_ZONE in labels))
    zone = BETA_ZONE if beta else ZONE
    new = {BETA_REGION: REGION} if beta else {}
    zones = sorted({name.strip() for name in labels.get(zone, "").split("__")} - {""})
    added: list[Requirement] = []
    if zone in keys:
        new[zone] = plugin.zone_key
    elif zones:
        added = [Requirement(plugin.zone_key, "In", zones)]
        terms = terms or [NodeSelectorTerm()]
    renamed = [_renamed(term, new, added) for term in terms]
    return NodeSelector(renamed) if renamed else affinity


def migrated_plugins(node: CsiNode) -> Iterable[str]:
    """Names of the in-tree plugins whose volumes the node attaches by their CSI drivers."""
    names = (node.metadata.annotations or {}).get(MIGRATED_PLUGINS, "")
    return names.split(",") if names else ()


def _renamed(
    term: NodeSelectorTerm, new: dict[str, str], added: list[Requirement]
) -> NodeSelectorTerm:
    expressions = [
        msgspec.structs.replace(one, key=new.get(one.key, one.key))
        for one in term.match_expressions or ()
    ]
    return msgspec.structs.replace(term, match_expressions=[*expressions, *added])


def _managed(disk: Disk) -> bool:
    """Of Azure's disks only managed ones were taken over."""
    return disk.kind.lower() in ("", "managed")


def _bare(volume: str) -> str:
    """AWS volumes may be written `aws://zone/vol-1`."""
    return volume.rsplit("/", 1)[-1] if volume.startswith("aws://") else volume
