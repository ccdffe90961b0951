"""Rows of a snapshot as arrays: all of them, some of them, and as if more pods ran there."""

import numpy as np
import pytest

from cluster.state.records import PodAmounts
from cluster.state.snapshot import Snapshot
from cluster.state.view import PlacedView
from tests.harness.make import node, pod, snapshot

GI = 1024**3


def cluster() -> Snapshot:
    return snapshot(
        node("a", cpu="4", memory="8Gi", labels={"zone": "1"}, nvidia__gpu="1"),
        node("b", cpu="2", memory="4Gi", unschedulable=True),
        node("c", cpu="8", memory="16Gi", labels={"zone": "1"}),
        pods=(
            pod("p", requests={"cpu": "1", "memory": "1Gi"}, nodeName="a"),
            # Nothing asked for: scored as upstream's defaults, 100m and 200MB.
            pod("q", nodeName="c"),
        ),
    )


def test_the_whole_is_the_columns_as_they_are() -> None:
    found = cluster()
    view = found.view()
    assert len(view) == 3
    assert view.whole is found
    assert view.allocatable("cpu").tolist() == [4000, 2000, 8000]
    assert view.requested("cpu").tolist() == [1000, 0, 0]
    assert view.free("memory").tolist() == [7 * GI, 4 * GI, 16 * GI]
    assert view.unschedulable.tolist() == [False, True, False]


def test_chosen_rows_come_in_the_order_that_was_asked_for() -> None:
    view = cluster().view(np.array([2, 0, 0]))
    assert len(view) == 3
    assert view.whole is None
    assert view.allocatable("cpu").tolist() == [8000, 4000, 4000]
    zone = view.label("zone")
    assert zone is not None
    assert zone.tolist() == [1, 1, 1]
    assert view.valid.all()
    assert view.feature_set.tolist() == [0, 0, 0]


def test_a_resource_that_nobody_has_is_nowhere() -> None:
    view = cluster().view()
    for found in (view.allocatable("x/y"), view.requested("x/y"), view.free("x/y")):
        assert found.tolist() == [0, 0, 0]
    assert [column.tolist() for column in view.real("x/y")] == [[0, 0, 0]] * 3
    assert not view.short_nowhere("x/y", 0)
    assert not view.offered_everywhere("x/y")
    assert view.largest("x/y") == 0
    assert view.label("never-seen") is None


def test_scores_count_defaults_for_containers_that_ask_for_nothing() -> None:
    offered, asked, scored = cluster().view().real("cpu")
    assert offered.tolist() == [4000, 2000, 8000]
    assert asked.tolist() == [1000, 0, 0]
    assert scored.tolist() == [1000, 0, 100]
    assert cluster().view().real("memory")[2].tolist() == [GI, 0, 200 * 1024**2]


@pytest.mark.parametrize(
    ("resource", "amount", "short_nowhere"),
    [("cpu", 2000, True), ("cpu", 2001, False), ("nvidia/gpu", 1, False)],
)
def test_an_amount_is_short_nowhere_where_the_fullest_node_has_it(
    resource: str, amount: int, short_nowhere: bool
) -> None:
    assert cluster().view().short_nowhere(resource, amount) is short_nowhere


def test_what_every_node_offers_and_the_largest_offer_are_known() -> None:
    view = cluster().view()
    assert view.offered_everywhere("cpu")
    assert not view.offered_everywhere("nvidia/gpu")
    assert view.largest("cpu") == 8000


def test_a_row_is_found_among_all_and_among_chosen_ones() -> None:
    found = cluster()
    assert found.view().is_row(1).tolist() == [False, True, False]
    assert found.view().is_row(None).tolist() == [False, False, False]
    some = found.view(np.array([2, 1]))
    assert some.is_row(1).tolist() == [False, True]
    assert some.is_row(0).tolist() == [False, False]


def test_placed_pods_take_room_so_many_times_a_row() -> None:
    needs = PodAmounts({"cpu": 500, "pods": 1}, (500, 3))
    view = PlacedView(cluster(), np.array([0, 0, 2]), np.array([0, 2, 1]), needs)
    assert view.requested("cpu").tolist() == [1000, 2000, 500]
    assert view.free("cpu").tolist() == [3000, 2000, 7500]
    assert view.free("pods").tolist() == [109, 107, 108]
    assert view.free("memory").tolist() == [7 * GI, 7 * GI, 16 * GI]
    assert not view.short_nowhere("cpu", 0)


def test_placed_pods_are_scored_with_their_defaults() -> None:
    needs = PodAmounts({"pods": 1, "nvidia/gpu": 1}, (100, 7))
    view = PlacedView(cluster(), np.array([0, 1]), 2, needs)
    assert [column.tolist() for column in view.real("cpu")] == [
        [4000, 2000], [1000, 0], [1200, 200],
    ]  # fmt: skip
    assert view.real("memory")[2].tolist() == [GI + 14, 14]
    assert [column.tolist() for column in view.real("nvidia/gpu")] == [[1, 0], [2, 2], [2, 2]]
