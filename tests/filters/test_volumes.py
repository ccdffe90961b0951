"""Claims and volumes: what keeps a pod from a node, and what is planned for the others."""

from typing import Any

import pytest

from cluster.state.storage import VolumePlan
from filters.volume_binding import VolumeBinding
from tests.harness.make import Json, node, pod
from tests.harness.objects import LABELLED, admitted, diagnosis, expression, trial
from tests.harness.volumes import (
    BOUND,
    MOUNTS,
    claim,
    late,
    local,
    volume,
    waiting,
)

IN_ZONE_2 = {
    "required": {"nodeSelectorTerms": [{"matchExpressions": [expression("zone", "In", "2")]}]}
}


def message(*others: Json, spec: Any = MOUNTS) -> str:
    return diagnosis(pod(**spec), *LABELLED, others=others).message


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ([volume()], 'persistentvolumeclaim "data" not found'),
        ([claim("Pending", volumeName=""), volume()],
         "pod has unbound immediate PersistentVolumeClaims"),
        ([claim("Lost", metadata={"annotations": BOUND}), volume()],
         'persistentvolumeclaim "data" bound to non-existent persistentvolume "pv"'),
        ([claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), volume()],
         'persistentvolumeclaim "data" is being deleted'),
        ([claim()], 'persistentvolume "pv" not found'),
        ([waiting(), late()],
         "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind."),
    ],
)  # fmt: skip
def test_claims_that_keep_a_pod_pending(others: Any, text: str) -> None:
    assert text in message(*others)


def test_an_ephemeral_volume_s_claim_must_be_the_pod_s_own() -> None:
    spec: Any = {"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]}
    assert "waiting for ephemeral volume controller to create" in message(volume(), spec=spec)
    for owner, left in (("uid-pod", ["a", "b", "c"]), ("another", [])):
        references = [{"uid": owner, "controller": True}]
        made = claim(name="pod-v", metadata={"ownerReferences": references})
        assert admitted(pod(**spec), *LABELLED, others=(made, volume())) == left


def test_a_bound_claim_leaves_the_nodes_that_its_volume_can_reach() -> None:
    assert admitted(pod(**MOUNTS), *LABELLED, others=(claim(), volume())) == ["a", "b", "c"]
    far = volume(nodeAffinity=IN_ZONE_2)
    assert admitted(pod(**MOUNTS), *LABELLED, others=(claim(), far)) == ["b"]
    found = diagnosis(pod(**MOUNTS), LABELLED[0], others=(claim(), far))
    assert found.message == (
        "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity."
    )


@pytest.mark.parametrize(
    ("labels", "left"),
    [
        ({"topology.kubernetes.io/zone": "1"}, ["one", "old", "none"]),
        ({"topology.kubernetes.io/zone": "1__2"}, ["one", "two", "old", "none"]),
        ({"failure-domain.beta.kubernetes.io/zone": "2"}, ["two", "none"]),
        ({"topology.kubernetes.io/region": "r"}, ["none"]),
        ({"other": "1"}, ["one", "two", "old", "none"]),
    ],
)
def test_a_zonal_volume_keeps_to_its_zones(labels: Any, left: list[str]) -> None:
    zone, beta = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"
    nodes = [
        node("one", labels={zone: "1"}),
        node("two", labels={zone: "2"}),
        node("old", labels={beta: "1", zone: "1"}),
        node("none"),
    ]
    others = (claim(), volume(metadata={"labels": labels}))
    assert admitted(pod(**MOUNTS), *nodes, others=others) == left


def plan(row: int, *others: Json, spec: Any = MOUNTS) -> VolumePlan | None:
    asked = trial(pod(**spec), *LABELLED, others=others)
    prepared = asked.prepared.get(VolumeBinding.NAME)
    return None if prepared is None else VolumeBinding().plan(prepared, asked.snapshot, row)


def test_a_waiting_claim_takes_the_smallest_volume_that_the_node_reaches() -> None:
    others = (
        late(), waiting(size="2Gi"), local("small", "a", "1Gi"), local("fits", "a", "2Gi"),
        local("large", "a", "9Gi"), local("else", "b", "5Gi"),
    )  # fmt: skip
    assert admitted(pod(**MOUNTS), *LABELLED, others=others) == ["a", "b"]
    assert plan(0, *others) == VolumePlan("a", (("fits", "default/data"),))
    assert plan(1, *others) == VolumePlan("b", (("else", "default/data"),))


def test_two_claims_never_get_one_volume() -> None:
    both: Any = {
        "volumes": [
            {"name": n, "persistentVolumeClaim": {"claimName": n}} for n in ("first", "second")
        ]
    }
    claims = (late(), waiting("first", size="1Gi"), waiting("second", size="2Gi"))
    one = (*claims, local("x", "a", "3Gi"), local("y", "b", "1Gi"), local("z", "b", "2Gi"))
    assert admitted(pod(**both), *LABELLED, others=one) == ["b"]
    assert plan(1, *one, spec=both) == VolumePlan(
        "b", (("y", "default/first"), ("z", "default/second"))
    )


def test_a_volume_promised_to_a_claim_is_that_claim_s_alone() -> None:
    promised = local("mine", "b", "9Gi")
    promised["spec"]["claimRef"] = {"namespace": "default", "name": "data"}
    others = (late(), waiting(), local("free", "a"), promised)
    assert admitted(pod(**MOUNTS), *LABELLED, others=others) == ["b"]
    promised["spec"]["claimRef"] = {"namespace": "default", "name": "another"}
    assert admitted(pod(**MOUNTS), *LABELLED, others=others) == ["a"]


def test_what_no_volume_fits_is_provisioned_where_the_class_allows() -> None:
    topologies = [{"matchLabelExpressions": [{"key": "zone", "values": ["1", "2"]}]}]
    others = (late("csi.example", allowedTopologies=topologies), waiting(), local("v", "a"))
    assert admitted(pod(**MOUNTS), *LABELLED, others=others) == ["a", "b"]
    assert plan(0, *others) == VolumePlan("a", (("v", "default/data"),))
    assert plan(1, *others) == VolumePlan("b", (), ("default/data",))


def test_a_claim_with_a_selected_node_waits_for_that_node() -> None:
    chosen = {"annotations": {"volume.kubernetes.io/selected-node": "b"}}
    others = (late("csi.example"), waiting(metadata=chosen))
    assert admitted(pod(**MOUNTS), *LABELLED, others=others) == ["b"]


@pytest.mark.parametrize(
    ("capacity", "left"),
    [
        ({"capacity": "10Gi"}, ["b"]),
        ({"capacity": "10Gi", "maximumVolumeSize": "2Gi"}, []),
        ({}, []),
    ],
)
def test_a_driver_that_tells_its_capacity_must_have_enough(capacity: Any, left: Any) -> None:
    driver = {
        "kind": "CSIDriver", "metadata": {"name": "csi.example"}, "spec": {"storageCapacity": True}
    }  # fmt: skip
    free = {
        "kind": "CSIStorageCapacity",
        "metadata": {"name": "x", "namespace": "kube-system"},
        "storageClassName": "late",
        "nodeTopology": {"matchLabels": {"zone": "2"}},
        **capacity,
    }
    others = (late("csi.example"), waiting(size="5Gi"), driver, free)
    assert admitted(pod(**MOUNTS), *LABELLED, others=others) == left
    if not left:
        text = "3 node(s) did not have enough free storage"
        assert text in diagnosis(pod(**MOUNTS), *LABELLED, others=others).message


def test_a_claim_for_one_pod_is_not_shared() -> None:
    others = (claim(accessModes=["ReadWriteOncePod"]), volume())
    assert admitted(pod(**MOUNTS), *LABELLED, others=others) == ["a", "b", "c"]
    user = pod("user", nodeName="a", **MOUNTS)
    found = diagnosis(pod(**MOUNTS), *LABELLED, pods=(user,), others=others)
    assert found.reasons.startswith("3 node(s) unavailable due to PersistentVolumeClaim with Read")


@pytest.mark.parametrize(
    ("mine", "theirs", "left"),
    [
        ({"awsElasticBlockStore": {"volumeID": "1"}}, {"awsElasticBlockStore": {"volumeID": "1"}},
         ["b"]),
        ({"awsElasticBlockStore": {"volumeID": "1"}}, {"awsElasticBlockStore": {"volumeID": "2"}},
         ["a", "b"]),
        ({"gcePersistentDisk": {"pdName": "d", "readOnly": True}},
         {"gcePersistentDisk": {"pdName": "d", "readOnly": True}}, ["a", "b"]),
        ({"gcePersistentDisk": {"pdName": "d"}},
         {"gcePersistentDisk": {"pdName": "d", "readOnly": True}}, ["b"]),
        ({"iscsi": {"iqn": "i"}}, {"iscsi": {"iqn": "i"}}, ["b"]),
        ({"rbd": {"monitors": ["m", "n"], "image": "i"}}, {"rbd": {"monitors": ["n"],
         "image": "i", "pool": "rbd"}}, ["b"]),
        ({"rbd": {"monitors": ["m"], "image": "i"}}, {"rbd": {"monitors": ["n"], "image": "i"}},
         ["a", "b"]),
    ],
)  # fmt: skip
def test_a_disk_for_one_node_is_mounted_once(mine: Any, theirs: Any, left: list[str]) -> None:
    user = pod("user", nodeName="a", volumes=[{"name": "v", **theirs}])
    nodes = (node("a"), node("b"))
    assert admitted(pod(volumes=[{"name": "v", **mine}]), *nodes, pods=(user,)) == left


def test_a_node_attaches_as_many_volumes_as_its_driver_can() -> None:
    limit = {
        "kind": "CSINode",
        "metadata": {"name": "a"},
        "spec": {"drivers": [{"name": "d", "nodeID": "a", "allocatable": {"count": 1}}]},
    }
    csi: Any = {"csi": {"driver": "d", "volumeHandle": "h"}}
    used = (claim(name="used", volumeName="pv-used"), volume("pv-used", **csi))
    others = (limit, claim(), volume(**csi), *used)
    spec: Any = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}]}
    nodes = (node("a"), node("b"))
    assert admitted(pod(**MOUNTS), *nodes, others=others) == ["a", "b"]
    user = (pod("user", nodeName="a", **spec),)
    assert admitted(pod(**MOUNTS), *nodes, others=others, pods=user) == ["b"]
    # The volume that is there already costs nothing more.
    assert admitted(pod(**spec), *nodes, others=others, pods=user) == ["a", "b"]
    reason = "1 node(s) exceed max volume count"
    assert reason in diagnosis(pod(**MOUNTS), node("a"), others=others, pods=user).reasons
