"""Each filter refuses and admits, through a real API server, in kube-scheduler's own words."""

from typing import Any

import pytest

from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch

pytestmark = pytest.mark.usefixtures("scheduler")


def required(*expressions: Json) -> Json:
    term = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}


def named(*names: str) -> Json:
    fields = [{"key": "metadata.name", "operator": "In", "values": list(names)}]
    term = {"nodeSelectorTerms": [{"matchFields": fields}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}


def init(cpu: str, always: bool = False) -> Json:
    container: Json = {
        "name": "init", "image": "registry.example/i:1", "resources": {"requests": {"cpu": cpu}},
    }  # fmt: skip
    return container | ({"restartPolicy": "Always"} if always else {})


GPU_TAINT = [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
GPUS: Any = {"nvidia.com__gpu": "2", "hugepages-2Mi": "64Mi"}
NODES = (
    node_json("small", cpu="2", memory="4Gi", labels={"zone": "a", "cores": "2"}),
    node_json("large", cpu="16", memory="64Gi", labels={"zone": "b", "cores": "16"}),
    node_json("gpu", cpu="8", memory="32Gi", labels={"zone": "b"}, taints=GPU_TAINT,
              **GPUS),
    node_json("cordoned", cpu="32", memory="64Gi", unschedulable=True, labels={"zone": "c"}),
    node_json("full", pods="0", cpu="2", labels={"zone": "d"}),
)  # fmt: skip
TOLERATES = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
CORDON = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}

# What the pod asks for, the nodes that may take it (none: it stays Pending), and the reasons.
CASES: dict[str, tuple[Json, set[str], str]] = {
    "anything": ({}, {"small", "large"}, ""),
    "nodeSelector": ({"nodeSelector": {"zone": "a"}}, {"small"}, ""),
    "nodeSelector that nothing has": (
        {"nodeSelector": {"zone": "z"}}, set(),
        "1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "3 node(s) didn't match Pod's node affinity/selector",
    ),
    "affinity In": (
        {"affinity": required({"key": "zone", "operator": "In", "values": ["a", "z"]})},
        {"small"}, "",
    ),
    "affinity Gt": (
        {"affinity": required({"key": "cores", "operator": "Gt", "values": ["2"]})}, {"large"}, "",
    ),
    "affinity NotIn": (
        {"affinity": required({"key": "zone", "operator": "NotIn", "values": ["a", "d"]})},
        {"large"}, "",
    ),
    "affinity to a node by name": ({"affinity": named("large")}, {"large"}, ""),
    "affinity to a node that is not there": (
        {"affinity": named("ghost")}, set(), "5 node(s) didn't satisfy plugin(s) [NodeAffinity]",
    ),
    "affinity to one node, too big": (
        {"affinity": named("small"), "requests": {"cpu": "3"}}, set(),
        "1 Insufficient cpu, 4 node(s) didn't satisfy plugin(s) [NodeAffinity]",
    ),
    "a toleration": ({**TOLERATES, "nodeSelector": {"zone": "b"}}, {"large", "gpu"}, ""),
    "tolerating a cordon": (
        {"tolerations": [CORDON], "nodeSelector": {"zone": "c"}}, {"cordoned"}, "",
    ),
    "gpu": ({**TOLERATES, "requests": {"nvidia.com/gpu": "2"}}, {"gpu"}, ""),
    "gpu without the toleration": (
        {"requests": {"nvidia.com/gpu": "1"}}, set(),
        "1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "3 Insufficient nvidia.com/gpu",
    ),
    "too many gpus": (
        {**TOLERATES, "requests": {"nvidia.com/gpu": "3"}}, set(),
        "1 Too many pods, 1 node(s) were unschedulable, 4 Insufficient nvidia.com/gpu",
    ),
    "cpu": ({"requests": {"cpu": "3"}}, {"large"}, ""),
    "cpu and memory": (
        {"requests": {"cpu": "17", "memory": "65Gi"}}, set(),
        "1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "3 Insufficient cpu, 3 Insufficient memory",
    ),
    "ephemeral storage": (
        {"requests": {"ephemeral-storage": "101Gi"}}, set(),
        "1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "3 Insufficient ephemeral-storage",
    ),
    "hugepages": (
        {**TOLERATES, "requests": {"hugepages-2Mi": "32Mi", "cpu": "1"}}, {"gpu"}, "",
    ),
    "the pod count": (
        {"nodeSelector": {"zone": "d"}}, set(),
        "1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, "
        "2 node(s) didn't match Pod's node affinity/selector",
    ),
    "an init container": (
        {"requests": {"cpu": "1"}, "initContainers": [init("3")]}, {"large"}, "",
    ),
    "a sidecar": (
        {"requests": {"cpu": "1"}, "initContainers": [init("1500m", always=True)]},
        {"large"}, "",
    ),
    "pod-level resources": (
        {"requests": {"cpu": "1"}, "resources": {"requests": {"cpu": "3"}}}, {"large"}, "",
    ),
    "a claim that is not there": (
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "missing"}}]}, set(),
        'persistentvolumeclaim "missing" not found',
    ),
    "a resource claim, which nothing here understands": (
        {"resourceClaims": [{"name": "gpu", "resourceClaimName": "missing"}]}, set(),
        "pod asks for what no plugin here understands: resourceClaims (DynamicResources)",
    ),
    "a host port": (
        {"containers": [{"name": "main", "image": "registry.example/i:1",
                         "ports": [{"containerPort": 80, "hostPort": 80}]}],
         "nodeSelector": {"zone": "a"}}, {"small"}, "",
    ),
}  # fmt: skip


def test_every_case(kube: Kube, namespace: str, make_nodes: MakeNodes) -> None:
    make_nodes(*NODES)
    # The refusals first: what is admitted below must not take part in their reasons.
    order = sorted(CASES, key=lambda case: bool(CASES[case][1]))
    for number, case in enumerate(order):
        spec, wanted, reasons = CASES[case]
        name = f"case-{number}"
        fields: dict[str, Any] = dict(spec)
        kube.create(pod_json(name, namespace=namespace, **fields))
        if wanted:
            assert kube.node_of(namespace, name) in wanted, case
        else:
            condition = kube.refusal(namespace, name)
            # A pod that is rejected as a whole gets another sentence, as with kube-scheduler.
            rest = " no new claims to deallocate, "
            for word, sentence in (("not found", " not found"), ("understands", "")):
                rest = sentence if word in reasons else rest
            beginning = f"0/5 nodes are available: {reasons}.{rest}"
            assert condition["message"].startswith(beginning), case
            assert condition["reason"] == "Unschedulable"
            assert condition["observedGeneration"] == 1


def test_the_event_carries_the_condition_s_text(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("only", cpu="1"))
    kube.create(pod_json("p", {"cpu": "2"}, namespace=namespace))
    condition = kube.refusal(namespace, "p")
    event: Json = wait_for(lambda: kube.events(namespace, "p"))[0]
    assert (
        event["note"]
        == condition["message"]
        == (
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
            "0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
    )
    assert (event["type"], event["reason"], event["action"]) == (
        "Warning", "FailedScheduling", "Scheduling",
    )  # fmt: skip
    assert event["reportingController"] == "gsch"
    assert event["metadata"]["name"].startswith("p.")


def test_no_nodes_at_all(kube: Kube, namespace: str) -> None:
    kube.create(pod_json("p", namespace=namespace))
    assert kube.refusal(namespace, "p")["message"] == "no nodes available to schedule pods"


def test_a_placed_pod_has_one_scheduled_event(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("only"))
    kube.create(pod_json("p", namespace=namespace))
    assert kube.node_of(namespace, "p") == "only"
    event: Json = wait_for(lambda: kube.events(namespace, "p"))[0]
    assert event["note"] == f"Successfully assigned {namespace}/p to only"
    assert (event["type"], event["reason"], event["action"]) == ("Normal", "Scheduled", "Binding")


def _claim(namespace: str, volume: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": volume,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def _volume(name: str, zone: str) -> Json:
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "hostPath": {"path": "/data"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }


def test_a_claim_is_awaited_bound_and_then_decides_the_zone(
    kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("a", labels={"zone": "a"}), node_json("b", labels={"zone": "b"}))
    mounts = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    kube.create(pod_json("p", namespace=namespace, volumes=mounts))
    message = kube.refusal(namespace, "p")["message"]
    assert message == '0/2 nodes are available: persistentvolumeclaim "data" not found. not found'
    volume = f"pv-{namespace}"
    kube.create(_claim(namespace, volume))
    unbound = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    wait_for(lambda: kube.refusal(namespace, "p")["message"] == f"{unbound} not found")
    # The volume appears, the controller binds the claim, and that event brings the pod back.
    kube.create(_volume(volume, "b"))
    assert kube.node_of(namespace, "p", 40) == "b"
    kube.delete(f"/api/v1/persistentvolumes/{volume}")


@pytest.mark.parametrize(
    ("change", "spec"),
    [
        ("a node arrives", {"requests": {"cpu": "8"}}),
        ("a node grows", {"requests": {"cpu": "3"}}),
        ("a label appears", {"nodeSelector": {"new": "label"}}),
        ("a cordon is lifted", {"requests": {"cpu": "1"}, "nodeSelector": {"zone": "c"}}),
        ("a pod goes", {"requests": {"cpu": "2"}}),
    ],
)
def test_a_refused_pod_comes_back_on_the_event_that_helps(
    change: str, spec: Json, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(
        node_json("n", cpu="2"), node_json("c", cpu="1", unschedulable=True, labels={"zone": "c"})
    )
    if change == "a pod goes":
        kube.create(pod_json("first", {"cpu": "1"}, namespace=namespace))
        assert kube.node_of(namespace, "first") == "n"
    kube.create(pod_json("p", namespace=namespace, **spec))
    kube.refusal(namespace, "p")
    match change:
        case "a node arrives":
            kube.create(node_json("big", cpu="16"))
        case "a node grows":
            more = {"cpu": "4", "memory": "8Gi", "pods": "110"}
            kube.patch("/api/v1/nodes/n/status", {"status": {"allocatable": more}})
        case "a label appears":
            kube.patch("/api/v1/nodes/n", {"metadata": {"labels": {"new": "label"}}})
        case "a cordon is lifted":
            kube.patch("/api/v1/nodes/c", {"spec": {"unschedulable": False, "taints": None}})
        case "a pod goes":
            kube.delete(f"/api/v1/namespaces/{namespace}/pods/first")
    assert kube.node_of(namespace, "p", 15)


def test_a_gated_pod_waits_for_its_gate(
    kube: Kube, namespace: str, make_nodes: MakeNodes, scheduler: Gsch
) -> None:
    make_nodes(node_json("n"))
    kube.create(pod_json("p", namespace=namespace, schedulingGates=[{"name": "example.com/wait"}]))
    wait_for(lambda: scheduler.metric("scheduler_pending_pods", queue="gated") == 1)
    assert kube.refusal(namespace, "p")["reason"] == "SchedulingGated"
    assert kube.events(namespace, "p") == []
    kube.patch(f"/api/v1/namespaces/{namespace}/pods/p", {"spec": {"schedulingGates": []}})
    assert kube.node_of(namespace, "p") == "n"
