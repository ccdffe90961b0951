"""In-tree volumes that CSI drivers took over: what they count as, and where they can be used."""

from typing import Any

import pytest

from cluster.objects.api_objects import CsiNode, PersistentVolume
from cluster.objects.in_tree_volumes import (
    csi_source,
    driver_of_provisioner,
    inline_volumes,
    migrated_plugins,
    plugin_of,
    translated_affinity,
)
from tests.harness.make import Json, node, pod
from tests.harness.objects import admitted, expression, read
from tests.harness.volumes import MOUNTS, claim, late, volume, waiting

EBS: dict[str, Any] = {"awsElasticBlockStore": {"volumeID": "aws://zone-1/vol-1"}}
ZONE, BETA = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"
EBS_ZONE = "topology.ebs.csi.aws.com/zone"


def affinity(*expressions: Json) -> Json:
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}}


def csi_node(name: str, driver: str, count: int, migrated: str = "") -> Json:
    notes = {"storage.alpha.kubernetes.io/migrated-plugins": migrated} if migrated else {}
    drivers = [{"name": driver, "nodeID": name, "allocatable": {"count": count}}]
    meta = {"name": name, "annotations": notes}
    return {"kind": "CSINode", "metadata": meta, "spec": {"drivers": drivers}}


@pytest.mark.parametrize(
    ("source", "driver"),
    [
        (EBS, "ebs.csi.aws.com"),
        ({"gcePersistentDisk": {"pdName": "d"}}, "pd.csi.storage.gke.io"),
        ({"azureDisk": {"diskName": "d", "diskURI": "u", "kind": "Managed"}}, "disk.csi.azure.com"),
        ({"azureDisk": {"diskName": "d", "diskURI": "u", "kind": "Dedicated"}}, None),
        ({"cinder": {"volumeID": "v"}}, "cinder.csi.openstack.org"),
        ({"portworxVolume": {"volumeID": "v"}}, "pxd.portworx.com"),
        ({"csi": {"driver": "own", "volumeHandle": "h"}}, "own"),
        ({"nfs": {"server": "s", "path": "/"}}, None),
    ],
)
def test_the_driver_that_took_a_source_over(source: Any, driver: str | None) -> None:
    found = csi_source(read(volume(**source)))
    assert (found.driver if found else None) == driver


@pytest.mark.parametrize(
    ("source", "handle"),
    [
        (EBS, "vol-1"),
        ({"awsElasticBlockStore": {"volumeID": "vol-2"}}, "vol-2"),
        ({"gcePersistentDisk": {"pdName": "d"}}, "d"),
        ({"azureDisk": {"diskName": "d", "diskURI": "u"}}, "u"),
    ],
)
def test_disks_that_a_pod_names_itself(source: Any, handle: str) -> None:
    found = list(inline_volumes(pod(volumes=[{"name": "v", **source}])))
    assert [h for _, h in found] == [handle]


def test_provisioners_are_known_by_their_driver() -> None:
    assert driver_of_provisioner("kubernetes.io/aws-ebs") == "ebs.csi.aws.com"
    assert driver_of_provisioner("example.com/own") == "example.com/own"


@pytest.mark.parametrize(
    ("labels", "required", "expected"),
    [
        ({}, None, None),
        ({ZONE: "a"}, None, [(EBS_ZONE, ["a"])]),
        ({ZONE: "b__ a "}, None, [(EBS_ZONE, ["a", "b"])]),
        ({BETA: "a"}, None, [(EBS_ZONE, ["a"])]),
        ({ZONE: "a", BETA: "b"}, None, [(EBS_ZONE, ["a"])]),
        ({ZONE: "b"}, affinity(expression(ZONE, "In", "a")), [(EBS_ZONE, ["a"])]),
        ({ZONE: "b"}, affinity(expression(BETA, "In", "a")), [(EBS_ZONE, ["a"])]),
        ({ZONE: "b"}, affinity(expression("x", "In", "y")), [("x", ["y"]), (EBS_ZONE, ["b"])]),
        (
            {},
            affinity(
                expression(BETA, "In", "a"),
                expression("failure-domain.beta.kubernetes.io/region", "In", "r"),
            ),
            [(EBS_ZONE, ["a"]), ("topology.kubernetes.io/region", ["r"])],
        ),
    ],
)
def test_zones_are_read_in_the_driver_s_label(labels: Any, required: Any, expected: Any) -> None:
    """As csi-translation-lib's translateTopologyFromInTreeToCSI."""
    fields = {"nodeAffinity": required} if required else {}
    found: PersistentVolume = read(volume(metadata={"labels": labels}, **EBS, **fields))
    plugin = plugin_of(found)
    assert plugin is not None
    selector = translated_affinity(found, plugin)
    terms = selector.node_selector_terms if selector else []
    got = [(e.key, e.values) for term in terms for e in term.match_expressions or ()]
    assert got == (expected or [])


def test_a_csinode_names_the_plugins_that_were_taken_over() -> None:
    made: CsiNode = read(csi_node("a", "d", 1, "kubernetes.io/aws-ebs,kubernetes.io/cinder"))
    assert list(migrated_plugins(made)) == ["kubernetes.io/aws-ebs", "kubernetes.io/cinder"]
    assert not list(migrated_plugins(read(csi_node("a", "d", 1))))


def test_a_bound_volume_is_reached_by_the_driver_s_label_where_that_has_taken_over() -> None:
    nodes = (
        node("old", labels={ZONE: "z1"}),
        node("new", labels={EBS_ZONE: "z1"}),
        node("far", labels={EBS_ZONE: "z2", ZONE: "z1"}),
    )
    by = "kubernetes.io/aws-ebs"
    others = (
        claim(),
        volume(nodeAffinity=affinity(expression(ZONE, "In", "z1")), **EBS),
        csi_node("new", "ebs.csi.aws.com", 9, by),
        csi_node("far", "ebs.csi.aws.com", 9, by),
    )
    assert admitted(pod(**MOUNTS), *nodes, others=others) == ["old", "new"]


def test_in_tree_volumes_count_towards_the_driver_s_limit() -> None:
    nodes = (node("a"), node("b"))
    limits = tuple(csi_node(n, "ebs.csi.aws.com", 1) for n in "ab")
    others = (
        *limits,
        claim(),
        volume(**EBS),
        claim(name="used", volumeName="pv-used"),
        volume("pv-used", awsElasticBlockStore={"volumeID": "vol-9"}),
    )
    mounted: Any = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}]}
    user = (pod("user", nodeName="a", **mounted),)
    assert admitted(pod(**MOUNTS), *nodes, others=others) == ["a", "b"]
    assert admitted(pod(**MOUNTS), *nodes, others=others, pods=user) == ["b"]


def test_disks_of_the_pod_itself_count_once() -> None:
    nodes = (node("a"), node("b"))
    others = tuple(csi_node(n, "cinder.csi.openstack.org", 1) for n in "ab")

    def using(handle: str) -> Any:
        return {"volumes": [{"name": "v", "cinder": {"volumeID": handle}}]}

    user = (pod("user", nodeName="a", **using("one")),)
    assert admitted(pod(**using("two")), *nodes, others=others, pods=user) == ["b"]
    assert admitted(pod(**using("one")), *nodes, others=others, pods=user) == ["a", "b"]


def test_claims_to_be_provisioned_count_for_the_driver_of_an_old_provisioner() -> None:
    nodes = (node("a"), node("b"))
    others = (
        csi_node("a", "ebs.csi.aws.com", 0),
        csi_node("b", "ebs.csi.aws.com", 1),
        late("kubernetes.io/aws-ebs"),
        waiting(),
    )
    assert admitted(pod(**MOUNTS), *nodes, others=others) == ["b"]
