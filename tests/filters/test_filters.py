"""Every filter refuses and admits: one pod, three nodes, the nodes that are left."""

from typing import Any

import msgspec
import pytest

from cluster.objects import Node, PersistentVolume, PersistentVolumeClaim, Pod
from latency.matrix import Matrix
from scheduler.configuration import Profile
from scheduler.cycle import Cycle
from scheduler.diagnosis import Diagnosis
from scheduler.evaluation import Evaluation
from scheduler.pods import pod_info
from scheduler.profiles import Framework
from tests.make import node, pod, snapshot


def evaluate(new: Pod, *nodes: Node, **stores: Any) -> Evaluation:
    found = snapshot(*nodes)
    found.claims.update(stores.get("claims", {}))
    found.volumes.update(stores.get("volumes", {}))
    framework = Framework(Profile("gsch"), Matrix())
    return Cycle(found).evaluate(framework, pod_info(new))


def admitted(new: Pod, *nodes: Node, **stores: Any) -> list[str]:
    evaluation = evaluate(new, *nodes, **stores)
    if evaluation.rejection is not None:
        return []
    return [n.metadata.name for n, fits in zip(nodes, evaluation.feasible, strict=True) if fits]


def diagnosis(new: Pod, *nodes: Node, **stores: Any) -> Diagnosis:
    return evaluate(new, *nodes, **stores).diagnose()


def affinity(*expressions: Any, fields: Any = ()) -> Any:
    term = {"matchExpressions": list(expressions), "matchFields": list(fields)}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"nodeAffinity": required}


def expression(key: str, operator: str, *values: str) -> Any:
    return {"key": key, "operator": operator, "values": list(values)}


LABELLED = (
    node("a", labels={"zone": "1", "cores": "8"}),
    node("b", labels={"zone": "2", "cores": "16"}),
    node("c", labels={"cores": "many"}),
)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (expression("zone", "In", "1", "9"), ["a"]),
        (expression("zone", "In", "1", "2"), ["a", "b"]),
        (expression("zone", "NotIn", "1"), ["b", "c"]),
        (expression("zone", "Exists"), ["a", "b"]),
        (expression("zone", "DoesNotExist"), ["c"]),
        (expression("cores", "Gt", "8"), ["b"]),
        (expression("cores", "Lt", "16"), ["a"]),
        (expression("cores", "Gt", "x"), []),
        (expression("never-seen", "In", "1"), []),
        (expression("never-seen", "NotIn", "1"), ["a", "b", "c"]),
        (expression("never-seen", "DoesNotExist"), ["a", "b", "c"]),
    ],
)
def test_node_affinity_operators(wanted: Any, left: list[str]) -> None:
    assert admitted(pod(affinity=affinity(wanted)), *LABELLED) == left


def test_an_empty_term_matches_nothing() -> None:
    assert admitted(pod(affinity=affinity()), *LABELLED) == []


def test_node_selector_and_affinity_must_both_hold() -> None:
    new = pod(nodeSelector={"zone": "1"}, affinity=affinity(expression("zone", "Exists")))
    assert admitted(new, *LABELLED) == ["a"]


def test_metadata_name_leaves_the_named_nodes_only() -> None:
    named = [expression("metadata.name", "In", "b")]
    assert admitted(pod(affinity=affinity(fields=named)), *LABELLED) == ["b"]
    found = diagnosis(pod(requests={"cpu": "99"}, affinity=affinity(fields=named)), *LABELLED)
    assert found.message == (
        "0/3 nodes are available: 1 Insufficient cpu, "
        "2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    )


def taint(key: str, effect: str = "NoSchedule", value: str = "") -> Any:
    return {"key": key, "value": value, "effect": effect}


def test_a_pod_that_names_its_node_goes_there_or_nowhere() -> None:
    assert admitted(pod(nodeName="b"), *LABELLED) == ["b"]
    found = diagnosis(pod(nodeName="ghost"), *LABELLED)
    assert found.message == (
        "0/3 nodes are available: 3 node(s) didn't match the requested node name."
    )


TAINTED = (
    node("plain"),
    node("one", taints=[taint("k", value="v")]),
    node("two", taints=[taint("k", value="v"), taint("x", "NoExecute")]),
    node("soft", taints=[taint("k", "PreferNoSchedule")]),
)


@pytest.mark.parametrize(
    ("tolerations", "left"),
    [
        ([], ["plain", "soft"]),
        ([{"key": "k", "operator": "Equal", "value": "v"}], ["plain", "one", "soft"]),
        ([{"key": "k", "value": "other"}], ["plain", "soft"]),
        ([{"key": "k", "operator": "Exists", "effect": "NoExecute"}], ["plain", "soft"]),
        ([{"operator": "Exists"}], ["plain", "one", "two", "soft"]),
        ([{"key": "k", "operator": "Exists"}, {"key": "x", "operator": "Exists"}],
         ["plain", "one", "two", "soft"]),
    ],
)  # fmt: skip
def test_taints(tolerations: Any, left: list[str]) -> None:
    assert admitted(pod(tolerations=tolerations), *TAINTED) == left


def test_a_cordoned_node_takes_only_pods_that_tolerate_it() -> None:
    nodes = (node("up"), node("cordoned", unschedulable=True))
    assert admitted(pod(), *nodes) == ["up"]
    key = "node.kubernetes.io/unschedulable"
    assert admitted(pod(tolerations=[{"key": key, "operator": "Exists"}]), *nodes) == [
        "up",
        "cordoned",
    ]


@pytest.mark.parametrize(
    ("requests", "left"),
    [
        ({"cpu": "4"}, ["small", "large"]),
        ({"cpu": "4001m"}, ["large"]),
        ({"memory": "8Gi"}, ["small", "large"]),
        ({"memory": "8193Mi"}, ["large"]),
        ({"ephemeral-storage": "101Gi"}, []),
        ({"nvidia.com/gpu": "1"}, ["large"]),
        ({"nvidia.com/gpu": "3"}, []),
        ({"hugepages-2Mi": "4Mi"}, ["large"]),
        ({"never.seen/before": "1"}, []),
        ({"cpu": "0"}, ["small", "large"]),
    ],
)
def test_resources(requests: dict[str, str], left: list[str]) -> None:
    more = {"nvidia.com__gpu": "2", "hugepages-2Mi": "4Mi"}
    large = node("large", cpu="8", memory="16Gi", **more)
    assert admitted(pod(requests=requests), node("small"), large) == left


def test_resources_give_every_reason_of_a_node_and_pods_come_in_their_place() -> None:
    found = diagnosis(pod(requests={"cpu": "9", "memory": "9Gi"}), node("a", pods="0"), node("b"))
    assert found.message == (
        "0/2 nodes are available: 1 Too many pods, 2 Insufficient cpu, 2 Insufficient memory."
    )


def test_reasons_are_sorted_as_strings_count_included() -> None:
    nodes = [node(f"n{i}") for i in range(10)] + [
        node(f"t{i}", taints=[taint("k")]) for i in (1, 2)
    ]
    found = diagnosis(pod(requests={"cpu": "9"}), *nodes)
    assert found.message == (
        "0/12 nodes are available: 10 Insufficient cpu, 2 node(s) had untolerated taint(s)."
    )


def test_no_nodes_at_all() -> None:
    assert diagnosis(pod()).message == "no nodes available to schedule pods"


HARD = [{"labelSelector": {}, "topologyKey": "zone"}]


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]},
         "hostPort (NodePorts)"),
        ({"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]},
         "PodTopologySpread"),
        ({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": HARD}}},
         "required podAffinity (InterPodAffinity)"),
        ({"affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": HARD}}},
         "required podAntiAffinity (InterPodAffinity)"),
        ({"resourceClaims": [{"name": "gpu", "resourceClaimName": "x"}]},
         "resourceClaims (DynamicResources)"),
        ({"schedulingGroup": {"podGroupName": "g"}}, "schedulingGroup (GangScheduling)"),
        ({"volumes": [{"name": "v", "rbd": {"image": "i"}}]}, "VolumeRestrictions"),
    ],
)  # fmt: skip
def test_a_hard_constraint_without_a_plugin_is_named_never_ignored(spec: Any, named: str) -> None:
    found = diagnosis(pod(**spec), node("a"))
    assert named in found.message
    assert found.plugins == {"UnsupportedConstraints"}


@pytest.mark.parametrize(
    "spec",
    [
        {"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]},
        {"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}},
        {"volumes": [{"name": "v", "emptyDir": {}}]},
    ],
)  # fmt: skip
def test_soft_constraints_do_not_keep_a_pod_pending(spec: Any) -> None:
    assert admitted(pod(**spec), node("a")) == ["a"]


def claim(phase: str = "Bound", **fields: Any) -> PersistentVolumeClaim:
    spec = {"volumeName": "pv", "accessModes": ["ReadWriteOnce"]} | fields.get("spec", {})
    raw = {
        "metadata": {"name": "data", "namespace": "default", **fields.get("metadata", {})},
        "spec": spec,
        "status": {"phase": phase},
    }
    return msgspec.convert(raw, PersistentVolumeClaim)


def volume(**spec: Any) -> PersistentVolume:
    raw = {"metadata": {"name": "pv", **spec.pop("metadata", {})}, "spec": spec}
    return msgspec.json.decode(msgspec.json.encode(raw), type=PersistentVolume)


MOUNTS: Any = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}
IN_ZONE_2 = {
    "required": {"nodeSelectorTerms": [{"matchExpressions": [expression("zone", "In", "2")]}]}
}


@pytest.mark.parametrize(
    ("claims", "volumes", "message"),
    [
        (None, volume(), 'persistentvolumeclaim "data" not found'),
        (claim("Pending", spec={"volumeName": ""}), volume(),
         "pod has unbound immediate PersistentVolumeClaims"),
        (claim("Lost"), volume(),
         'persistentvolumeclaim "data" bound to non-existent persistentvolume "pv"'),
        (claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), volume(),
         'persistentvolumeclaim "data" is being deleted'),
        (claim(spec={"accessModes": ["ReadWriteOncePod"]}), volume(), "VolumeRestrictions"),
        (claim(), volume(csi={"driver": "d"}), "NodeVolumeLimits"),
        (claim(), volume(metadata={"labels": {"topology.kubernetes.io/zone": "1"}}), "VolumeZone"),
    ],
)  # fmt: skip
def test_claims_that_keep_a_pod_pending(claims: Any, volumes: Any, message: str) -> None:
    stores = {
        "claims": {"default/data": claims} if claims else {},
        "volumes": {"/pv": volumes},
    }
    assert message in diagnosis(pod(**MOUNTS), *LABELLED, **stores).message


def test_an_ephemeral_volume_s_claim_must_be_the_pod_s_own() -> None:
    ephemeral = {"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]}
    for owner, left in (("uid-pod", ["a", "b", "c"]), ("another", [])):
        references = [{"uid": owner, "controller": True}]
        made = claim(metadata={"name": "pod-v", "ownerReferences": references})
        stores: Any = {"claims": {"default/pod-v": made}, "volumes": {"/pv": volume()}}
        spec: Any = ephemeral
        assert admitted(pod(**spec), *LABELLED, **stores) == left


def test_a_bound_claim_leaves_the_nodes_that_its_volume_can_reach() -> None:
    stores = {"claims": {"default/data": claim()}, "volumes": {"/pv": volume()}}
    assert admitted(pod(**MOUNTS), *LABELLED, **stores) == ["a", "b", "c"]
    stores["volumes"] = {"/pv": volume(nodeAffinity=IN_ZONE_2)}
    assert admitted(pod(**MOUNTS), *LABELLED, **stores) == ["b"]
    found = diagnosis(pod(**MOUNTS), LABELLED[0], **stores)
    assert found.message == (
        "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity."
    )
