"""Nodes whose resources are used more evenly are preferred (upstream's formula)."""

from typing import Any

import numpy as np
import pytest

from cluster.state.snapshot import Snapshot
from filters.balanced_allocation import NodeResourcesBalancedAllocation
from filters.common.plugin import PodInfo
from tests.harness.make import node, pod, snapshot

GPU = "nvidia.com/gpu"
THREE = {"resources": [{"name": name, "weight": 1} for name in ("cpu", "memory", GPU)]}


def scores(
    args: Any, found: Snapshot, requests: dict[str, str], rows: list[int] | None = None
) -> list[int]:
    plugin = NodeResourcesBalancedAllocation.from_args(args)
    state = plugin.pre_score(PodInfo.of(pod(requests=requests)), found)
    assert state is not None
    view = found.view(None if rows is None else np.array(rows))
    found_scores: list[int] = plugin.score(state, view).tolist()
    return found_scores


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        # As even as before: half of both.
        ({"cpu": "2", "memory": "4Gi"}, 75),
        # All of one, none of the other: (1 - 0.5) * 100 = 50, from 100.
        ({"cpu": "4"}, 50),
        # A half and a quarter: (1 - 0.125) * 100 = 87; (87 - 100 + 50) / 2 = 18.
        ({"cpu": "2", "memory": "2Gi"}, 68),
    ],
)
def test_two_resources_are_balanced_by_half_their_difference(
    requests: dict[str, str], expected: int
) -> None:
    assert scores({}, snapshot(node("a")), requests) == [expected]


def test_a_pod_that_evens_a_node_out_scores_more_there() -> None:
    uneven = pod("p", requests={"cpu": "2"}, nodeName="uneven")
    found = snapshot(node("even"), node("uneven"), pods=(uneven,))
    # From 75 to 100 on the one, from 100 to 75 on the other.
    assert scores({}, found, {"memory": "4Gi"}) == [62, 87]


def test_more_resources_are_balanced_by_their_standard_deviation() -> None:
    found = snapshot(node("gpu", **{"nvidia.com__gpu": "4"}), node("none"))
    # (1, 0, 0): a deviation of sqrt(2) / 3, so 52. Where there is none, it does not count.
    assert scores(THREE, found, {GPU: "4"}) == [51, 75]
    assert scores(THREE, found, {"cpu": "2", "memory": "4Gi", GPU: "2"}) == [75, 75]


def test_of_two_resources_one_that_a_node_lacks_does_not_count() -> None:
    args = {"resources": [{"name": name, "weight": 1} for name in ("cpu", GPU)]}
    found = snapshot(node("gpu", **{"nvidia.com__gpu": "4"}), node("none"))
    # Half of one: a deviation of 0.25, so 75, from 100.
    assert scores(args, found, {GPU: "2"}) == [62, 75]


def test_a_pod_that_asks_for_nothing_tells_no_nodes_apart() -> None:
    plugin = NodeResourcesBalancedAllocation()
    assert plugin.pre_score(PodInfo.of(pod()), snapshot(node("a"))) is None


def test_what_is_kept_of_nodes_follows_pods_and_nodes() -> None:
    plugin = NodeResourcesBalancedAllocation()
    found = snapshot(node("a"), node("b"))
    new = PodInfo.of(pod(requests={"cpu": "1"}))

    def both() -> None:
        state = plugin.pre_score(new, found)
        assert state is not None
        whole = plugin.score(state, found.view()).tolist()
        assert whole == plugin.score(state, found.view(np.arange(len(found)))).tolist()
        assert whole == scores({}, found, {"cpu": "1"})

    both()
    found.set_pod(pod("p", requests={"cpu": "2"}, nodeName="b"))
    both()
    found.set_node(node("a", cpu="2"))
    both()
    found.set_node(node("c", memory="1Gi"))
    both()


@pytest.mark.parametrize("args", [{"resources": []}, {"resources": [{"name": "cpu", "weight": 0}]}])
def test_arguments_that_do_not_hold_are_refused(args: Any) -> None:
    with pytest.raises(ValueError):
        NodeResourcesBalancedAllocation.from_args(args)
