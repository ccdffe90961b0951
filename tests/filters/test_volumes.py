"""Claims and volumes: what keeps a pod from a node, and what is planned for the others."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.state.attached_volumes import NO_LIMIT
from cluster.state.resource_types import RESOURCES, key_of, put
from cluster.state.snapshot import Snapshot
from cluster.state.storage import VolumePlan
from filters.common.plugin import PodInfo, Prepared
from filters.volume_binding import VolumeBinding
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from tests.harness.make import Json, node, pod, snapshot
from tests.harness.objects import LABELLED, admitted, diagnosis, expression, read, trial

MOUNTS: Any = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}
IN_ZONE_2 = {
    "required": {"nodeSelectorTerms": [{"matchExpressions": [expression("zone", "In", "2")]}]}
}
BOUND = {"pv.kubernetes.io/bind-completed": "yes"}


def claim(phase: str = "Bound", name: str = "data", metadata: Any = None, **spec: Any) -> Json:
    size = {"requests": {"storage": spec.pop("size", "1Gi")}}
    fields = {"volumeName": "pv", "accessModes": ["ReadWriteOnce"], "resources": size} | spec
    meta = {"name": name, "namespace": "default", "annotations": BOUND if phase == "Bound" else {}}
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": meta | (metadata or {}),
        "spec": fields,
        "status": {"phase": phase},
    }


def waiting(name: str = "data", **spec: Any) -> Json:
    return claim("Pending", name, **({"volumeName": "", "storageClassName": "late"} | spec))


def volume(name: str = "pv", metadata: Any = None, phase: str = "Bound", **spec: Any) -> Json:
    fields = {"capacity": {"storage": spec.pop("size", "1Gi")}, "accessModes": ["ReadWriteOnce"]}
    return {
        "kind": "PersistentVolume",
        "metadata": {"name": name, **(metadata or {})},
        "spec": fields | spec,
        "status": {"phase": phase},
    }


def on_node(name: str) -> Json:
    """The affinity of a local volume."""
    hosts = [expression("kubernetes.io/hostname", "In", name)]
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": hosts}]}}


def local(name: str, host: str, size: str = "1Gi") -> Json:
    return volume(
        name, phase="Available", size=size, storageClassName="late", nodeAffinity=on_node(host)
    )


def late(provisioner: str = "kubernetes.io/no-provisioner", **fields: Any) -> Json:
    return {
        "kind": "StorageClass",
        "metadata": {"name": "late"},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
        **fields,
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


STEPS = st.lists(
    st.tuples(st.sampled_from("pqr"), st.integers(0, 1), st.sampled_from(["c0", "c1", "c2"])),
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.booleans())
def test_attached_volumes_kept_by_events_equal_a_recount(
    steps: list[tuple[str, int, str]], attached: bool
) -> None:
    """Pods with claims come and go; one volume may linger on a node without any."""
    found = snapshot(node("a"), node("b"))
    csi: Any = {"csi": {"driver": "d", "volumeHandle": "h"}}
    drivers = {"drivers": [{"name": "d", "nodeID": "a", "allocatable": {"count": 2}}]}
    objects: list[Any] = [
        {"kind": "CSINode", "metadata": {"name": n}, "spec": drivers} for n in "ab"
    ]
    for number in range(4):
        reference = {"namespace": "default", "name": f"c{number}"}
        objects.append(claim(name=f"c{number}", volumeName=f"pv{number}"))
        objects.append(volume(f"pv{number}", claimRef=reference, **csi))
    if attached:
        source = {"persistentVolumeName": "pv0"}
        spec = {"attacher": "d", "nodeName": "a", "source": source}
        objects.append({"kind": "VolumeAttachment", "metadata": {"name": "va"}, "spec": spec})
    for raw in objects:
        put(found, raw["kind"], read(raw))
    new = pod_info(pod("new", **mounting("c3")))
    kept = Framework(Profile("gsch"), Matrix())
    for name, row, key in steps:
        if f"default/{name}" in found.pods:
            found.remove_pod(f"default/{name}")
        else:
            found.set_pod(pod(name, nodeName="ab"[row], **mounting(key)))
        fresh = Framework(Profile("gsch"), Matrix())
        answers = [Cycle(found).trial(f, new).feasible.tolist() for f in (kept, fresh)]
        assert answers[0] == answers[1]


def mounting(name: str) -> Any:
    return {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}


# -- kept columns equal what is counted anew ------------------------------------------------

HOSTS, DRIVERS = ("a", "b", "c"), ("csi.one", "csi.two", "")
CHANGES = st.one_of(
    st.tuples(st.just("node"), st.sampled_from(HOSTS), st.booleans()),
    st.tuples(st.just("csi"), st.sampled_from(HOSTS), st.integers(0, 3)),
    st.tuples(st.just("claim"), st.integers(0, 3), st.sampled_from(["", "v0", "v1", "v2"])),
    st.tuples(st.just("gone"), st.sampled_from(["claim", "volume", "attachment"]),
              st.integers(0, 3)),
    st.tuples(st.just("volume"), st.integers(0, 2), st.sampled_from(DRIVERS),
              st.sampled_from(["", "c0", "c1"]), st.sampled_from(["", *HOSTS]), st.integers(1, 3)),
    st.tuples(st.just("attachment"), st.integers(0, 3), st.integers(0, 2), st.sampled_from(HOSTS)),
    st.tuples(st.just("pod"), st.integers(0, 3), st.sampled_from(HOSTS), st.integers(0, 3)),
    st.tuples(st.just("pod gone"), st.integers(0, 3)),
)  # fmt: skip


def csi_node(name: str, limit: int) -> Json:
    drivers = [{"name": d, "allocatable": {"count": limit}} for d in DRIVERS[:limit] if d]
    return {"kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": drivers}}


def attachment(number: int, volume_number: int, host: str) -> Json:
    source = {"persistentVolumeName": f"v{volume_number}"}
    spec = {"attacher": "csi.one", "nodeName": host, "source": source}
    return {"kind": "VolumeAttachment", "metadata": {"name": f"at{number}"}, "spec": spec}


class Recorded:
    """A snapshot, and the objects that are there, so that another can be made of them."""

    def __init__(self) -> None:
        self.snapshot = snapshot()
        self.objects: dict[tuple[str, str], Json] = {}
        self.nodes: dict[str, Any] = {}
        self.pods: dict[str, Any] = {}

    def set(self, raw: Json) -> None:
        item = read(raw)
        self.objects[raw["kind"], key_of(item)] = raw
        put(self.snapshot, raw["kind"], item)

    def drop(self, kind: str, key: str) -> None:
        if self.objects.pop((kind, key), None) is not None:
            RESOURCES[kind].put(self.snapshot, key, None)

    def apply(self, change: Any) -> None:  # noqa: C901 - one case a kind of change
        match change:
            case "node", name, True:
                self.nodes[name] = node(name)
                self.snapshot.set_node(self.nodes[name])
            case "node", name, False:
                if self.nodes.pop(name, None):
                    self.snapshot.remove_node(name)
            case "csi", name, limit:
                self.set(csi_node(name, limit))
            case "claim", number, name:
                bound_ = {"phase": "Bound"} if name else {"phase": "Pending"}
                self.set(
                    claim(name=f"c{number}", volumeName=name, storageClassName="late", **bound_)
                )
            case "volume", number, driver, reference, host, size:
                spec: Any = {"csi": {"driver": driver}} if driver else {}
                if reference:
                    spec["claimRef"] = {"namespace": "default", "name": reference}
                if host:
                    spec["nodeAffinity"] = on_node(host)
                self.set(
                    volume(
                        f"v{number}",
                        phase="Available",
                        size=f"{size}Gi",
                        storageClassName="late",
                        **spec,
                    )
                )
            case "attachment", number, volume_number, host:
                self.set(attachment(number, volume_number, host))
            case "gone", "claim", number:
                self.drop("PersistentVolumeClaim", f"default/c{number}")
            case "gone", "volume", number:
                self.drop("PersistentVolume", f"v{number}")
            case "gone", "attachment", number:
                self.drop("VolumeAttachment", f"at{number}")
            case "pod", number, host, claimed:
                self.pods[f"p{number}"] = made = pod(
                    f"p{number}",
                    nodeName=host,
                    volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": f"c{claimed}"}}],
                )
                self.snapshot.set_pod(made)
            case "pod gone", number:
                if self.pods.pop(f"p{number}", None):
                    self.snapshot.remove_pod(f"default/p{number}")

    def anew(self) -> Snapshot:
        made = snapshot(*self.nodes.values(), pods=tuple(self.pods.values()))
        for (kind, _), raw in self.objects.items():
            put(made, kind, read(raw))
        return made


def free_by_node(found: Snapshot) -> Any:
    attached = found.storage.attached
    return {
        (driver, name): int(attached.free(driver, len(found))[row])
        for driver in DRIVERS
        if driver and attached.limited(driver)
        for name, row in found.rows_by_name.items()
        if attached.free(driver, len(found))[row] < NO_LIMIT // 2
    }


def choices(found: Snapshot) -> Any:
    """By node, the volumes that a pod with two waiting claims would get."""
    put(found, "StorageClass", read(late()))
    for name, size in (("w0", "1Gi"), ("w1", "2Gi")):
        put(found, "PersistentVolumeClaim", read(waiting(name, size=size)))
    mounts = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("w0", "w1")]
    plugin = VolumeBinding()
    prepared = plugin.pre_filter(PodInfo.of(pod("new", volumes=mounts)), found)
    assert isinstance(prepared, Prepared)
    bits = plugin.filter(prepared, found.view())
    plans = {}
    for name, row in found.rows_by_name.items():
        plan = plugin.plan(prepared, found, row) if not bits[row] else None
        plans[name] = int(bits[row]), plan and sorted(plan.bindings)
    return plans


@settings(max_examples=300, deadline=None)
@given(st.lists(CHANGES, max_size=25))
def test_columns_kept_by_events_equal_those_counted_anew(changes: list[Any]) -> None:
    recorded = Recorded()
    for change in changes:
        recorded.apply(change)
    anew = recorded.anew()
    assert free_by_node(recorded.snapshot) == free_by_node(anew)
    assert choices(recorded.snapshot) == choices(anew)
