"""Which claims and disks the volumes of a pod name."""

from typing import Any

import pytest

from cluster.objects.pod_volumes import (
    claims_of,
    disks_of,
    driver_of_inline,
    inline_claims_of,
    mounted_claims_of,
)
from tests.harness.make import pod

CLAIM: Any = {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}
EPHEMERAL: Any = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
CONFIG: Any = {"name": "c", "configMap": {"name": "settings"}}
GCE: Any = {"name": "g", "gcePersistentDisk": {"pdName": "disk-1", "readOnly": True}}
AWS: Any = {"name": "e", "awsElasticBlockStore": {"volumeID": "vol-1"}}
AZURE: Any = {"name": "z", "azureDisk": {"diskURI": "/x/disk"}}


@pytest.mark.parametrize(
    ("volumes", "mounted", "claims"),
    [
        (None, (), ()),
        ([CONFIG], (), ()),
        ([CLAIM], ("shop/data",), ("shop/data",)),
        # A generic ephemeral volume's claim is called <pod>-<volume>.
        ([EPHEMERAL], (), ("shop/web-scratch",)),
        ([CLAIM, CONFIG, EPHEMERAL], ("shop/data",), ("shop/data", "shop/web-scratch")),
    ],
)
def test_claims_are_named_by_namespace_and_name(volumes: Any, mounted: Any, claims: Any) -> None:
    found = pod("web", namespace="shop", volumes=volumes)
    assert mounted_claims_of(found) == mounted
    assert claims_of(found) == claims


def test_disks_that_pods_may_not_share_come_with_their_kind() -> None:
    found = disks_of(pod(volumes=[CLAIM, GCE, AZURE, AWS]))
    assert [kind for kind, _ in found] == ["gce_persistent_disk", "aws_elastic_block_store"]
    assert found[0][1].pd_name == "disk-1"
    assert found[0][1].read_only
    assert found[1][1].volume_id == "vol-1"


def test_a_pod_without_volumes_has_no_disks() -> None:
    assert disks_of(pod()) == ()
    assert inline_claims_of(pod()) == ()


def test_a_disk_that_counts_for_a_driver_is_told_from_a_claim_by_its_name() -> None:
    (inline,) = inline_claims_of(pod(volumes=[AWS]))
    assert inline == "ebs.csi.aws.com/vol-1"
    assert driver_of_inline(inline) == "ebs.csi.aws.com"
    assert driver_of_inline("shop/data") == ""
