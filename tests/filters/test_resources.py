"""Arguments of NodeResourcesFit, and scores worked out by hand."""

from typing import Any

import pytest

from filters.common.plugin import PodInfo
from filters.resources import NodeResourcesFit
from tests.harness.make import node, pod, snapshot


def ratio(*points: tuple[int, int]) -> Any:
    shape = [{"utilization": u, "score": s} for u, s in points]
    return {"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": shape}}


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (ratio(), "shape: at least one point"),
        (ratio((101, 0)), r"shape\[0\].utilization: 0..100, got 101"),
        (ratio((0, 0), (10, 11)), r"shape\[1\].score: 0..10, got 11"),
        (ratio((10, 0), (10, 5)), r"shape\[1\].utilization: above that of the point before"),
        ({"type": "LeastAllocated", "resources": []}, "resources"),
        ({"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 0}]}, "weight"),
        ({"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 101}]}, "weight"),
    ],
)
def test_a_strategy_that_does_not_hold_is_refused_with_its_place(strategy: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NodeResourcesFit.from_args({"scoringStrategy": strategy})


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        # With the pod half of cpu and a quarter of memory are in use; cpu counts three times.
        ({"type": "LeastAllocated"}, (3 * 50 + 75) // 4),
        ({"type": "MostAllocated"}, (3 * 50 + 25) // 4),
    ],
)
def test_resources_count_by_their_weights(strategy: Any, expected: int) -> None:
    weighed = [{"name": "cpu", "weight": 3}, {"name": "memory", "weight": 1}]
    plugin = NodeResourcesFit.from_args({"scoringStrategy": strategy | {"resources": weighed}})
    found = snapshot(node("a", cpu="4", memory="8Gi"))
    info = PodInfo.of(pod(requests={"cpu": "2", "memory": "2Gi"}))
    state = plugin.pre_score(info, found)
    assert plugin.score(state, found.view()).tolist() == [expected]


def test_a_resource_that_a_node_lacks_does_not_count_there() -> None:
    weighed = [{"name": "cpu", "weight": 1}, {"name": "x/y", "weight": 1}]
    strategy = {"type": "MostAllocated", "resources": weighed}
    plugin = NodeResourcesFit.from_args({"scoringStrategy": strategy})
    found = snapshot(node("a", x__y="4"), node("b"))
    state = plugin.pre_score(PodInfo.of(pod(requests={"cpu": "1", "x/y": "3"})), found)
    # (25 + 75) / 2, and 25 alone.
    assert plugin.score(state, found.view()).tolist() == [50, 25]
