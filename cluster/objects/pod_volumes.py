"""The claims and disks that a pod's volumes name."""

from cluster.objects.core import Disk, Pod
from cluster.objects.in_tree_volumes import inline_volumes

DISKS = ("gce_persistent_disk", "aws_elastic_block_store", "iscsi", "rbd")


def mounted_claims_of(pod: Pod) -> tuple[str, ...]:
    """`namespace/name` of every claim that the pod names."""
    return tuple(
        f"{pod.metadata.namespace}/{volume.persistent_volume_claim.claim_name}"
        for volume in pod.spec.volumes or ()
        if volume.persistent_volume_claim is not None
    )


def claims_of(pod: Pod) -> tuple[str, ...]:
    """`namespace/name` of every claim that the pod mounts, generic ephemeral volumes included."""
    meta = pod.metadata
    claims = []
    for volume in pod.spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            claims.append(f"{meta.namespace}/{volume.persistent_volume_claim.claim_name}")
        elif volume.ephemeral is not None:
            claims.append(f"{meta.namespace}/{meta.name}-{volume.name}")
    return tuple(claims)


def inline_claims_of(pod: Pod) -> tuple[str, ...]:
    """In-tree disks of the pod's own spec that count for a CSI driver, as `driver/handle`: no
    namespace has a dot in its name."""
    return tuple(f"{driver}/{handle}" for driver, handle in inline_volumes(pod))


def driver_of_inline(claim: str) -> str:
    """The driver of a disk that is named like a claim; empty for a claim."""
    driver, _, _ = claim.partition("/")
    return driver if "." in driver else ""


def disks_of(pod: Pod) -> tuple[tuple[str, Disk], ...]:
    """The in-tree disks of the pod's own spec that pods on one node may not share, by kind."""
    return tuple(
        (kind, disk)
        for volume in pod.spec.volumes or ()
        for kind in DISKS
        if (disk := getattr(volume, kind)) is not None
    )
