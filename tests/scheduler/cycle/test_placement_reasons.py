"""What is said of a pod that got a node."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster.objects.core import Node
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.placement_reasons import latency_warning, why, why_in_short
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.cycle.trial import Trial
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import row_of

ZONE = "topology.kubernetes.io/zone"


def config(**option: Any) -> str:
    return json.dumps({"priority": "GLowLatencyPriority", "option": option})


Said = Callable[[Framework, PodInfo, Trial, Snapshot, int], str]


def said(what: Said, new: Any, *nodes: Node, at: str, pairs: Any = ()) -> str:
    """What is said of the pod on the node `at`."""
    matrix = Matrix()
    matrix.replace(Readings.of([Pair(*pair) for pair in pairs]))
    found = snapshot(*nodes)
    framework = Framework(Profile("gsch"), matrix)
    info = pod_info(new)
    trial = Cycle(found).trial(framework, info)
    return what(framework, info, trial, found, row_of(found, at))


def note(new: Any, *nodes: Node, at: str, pairs: Any = ()) -> str:
    """What the owner of the pod is warned of."""

    def told(framework: Framework, info: PodInfo, _: Trial, found: Snapshot, row: int) -> str:
        return latency_warning(framework, info, found, row)

    return said(told, new, *nodes, at=at, pairs=pairs)


def test_one_node_of_several_is_named_by_its_scores() -> None:
    nodes = node("a"), node("full", cpu="1"), node("c")
    new = pod(requests={"cpu": "2", "memory": "4Gi"})
    text = said(why, new, *nodes, at="c")
    head, _, scores = text.partition("; ")
    assert head == "1 of 2 nodes that fit"
    # Two of four cores, four of eight GiB: half of both is left.
    assert "NodeResourcesFit 50" in scores.split(", ")
    assert said(why_in_short, new, *nodes, at="c") == "1 of 2 nodes that fit"


def test_the_only_node_that_fits_is_called_so() -> None:
    text = said(why_in_short, pod(requests={"cpu": "2"}), node("a"), node("b", cpu="1"), at="a")
    assert text == "the only node that fits"


def test_a_pod_near_its_source_is_told_how_near() -> None:
    new = pod(config=config(sourceNode="a"))
    nodes, pairs = (node("a", unschedulable=True), node("b"), node("c")), [("a", "b", 1.23456)]
    text = "1.235 ms from its source, the nearest: 1 of 2 nodes that fit"
    assert said(why, new, *nodes, at="b", pairs=pairs) == text
    # Of a node that nobody measured there is no time to tell.
    assert said(why_in_short, new, *nodes, at="c", pairs=pairs) == "1 of 2 nodes that fit"


def test_with_weights_nearness_is_one_score_among_others() -> None:
    new = pod(config=config(sourceNode="a", weights={"latency": 50, "packing": 50}))
    text = said(why, new, node("a"), node("b"), at="b", pairs=[("a", "b", 2.0)])
    assert text.startswith("2 ms from its source: 1 of 2 nodes that fit; ")


@pytest.mark.parametrize(
    ("labels", "pairs", "warning"),
    [
        ({}, [("a", "b", 2.0)], ""),
        ({}, [], "no fresh round-trip time is known from a to any node that fits: placed by the "
                 "other scores"),
        ({ZONE: "z"}, [], "no fresh round-trip time is known from a to any node that fits: placed "
                          "by zone and region labels"),
        ({ZONE: "z"}, [("a", "c", 2.0)], "no fresh round-trip time is known from a to b: went by "
                                         "what its zone or region measures"),
    ],
    ids=["measured", "nothing", "labels", "zone"],
)  # fmt: skip
def test_a_pod_that_was_placed_by_what_nobody_measured_is_told(
    labels: Any, pairs: Any, warning: str
) -> None:
    nodes = [node(name, labels=labels) for name in ("a", "b", "c")]
    new = pod(config=config(sourceNode="a"))
    assert note(new, *nodes, at="b", pairs=pairs) == warning


def test_a_pod_with_no_wish_for_nearness_gets_no_note() -> None:
    assert note(pod(), node("a"), at="a") == ""
