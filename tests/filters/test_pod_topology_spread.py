"""Spread: scores worked out by hand, and arguments that do not hold."""

import math
from typing import Any

import msgspec
import pytest

from cluster.objects.core import Pod
from cluster.state.resource_types import put
from filters.common.plugin import PodInfo
from filters.pod_topology_spread import PodTopologySpread
from tests.harness.make import labelled, node, pod, snapshot
from tests.harness.objects import read, scores

WEB: Any = {"matchLabels": {"app": "web"}}
HOST = "kubernetes.io/hostname"


def web(name: str, on: str = "", **spec: Any) -> Pod:
    return labelled(pod(name, nodeName=on, **spec), app="web")


def spread(key: str = "zone", **more: Any) -> Any:
    constraint = {
        "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": WEB,
    }  # fmt: skip
    return {"topologySpreadConstraints": [constraint | more]}


NODES = (
    node("a", labels={"zone": "1"}),
    node("b", labels={"zone": "1"}),
    node("c", labels={"zone": "2"}),
    node("d"),
)


def test_fewer_pods_in_the_zone_score_more_and_nodes_without_the_label_nothing() -> None:
    there = web("w0", "a"), web("w1", "a"), web("w2", "c")
    # Two pods × ln(2 zones + 2) in zone 1, one in zone 2: 3 and 1. 100 × (3 + 1 − raw) / 3.
    assert math.floor(2 * math.log(4) + 0.5) == 3
    assert math.floor(math.log(4) + 0.5) == 1
    assert scores("PodTopologySpread", web("p", **spread()), *NODES, pods=there) == [33, 33, 100, 0]


def test_by_hostname_each_node_counts_its_own_pods() -> None:
    there = web("w0", "a"), web("w1", "a"), web("w2", "b")
    # × ln(4 nodes + 2) = 1.79: 4, 2, 0 and 0.
    found = scores("PodTopologySpread", web("p", **spread(HOST)), *NODES, pods=there)
    assert found == [0, 50, 100, 100]


def test_the_greater_the_skew_that_is_borne_the_less_counts_matter() -> None:
    there = web("w0", "a"), web("w1", "a"), web("w2", "c")
    # Four more on both: 7 and 5. 100 × (7 + 5 − raw) / 7.
    found = scores("PodTopologySpread", web("p", **spread(maxSkew=5)), *NODES, pods=there)
    assert found == [71, 71, 100, 0]


def test_without_any_matching_pod_all_nodes_are_alike() -> None:
    found = scores("PodTopologySpread", web("p", **spread()), *NODES)
    assert found == [100, 100, 100, 0]


def test_default_constraints_hold_for_pods_of_one_service() -> None:
    args = {
        "defaultingType": "List",
        "defaultConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
    }
    plugin = PodTopologySpread.from_args(args)
    found = snapshot(*NODES, pods=(web("w", "a"),))
    assert plugin.pre_filter(PodInfo.of(web("p")), found) is None
    service = {
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}},
    }
    put(found, "Service", read(service))
    prepared = plugin.pre_filter(PodInfo.of(web("p")), found)
    assert prepared is not None
    bits = plugin.filter(prepared, found.view())
    assert (bits == 0).tolist() == [False, False, True, False]
    # A pod with constraints of its own has no defaults.
    own = PodInfo.of(web("p", **spread()))
    assert plugin.pre_filter(own, found) is None


GOOD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"defaultingType": "Other"}, "defaultingType: System or List, got Other"),
        ({"defaultConstraints": [GOOD]}, "defaultConstraints: only with defaultingType List"),
        ({"defaultingType": "List", "defaultConstraints": [GOOD | {"maxSkew": 0}]},
         r"defaultConstraints\[0\].maxSkew: at least 1, got 0"),
        ({"defaultingType": "List", "defaultConstraints": [GOOD, GOOD | {"topologyKey": ""}]},
         r"defaultConstraints\[1\].topologyKey: must not be empty"),
        ({"defaultingType": "List", "defaultConstraints": [GOOD | {"whenUnsatisfiable": "x"}]},
         "whenUnsatisfiable: DoNotSchedule or ScheduleAnyway"),
        ({"defaultingType": "List", "defaultConstraints": [GOOD | {"labelSelector": {}}]},
         "labelSelector: is worked out"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_hold_are_refused(args: Any, words: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError), match=words):
        PodTopologySpread.from_args(args)
