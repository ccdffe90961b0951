"""Every filter refuses and admits: one pod, three nodes, the nodes that are left."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.common.plugin import UNRESOLVABLE, PodInfo, Prepared
from filters.node_affinity import NodeAffinity
from filters.resources import EXACT_BELOW, NodeResourcesFit, percent
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import LABELLED, admitted, diagnosis, expression


def affinity(*expressions: Any, fields: Any = ()) -> Any:
    term = {"matchExpressions": list(expressions), "matchFields": list(fields)}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"nodeAffinity": required}


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


@pytest.mark.parametrize(
    ("operator", "value", "left"),
    [
        ("Lt", "5", ["three"]),
        ("Gt", "5", ["seven"]),
        ("Gt", "3", ["seven"]),
        ("Gt", "-1", ["three", "seven"]),
        ("Lt", "05", []),
        ("Lt", "five", []),
        ("Lt", "99999999999999999999", []),
    ],
)
def test_tolerations_compare_numbers(operator: str, value: str, left: list[str]) -> None:
    nodes = (
        node("three", taints=[taint("level", value="3")]),
        node("seven", taints=[taint("level", value="7")]),
        node("word", taints=[taint("level", value="high")]),
    )
    tolerated = [{"key": "level", "operator": operator, "value": value}]
    assert admitted(pod(tolerations=tolerated), *nodes) == left


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        # Half of cpu, a quarter of memory are in use with the pod; weights are equal.
        ([(0, 0), (100, 10)], 38),
        ([(0, 10), (100, 0)], 63),
        ([(0, 0), (50, 10), (100, 0)], 75),
        ([(60, 10)], 100),
    ],
)
def test_a_shape_scores_what_is_in_use(shape: Any, expected: int) -> None:
    points = [{"utilization": u, "score": s} for u, s in shape]
    strategy = {"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": points}}
    plugin = NodeResourcesFit.from_args({"scoringStrategy": strategy})
    found = snapshot(node("a", cpu="4", memory="8Gi"))
    state = plugin.pre_score(PodInfo.of(pod(requests={"cpu": "2", "memory": "2Gi"})), found)
    assert plugin.score(state, found.view()).tolist() == [expected]


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        ({"type": "RequestedToCapacityRatio"}, "requestedToCapacityRatio"),
        ({"type": "LeastAllocated", "requestedToCapacityRatio": {"shape": []}}, "and only then"),
        ({"type": "Other"}, "scoringStrategy.type"),
    ],
)
def test_a_strategy_that_does_not_hold_is_named(strategy: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        NodeResourcesFit.from_args({"scoringStrategy": strategy})


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
        (
            {"resourceClaims": [{"name": "gpu", "resourceClaimName": "x"}]},
            "resourceClaims (DynamicResources)",
        ),
    ],
)
def test_a_hard_constraint_without_a_plugin_is_named_never_ignored(spec: Any, named: str) -> None:
    found = diagnosis(pod(**spec), node("a"))
    assert named in found.message
    assert found.plugins == {"UnsupportedConstraints"}


def test_affinity_that_the_profile_adds_counts_beside_the_pod_s_own() -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression("pool", "In", "batch")]}]}
    preferred = [{"weight": 5, "preference": {"matchExpressions": [expression("ssd", "Exists")]}}]
    plugin = NodeAffinity.from_args(
        {
            "addedAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": required,
                "preferredDuringSchedulingIgnoredDuringExecution": preferred,
            }
        }
    )
    found = snapshot(
        node("batch", labels={"pool": "batch", "ssd": "yes"}),
        node("web", labels={"pool": "web"}),
        node("bare"),
    )
    own = PodInfo.of(pod(nodeSelector={"pool": "batch"}))
    for info, reasons in ((PodInfo.of(pod()), [2, 2]), (own, [2, 2])):
        prepared = plugin.pre_filter(info, found)
        assert isinstance(prepared, Prepared)
        assert prepared.reasons[1] == "node(s) didn't match scheduler-enforced node affinity"
        bits = (plugin.filter(prepared, found.view()) & ~np.int64(UNRESOLVABLE)).tolist()
        assert bits == [0, *reasons]
    state = plugin.pre_score(PodInfo.of(pod()), found)
    assert state is not None
    assert plugin.score(state, found.view()).tolist() == [5, 0, 0]


@settings(max_examples=2000, deadline=None)
@given(st.data())
def test_percentages_by_floating_point_are_those_of_integers(data: st.DataObject) -> None:
    """For every pair, those next to a whole number of per cent above all."""
    largest = data.draw(st.sampled_from([100, 10**6, 2**40, EXACT_BELOW - 1, 2**52]))
    whole = data.draw(st.integers(1, largest))
    share = data.draw(st.integers(0, 100))
    near = whole * share // 100 + data.draw(st.integers(-2, 2))
    part = min(max(data.draw(st.sampled_from([near, data.draw(st.integers(0, whole))])), 0), whole)
    found = np.array([float(part)])
    percent(found, np.array([float(whole)]), largest)
    assert found.tolist() == [part * 100 // whole]
