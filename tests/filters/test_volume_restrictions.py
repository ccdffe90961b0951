"""Disks and claims that have one user."""

from typing import Any

import pytest

from tests.harness.make import node, pod
from tests.harness.objects import admitted, diagnosis
from tests.harness.volumes import MOUNTS, claim, volume


def volumes(*disks: Any) -> Any:
    return {"volumes": [{"name": f"v{i}", **disk} for i, disk in enumerate(disks)]}


@pytest.mark.parametrize(
    ("mine", "theirs", "shared"),
    [
        # An EBS volume is never shared, read-only or not.
        ({"awsElasticBlockStore": {"volumeID": "1", "readOnly": True}},
         {"awsElasticBlockStore": {"volumeID": "1", "readOnly": True}}, False),
        ({"iscsi": {"iqn": "i", "readOnly": True}}, {"iscsi": {"iqn": "i", "readOnly": True}},
         True),
        ({"iscsi": {"iqn": "i"}}, {"iscsi": {"iqn": "j"}}, True),
        ({"rbd": {"monitors": ["m"], "pool": "a", "image": "i"}},
         {"rbd": {"monitors": ["m"], "pool": "b", "image": "i"}}, True),
        ({"rbd": {"monitors": ["m"], "image": "i", "readOnly": True}},
         {"rbd": {"monitors": ["m"], "image": "i", "readOnly": True}}, True),
        ({"gcePersistentDisk": {"pdName": "d"}}, {"awsElasticBlockStore": {"volumeID": "d"}}, True),
    ],
)  # fmt: skip
def test_disks_are_shared_where_both_read_or_differ(mine: Any, theirs: Any, shared: bool) -> None:
    user = pod("user", nodeName="a", **volumes(theirs))
    found = admitted(pod(**volumes(mine)), node("a"), node("b"), pods=(user,))
    assert found == (["a", "b"] if shared else ["b"])


def test_a_disk_in_use_counts_before_a_claim_in_use() -> None:
    disk = {"awsElasticBlockStore": {"volumeID": "1"}}
    both = volumes(MOUNTS["volumes"][0] | {"name": "c"}, disk)
    others = (claim(accessModes=["ReadWriteOncePod"]), volume())
    user = pod("user", nodeName="a", **both)
    found = diagnosis(pod(**both), node("a"), node("b"), pods=(user,), others=others)
    assert found.counts["node(s) had no available disk"] == 1
    assert sum(found.counts.values()) == 2
