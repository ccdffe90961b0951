"""States of rows that are worked out ahead are those that come, whatever else happens."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.state.records import PodAmounts
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from scheduler.cycle.ahead import DEPTH, LEVELS, Ahead
from tests.harness.make import node, pod, snapshot

NEEDS = PodAmounts({"cpu": 500, "pods": 1}, (500, 0))
ROWS = 3


class Judge:
    """Fits with room for one more; scores are what is in use. Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, view: View) -> tuple[Bools, Ints]:
        self.asked += 1
        return view.free("cpu") >= 500, view.requested("cpu")


def cluster() -> Snapshot:
    return snapshot(*(node(f"n{row}", cpu=str(4 * (row + 1))) for row in range(ROWS)))


def place(found: Snapshot, number: int, row: int) -> None:
    found.assume(pod(f"p{number}", requests={"cpu": "500m"}), NEEDS, row)


def expected(found: Snapshot, row: int) -> tuple[bool, int]:
    view = found.view(np.array([row]))
    return bool(view.free("cpu")[0] >= 500), int(view.requested("cpu")[0])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.booleans()), max_size=60))
def test_every_next_state_is_what_the_row_is_then(steps: list[tuple[int, bool]]) -> None:
    found, ahead = cluster(), Ahead(NEEDS, Judge())
    for number, (row, other_change) in enumerate(steps):
        if other_change:
            found.assume(pod(f"x{number}"), PodAmounts({"cpu": 100, "pods": 1}), row)
            ahead.changed(np.array([row]))
        place(found, number, row)
        assert ahead.next(row, found) == expected(found, row)


def test_pods_on_one_row_are_judged_many_at_a_time() -> None:
    found, judge = snapshot(node("a", cpu="64")), Judge()
    ahead = Ahead(NEEDS, judge)
    for number in range(DEPTH + 1):
        place(found, number, 0)
        assert ahead.next(0, found) == expected(found, 0)
    assert judge.asked == 1


def test_pods_that_spread_over_rows_are_judged_many_at_a_time() -> None:
    found, judge = snapshot(*(node(f"n{row}") for row in range(50))), Judge()
    ahead = Ahead(NEEDS, judge)
    for number in range(LEVELS * 49):
        row = 1 + number % 49
        place(found, number, row)
        assert ahead.next(row, found) == expected(found, row)
    assert judge.asked <= 10


def test_what_was_worked_out_is_forgotten_when_everything_changes() -> None:
    found, judge = cluster(), Judge()
    ahead = Ahead(NEEDS, judge)
    place(found, 0, 0)
    ahead.next(0, found)
    for row in range(ROWS):
        found.set_node(node(f"n{row}", cpu="1"))
    ahead.forget()
    place(found, 1, 0)
    assert ahead.next(0, found) == (False, 1000)
    assert judge.asked == 2


def test_scores_that_are_the_same_everywhere_may_be_one_number() -> None:
    found = cluster()
    ahead = Ahead(NEEDS, lambda view: (np.ones(len(view), np.bool_), 7))
    place(found, 0, 1)
    assert ahead.next(1, found) == (True, 7)
    place(found, 1, 0)
    assert ahead.next(0, found) == (True, 7)
