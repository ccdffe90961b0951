"""A request's way from its queue to a cluster: whatever agents answer, and in whatever order."""

import pytest
from federation import dispatch
from federation.dispatch import advance, take_answer
from federation.exchange import Apply, Ask, Done, Offer, Refusal
from federation.fleet import NodeShape, Report
from federation.levels import divide
from federation.request import (
    FINAL,
    LOW_LATENCY,
    MOST_REQUESTED,
    SET,
    AttemptState,
    PodNeeds,
    Queue,
    Source,
    State,
)
from federation.step import (
    ACCEPT_MARGIN_S,
    ASK_WITHIN_S,
    BEYOND_EXTERNAL,
    MAX_UNHEARD_DELAY_S,
    Limits,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.cases import NODE, answer, applied, asked, beat, case, make_fleet, revoked


def test_the_outer_list_is_tried_in_order_and_the_inner_one_competes() -> None:
    made, fleet = case([["c1"], ["c2", "c3"]]), make_fleet("c1", "c2", "c3")
    assert asked(advance(made, fleet, 0.0)) == ["c1"]
    answer(made, "c1", Refusal("full"))
    assert sorted(asked(advance(made, fleet, 1.0))) == ["c2", "c3"]
    answer(made, "c2", Offer("n1", 10.0, 1))
    assert advance(made, fleet, 1.0) == []
    answer(made, "c3", Offer("n2", 90.0, 1))
    assert applied(advance(made, fleet, 1.0)) == ["c3"]
    answer(made, "c3", Done("n2"))
    sends = advance(made, fleet, 1.0)
    assert revoked(sends) == ["c2"]
    assert made.request.state is State.COMPLETED


def test_low_latency_goes_by_the_end_to_end_time_of_the_best_node() -> None:
    made, fleet = case([["c1", "c2"]], LOW_LATENCY), make_fleet("c1", "c2")
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 99.0, 1, rtt_ms=20.0))
    answer(made, "c2", Offer("n", 1.0, 1, rtt_ms=15.0))
    assert applied(advance(made, fleet, 1.0)) == ["c2"]


def test_the_next_cluster_is_tried_only_when_the_last_one_is_known_to_be_undone() -> None:
    made, fleet = case([["c1"], ["c2"]]), make_fleet("c1", "c2")
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 1.0, 1))
    advance(made, fleet, 1.0)
    answer(made, "c1", Refusal("quota"))
    assert revoked(advance(made, fleet, 2.0)) == ["c1"]
    assert advance(made, make_fleet("c1", "c2", now=1000.0), 1000.0) == []
    answer(made, "c1", Done())
    assert asked(advance(made, make_fleet("c1", "c2", now=1000.0), 1000.0)) == ["c2"]


def test_pods_that_are_not_scheduled_in_time_are_revoked() -> None:
    made, fleet = case([["c1"]]), make_fleet("c1")
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 1.0, 1))
    advance(made, fleet, 0.0)
    late = made.request.accept_within_s + ACCEPT_MARGIN_S
    assert made.request.wake_at == late
    assert revoked(advance(made, fleet, late)) == ["c1"]
    assert "not scheduled within 30 s" in made.attempts[0].message


def test_a_silent_cluster_is_passed_over_and_fenced() -> None:
    made, fleet = case([["c1"], ["c2"]]), make_fleet("c1", "c2")
    advance(made, fleet, 0.0)
    sends = advance(made, fleet, ASK_WITHIN_S)
    assert (revoked(sends), asked(sends)) == (["c1"], ["c2"])
    assert not take_answer(made, 1, Offer("n", 1.0, 1), ASK_WITHIN_S)


def test_a_lost_cluster_is_not_even_asked() -> None:
    made, fleet = case([["c1"], ["c2"]]), make_fleet("c1")
    fleet.set(make_fleet("c2").clusters["c2"].report, 0.0)
    beat(fleet, "c2", 100.0)
    assert asked(advance(made, fleet, 100.0)) == ["c2"]
    assert "last heard of 100 s ago" in made.request.excluded["c1"]


def test_what_no_cluster_was_there_to_answer_is_no_failure() -> None:
    made, fleet = case([["c1"], ["c2"]]), make_fleet("c1", "c2")
    now = 100.0
    for _ in range(20):
        made.request.state = State.SCHEDULING
        advance(made, fleet, now)
        assert made.request.state is State.QUEUED
        assert made.request.wake_at is not None
        assert 0 < made.request.wake_at - now <= MAX_UNHEARD_DELAY_S
        now = made.request.wake_at
    assert made.request.fail_count == 0
    assert "last heard of" in made.request.message
    fleet.set(fleet.clusters["c1"].report, now)
    made.request.state = State.SCHEDULING
    assert asked(advance(made, fleet, now)) == ["c1"]


def test_failures_go_first_and_too_many_end_it() -> None:
    made = case([["c1"]], pods=[PodNeeds(1, {"cpu": 10**9})])
    queues = []
    for number in range(6):
        made.request.state = State.SCHEDULING
        advance(made, make_fleet("c1", now=float(number)), float(number))
        queues.append((made.request.state, made.request.queue))
    assert queues[:2] == [(State.QUEUED, Queue.BASE)] * 2
    assert queues[2:5] == [(State.QUEUED, Queue.FIRST)] * 3
    assert made.request.state is State.FAILED
    assert made.request.message == "c1: no node has room: insufficient cpu"


def test_without_a_list_the_source_cluster_comes_first_and_then_all_others() -> None:
    made = case([], source=Source("c2"))
    fleet = make_fleet("c1", "c2", "c3")
    assert asked(advance(made, fleet, 0.0)) == ["c2"]
    answer(made, "c2", Refusal("full"))
    assert sorted(asked(advance(made, fleet, 1.0))) == ["c1", "c3"]


def test_cancelling_undoes_what_there_is_and_then_ends() -> None:
    made, fleet = case([["c1"]]), make_fleet("c1")
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 1.0, 1))
    advance(made, fleet, 0.0)
    made.request.cancel = True
    assert revoked(advance(made, fleet, 1.0)) == ["c1"]
    assert made.request.state == "scheduling"
    answer(made, "c1", Done())
    advance(made, fleet, 2.0)
    assert made.request.state == "canceled"


def test_a_set_is_placed_in_every_cluster_or_in_none() -> None:
    made, fleet = case([["c1", "c2"]], SET), make_fleet("c1", "c2")
    assert asked(advance(made, fleet, 0.0)) == ["c1", "c2"]
    answer(made, "c1", Offer("n", 1.0, 1))
    answer(made, "c2", Offer("n", 1.0, 1))
    assert applied(advance(made, fleet, 1.0)) == ["c1", "c2"]
    answer(made, "c1", Done())
    answer(made, "c2", Refusal("denied"))
    advance(made, fleet, 2.0)
    answer(made, "c2", Done())
    assert revoked(advance(made, fleet, 2.0)) == ["c1"]
    answer(made, "c1", Done())
    advance(made, fleet, 3.0)
    assert made.request.state is State.QUEUED


def test_a_divided_set_shares_pods_out_by_the_room_that_there_is() -> None:
    made, fleet = case([["c1", "c2", "c3"]], SET, divided=True), make_fleet("c1", "c2", "c3")
    made.request.pods = [PodNeeds(6, {"cpu": 100})]
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 1.0, 2))
    answer(made, "c2", Offer("n", 1.0, 4))
    answer(made, "c3", Refusal("full"))
    assert applied(advance(made, fleet, 1.0)) == ["c1", "c2"]
    assert [a.replicas for a in made.attempts] == [2, 4, None]
    answer(made, "c1", Done())
    answer(made, "c2", Done())
    advance(made, fleet, 1.0)
    assert made.request.state is State.COMPLETED


@given(st.integers(0, 50), st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_shares_add_up_and_exceed_no_room(total: int, room: list[int]) -> None:
    shares = divide(total, room)
    if total > sum(room):
        assert shares is None
        return
    assert shares is not None
    assert sum(shares) == total
    assert all(0 <= share <= most for share, most in zip(shares, room, strict=True))


def test_a_request_of_a_worker_outside_ends_as_that_says_or_goes_back_when_it_is_silent() -> None:
    limits = Limits()
    made, fleet = case([["c1"]], state=State.DISPATCHED), make_fleet("c1")
    assert dispatch.begin_external(made, 0.0) == []
    assert advance(made, fleet, 0.0) == []
    assert made.request.wake_at == dispatch.EXTERNAL_WITHIN_S
    assert advance(made, fleet, dispatch.EXTERNAL_WITHIN_S) == []
    assert (made.request.state, made.request.fail_count) == (State.QUEUED, 1)
    assert dispatch.end_external(made, State.COMPLETED, 700.0, limits) is None
    made.request.state = State.DISPATCHED
    dispatch.begin_external(made, 700.0)
    assert dispatch.end_external(made, State.COMPLETED, 701.0, limits) == []
    assert made.request.state is State.COMPLETED
    # Whatever it applied goes when the request is cancelled: from every cluster of the request.
    made.request.cancel = True
    assert revoked(advance(made, fleet, 702.0)) == ["c1"]
    assert answer(made, "c1", Done())
    advance(made, fleet, 703.0)
    assert str(made.request.state) == "canceled"


@pytest.mark.parametrize("policy", [MOST_REQUESTED, SET])
def test_what_a_worker_outside_gave_up_is_undone_everywhere_before_ours_places_it(
    policy: str,
) -> None:
    made = case([["c1", "c2"]], policy, state=State.DISPATCHED)
    fleet = make_fleet("c1", "c2")
    dispatch.begin_external(made, 0.0)
    assert dispatch.end_external(made, State.FAILED, 1.0, Limits()) == []
    assert made.request.state is State.QUEUED
    made.request.state = State.DISPATCHED
    assert dispatch.begin(made, 2.0) == []
    sends = advance(made, fleet, 2.0)
    assert (revoked(sends), asked(sends)) == (["c1", "c2"], [])
    answer(made, "c1", Done(), 2.0)
    assert asked(advance(made, fleet, 2.0)) == []
    answer(made, "c2", Done(), 2.0)
    sends = advance(made, fleet, 2.0)
    assert sorted(asked(sends)) == ["c1", "c2"]
    # Whatever comes of the outside worker's attempts is lower than ours.
    assert min(send.attempt.number for send in sends) > BEYOND_EXTERNAL


STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 30), st.sampled_from([0.0, 1.0, 20.0, 60.0])),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.booleans())
def test_whatever_agents_answer_no_two_clusters_run_it(
    steps: list[tuple[int, int, float]], cancel: bool
) -> None:
    """Answers come late, twice, never, or to attempts that are over; deadlines pass."""
    made, now = case([["c1"], ["c2", "c3"]]), 0.0
    holds: set[int] = set()
    """Attempts that may have something in their cluster: applied, and not known to be undone."""
    numbers: list[int] = []
    for kind, which, later in steps:
        now += later
        fleet = make_fleet("c1", "c2", "c3", now=now)
        if made.attempts:
            number = made.attempts[which % len(made.attempts)].number
            answers = (Offer("n", 1.0, 1), Refusal("no"), Done("n"), Done("n"))
            if kind < 4:
                before = made.attempts[which % len(made.attempts)].state
                changed = take_answer(made, number, answers[kind], now)
                if changed and kind > 1 and before is AttemptState.REVOKING:
                    holds.discard(number)
        if cancel and kind == 5:
            made.request.cancel = True
        if made.request.state is State.QUEUED:
            made.request.state = State.SCHEDULING
        sends = advance(made, fleet, now)
        numbers += [send.attempt.number for send in sends if isinstance(send, Ask)]
        for number in (send.attempt.number for send in sends if isinstance(send, Apply)):
            assert not holds, "applied while another may still be there"
            holds.add(number)
        if made.request.state in FINAL:
            assert made.request.state is State.COMPLETED or not holds
            assert not [a for a in made.attempts if a.open]
    assert numbers == sorted(set(numbers))


def test_low_latency_counts_the_way_to_the_cluster_and_the_one_within_it() -> None:
    made = case([["c2", "c3"]], LOW_LATENCY, source=Source("c1", "n1"))
    fleet = make_fleet("c1", "c2", "c3")
    fleet.set(Report("c1", [NodeShape(2, NODE, NODE)], rtts_ms={"c2": 10.0, "c3": 4.0}), 0.0)
    advance(made, fleet, 0.0)
    answer(made, "c2", Offer("near", 1.0, 1, 1.0))
    answer(made, "c3", Offer("far", 99.0, 1, 9.0))
    assert applied(advance(made, fleet, 1.0)) == ["c2"]
    assert [a.rtt_ms for a in made.attempts if a.cluster == "c2"] == [11.0]
