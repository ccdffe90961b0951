"""Columns of volumes that are kept by events equal those that are counted anew."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.state.attached_volumes import NO_LIMIT
from cluster.state.resource_types import RESOURCES, key_of, put
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo, Prepared
from filters.volume_binding import VolumeBinding
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from tests.harness.make import Json, node, pod, snapshot
from tests.harness.objects import read
from tests.harness.volumes import (
    claim,
    late,
    mounting,
    on_node,
    volume,
    waiting,
)

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
    cluster_state = snapshot(node("a"), node("b"))
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
        put(cluster_state, raw["kind"], read(raw))
    new = pod_info(pod("new", **mounting("c3")))
    kept = Framework(Profile("gsch"), Matrix())
    for name, row, key in steps:
        if f"default/{name}" in cluster_state.pods:
            cluster_state.remove_pod(f"default/{name}")
        else:
            cluster_state.set_pod(pod(name, nodeName="ab"[row], **mounting(key)))
        fresh = Framework(Profile("gsch"), Matrix())
        answers = [Cycle(cluster_state).trial(f, new).feasible.tolist() for f in (kept, fresh)]
        assert answers[0] == answers[1]


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


def free_by_node(cluster_state: Snapshot) -> Any:
    attached = cluster_state.storage.attached
    return {
        (driver, name): int(attached.free(driver, len(cluster_state))[row])
        for driver in DRIVERS
        if driver and attached.limited(driver)
        for name, row in cluster_state.rows_by_name.items()
        if attached.free(driver, len(cluster_state))[row] < NO_LIMIT // 2
    }


def choices(cluster_state: Snapshot) -> Any:
    """By node, the volumes that a pod with two waiting claims would get."""
    put(cluster_state, "StorageClass", read(late()))
    for name, size in (("w0", "1Gi"), ("w1", "2Gi")):
        put(cluster_state, "PersistentVolumeClaim", read(waiting(name, size=size)))
    mounts = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("w0", "w1")]
    plugin = VolumeBinding()
    prepared = plugin.pre_filter(PodInfo.of(pod("new", volumes=mounts)), cluster_state)
    assert isinstance(prepared, Prepared)
    bits = plugin.filter(prepared, cluster_state.view())
    plans = {}
    for name, row in cluster_state.rows_by_name.items():
        plan = plugin.plan(prepared, cluster_state, row) if not bits[row] else None
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
