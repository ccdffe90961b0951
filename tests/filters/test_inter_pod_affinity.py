"""Affinity between pods: whom it means, how preferences score, and what removals change."""

from typing import Any

import numpy as np
import pytest

from cluster.objects.core import Pod
from cluster.state.resource_types import put
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from filters.inter_pod_affinity import InterPodAffinity
from scheduler.preemption.removal import AllBelow
from tests.harness.make import labelled, node, pod, snapshot
from tests.harness.objects import read

WEB: Any = {"matchLabels": {"app": "web"}}
NODES = (
    node("a", labels={"zone": "1"}),
    node("b", labels={"zone": "2"}),
    node("c"),
)


def term(**more: Any) -> Any:
    return {"topologyKey": "zone", "labelSelector": WEB} | more


def required(kind: str, **more: Any) -> Any:
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term(**more)]}}}


def preferred(kind: str, weight: int, **more: Any) -> Any:
    weighted = [{"weight": weight, "podAffinityTerm": term(**more)}]
    return {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}}


def web(name: str, on: str = "", namespace: str = "default", **spec: Any) -> Pod:
    return labelled(pod(name, namespace=namespace, nodeName=on, **spec), app="web")


def raw(args: Any, new: Pod, *there: Pod) -> list[int] | None:
    """Raw scores of the three nodes; None where there is nothing to say."""
    plugin, found = InterPodAffinity.from_args(args), snapshot(*NODES, pods=there)
    state = plugin.pre_score(PodInfo.of(new), found)
    if state is None:
        return None
    values: list[int] = plugin.score(state, found.view()).tolist()
    return values


@pytest.mark.parametrize(
    ("args", "new", "there", "expected"),
    [
        ({}, pod("p", **preferred("podAffinity", 30)), [web("w", "a"), web("v", "a")],
         [60, 0, 0]),
        ({}, pod("p", **preferred("podAntiAffinity", 30)), [web("w", "a")], [-30, 0, 0]),
        # What running pods prefer counts too.
        ({}, web("p"), [pod("w", nodeName="b", **preferred("podAffinity", 7))], [0, 7, 0]),
        ({}, web("p"), [pod("w", nodeName="b", **preferred("podAntiAffinity", 7))], [0, -7, 0]),
        # What they require counts as a preference of the incoming pod's, of weight 1.
        ({}, web("p"), [pod("w", nodeName="b", **required("podAffinity"))], [0, 1, 0]),
        ({"hardPodAffinityWeight": 50}, web("p"),
         [pod("w", nodeName="b", **required("podAffinity"))], [0, 50, 0]),
        ({"hardPodAffinityWeight": 0}, web("p"),
         [pod("w", nodeName="b", **required("podAffinity"))], None),
        ({"ignorePreferredTermsOfExistingPods": True}, web("p"),
         [pod("w", nodeName="b", **preferred("podAffinity", 7))], None),
        ({}, pod("p"), [web("w", "a")], None),
    ],
)  # fmt: skip
def test_preferences_of_both_sides_add_up(
    args: Any, new: Pod, there: list[Pod], expected: Any
) -> None:
    assert raw(args, new, *there) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], []), ([5, 5], [0, 0]), ([-30, 0, 60], [0, 33, 100]), ([1, 2], [0, 100])],
)
def test_the_least_becomes_0_and_the_most_100(values: list[int], expected: list[int]) -> None:
    found = InterPodAffinity().normalize(np.array(values, np.int64))
    assert found.tolist() == expected


@pytest.mark.parametrize("weight", [-1, 101])
def test_a_weight_beyond_its_range_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match=r"hardPodAffinityWeight: 0\.\.100"):
        InterPodAffinity.from_args({"hardPodAffinityWeight": weight})


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({}, []),
        ({"namespaces": ["bank"]}, ["a"]),
        ({"namespaceSelector": {}}, ["a"]),
        ({"namespaceSelector": {"matchLabels": {"money": "yes"}}}, ["a"]),
        ({"namespaceSelector": {"matchLabels": {"money": "no"}}}, []),
        ({"namespaces": ["bank"], "namespaceSelector": {"matchLabels": {"money": "no"}}}, ["a"]),
    ],
)
def test_pods_of_other_namespaces_are_meant_by_name_or_by_label(more: Any, left: Any) -> None:
    found = snapshot(*NODES, pods=(web("w", "a", namespace="bank"),))
    bank = {"kind": "Namespace", "metadata": {"name": "bank", "labels": {"money": "yes"}}}
    put(found, "Namespace", read(bank))
    plugin = InterPodAffinity()
    prepared = plugin.pre_filter(PodInfo.of(pod("p", **required("podAffinity", **more))), found)
    assert prepared is not None
    bits = plugin.filter(prepared, found.view())
    assert [n.metadata.name for n, b in zip(NODES, bits, strict=True) if b == 0] == left


def without(new: Pod, found: Snapshot) -> list[bool]:
    """Which nodes fit with all pods below priority 5 gone, each node by itself."""
    plugin = InterPodAffinity()
    prepared = plugin.pre_filter(PodInfo.of(new), found)
    assert prepared is not None
    removed = AllBelow(found, np.arange(len(found)), 5)
    return [bool(bit == 0) for bit in plugin.filter_without(prepared, found.view(), removed)]


def test_without_lesser_pods_their_anti_affinity_is_gone_and_so_is_whom_it_wants() -> None:
    low, high = web("low", "a", priority=1), web("high", "b", priority=9)
    found = snapshot(*NODES, pods=(low, high))
    assert without(pod("p", **required("podAntiAffinity")), found) == [True, False, True]
    assert without(pod("p", **required("podAffinity")), found) == [False, True, False]
    keeps = pod("keeps", nodeName="a", priority=1, **required("podAntiAffinity"))
    assert without(web("p"), snapshot(*NODES, pods=(keeps,))) == [True, True, True]


def test_the_first_of_its_kind_fits_where_the_last_other_one_goes() -> None:
    """A pod that its own terms mean may go anywhere with the label, once no other is left."""
    found = snapshot(*NODES, pods=(web("low", "a", priority=1),))
    assert without(web("p", **required("podAffinity")), found) == [True, False, False]


def test_a_label_that_no_node_has_fits_nowhere() -> None:
    found = snapshot(*NODES, pods=(web("w", "a"),))
    new = pod("p", **required("podAffinity", topologyKey="rack"))
    assert without(new, found) == [False, False, False]
    apart = pod("p", **required("podAntiAffinity", topologyKey="rack"))
    assert without(apart, found) == [True, True, True]
