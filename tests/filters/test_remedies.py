"""What would have to change for a node to take a pod, as `gsch explain` tells it."""

from typing import Any

import pytest

from cluster.objects.core import Pod
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.offline.explain import explain
from tests.harness.make import labelled, node, pod, snapshot
from tests.harness.objects import expression

WEB: Any = {"matchLabels": {"app": "web"}}


def required(kind: str, **term: Any) -> Any:
    terms = [{"topologyKey": "zone", "labelSelector": WEB} | term]
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def changes(new: Pod, *there: Pod) -> dict[str, list[str]]:
    nodes = node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}), node("c")
    found = explain(new, snapshot(*nodes, pods=there), Configuration(seed=1), Matrix())
    return {verdict.node: verdict.changes for verdict in found.nodes}


def web(name: str, on: str, **spec: Any) -> Pod:
    return labelled(pod(name, nodeName=on, **spec), app="web")


def test_a_pod_that_wants_others_needs_one_beside_it() -> None:
    found = changes(pod("p", **required("podAffinity")), web("w", "a"))
    assert found == {
        "a": [],
        "b": ["a pod that the affinity wants under the same zone"],
        "c": ["label zone on the node"],
    }


def test_a_pod_that_keeps_away_needs_others_gone() -> None:
    found = changes(pod("p", **required("podAntiAffinity")), web("w", "a"))
    gone = "no pod under the same zone that the pod's anti-affinity keeps apart"
    assert found == {"a": [gone], "b": [], "c": []}


def test_a_pod_that_others_keep_away_needs_those_gone() -> None:
    found = changes(web("p", ""), pod("w", nodeName="a", **required("podAntiAffinity")))
    gone = "no pod under the same zone that running pods' anti-affinity keeps apart"
    assert found == {"a": [gone], "b": [], "c": []}


def test_a_spread_pod_needs_fewer_of_its_kind_or_the_label() -> None:
    constraint = {
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": WEB,
    }  # fmt: skip
    new = labelled(pod("p", topologySpreadConstraints=[constraint]), app="web")
    assert changes(new, web("w", "a")) == {
        "a": ["fewer pods that the constraint counts where zone=1"],
        "b": [],
        "c": ["label zone on the node"],
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"nodeSelector": {"zone": "2"}},
         {"a": ["label zone=2 on the node (it has 1)"], "b": [],
          "c": ["label zone=2 on the node (it has none)"]}),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [expression("zone", "In", "1")]}]}}}},
         {"a": [], "b": ["a node that the required node affinity matches"],
          "c": ["a node that the required node affinity matches"]}),
    ],
)  # fmt: skip
def test_a_pod_that_asks_for_labels_needs_them(spec: Any, expected: Any) -> None:
    assert changes(pod("p", **spec)) == expected
