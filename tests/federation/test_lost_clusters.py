"""Requests whose cluster is lost, cut off, or given up by a person."""

import pytest
from federation import dispatch
from federation.dispatch import advance, take_answer
from federation.exchange import Answer, Apply, Done, Offer, Refusal, Stopped
from federation.fleet import LEASE_S, Fleet, NodeShape, Report
from federation.request import (
    AttemptState,
    ClusterLost,
    State,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.cases import NODE, answer, applied, asked, beat, case, make_fleet, revoked


@pytest.mark.parametrize("mode", [ClusterLost.STOP_AND_MOVE, ClusterLost.MOVE])
def test_a_request_moves_on_when_its_cluster_is_lost(mode: ClusterLost) -> None:
    made, fleet = case([["c1", "c2"]], cluster_lost=mode), make_fleet("c1", "c2")
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 9.0, 1))
    answer(made, "c2", Offer("n", 1.0, 1))
    advance(made, fleet, 0.0)
    answer(made, "c1", Done("n"))
    advance(made, fleet, 0.0)
    assert made.request.state is State.COMPLETED
    late = dispatch.MOVES_AFTER_S[mode] + 1
    beat(fleet, "c2", late)
    other = ClusterLost.MOVE if mode is ClusterLost.STOP_AND_MOVE else ClusterLost.STOP_AND_MOVE
    assert dispatch.lost(made, "c1", other, late) == []
    assert revoked(dispatch.lost(made, "c1", mode, late)) == ["c1"]
    assert asked(advance(made, fleet, late)) == ["c2"]
    answer(made, "c2", Offer("n", 1.0, 1), late)
    assert applied(advance(made, fleet, late)) == ["c2"]


def test_a_copy_that_its_agent_stopped_is_started_elsewhere() -> None:
    made, fleet = (
        case([["c1", "c2"]], cluster_lost=ClusterLost.STOP_AND_MOVE),
        make_fleet("c1", "c2"),
    )
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 9.0, 1))
    answer(made, "c2", Refusal("full"))
    advance(made, fleet, 0.0)
    answer(made, "c1", Done("n"))
    advance(made, fleet, 0.0)
    assert answer(made, "c1", Stopped(), 2.0)
    assert not answer(made, "c1", Stopped(), 2.0)
    assert sorted(asked(advance(made, fleet, 2.0))) == ["c1", "c2"]
    assert made.request.finished_at is None


def test_a_cluster_whose_agent_cannot_stop_copies_gets_none_that_must_be_stopped() -> None:
    made, fleet = case([["c1"]], cluster_lost=ClusterLost.STOP_AND_MOVE), Fleet()
    fleet.set(Report("c1", [NodeShape(2, NODE, NODE)]), 0.0)
    assert advance(made, fleet, 0.0) == []
    assert "could not stop the copy" in made.request.message


def test_a_request_that_keeps_its_cluster_stays_where_it_is() -> None:
    made, fleet = case([["c1"]]), make_fleet("c1")
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 9.0, 1))
    advance(made, fleet, 0.0)
    answer(made, "c1", Done("n"))
    advance(made, fleet, 0.0)
    assert dispatch.lost(made, "c1", ClusterLost.MOVE, 100.0) == []
    assert made.request.state is State.COMPLETED


def test_an_abandoned_cluster_s_request_starts_elsewhere_and_its_old_copy_is_to_go() -> None:
    made, fleet = case([["c1"], ["c2"]]), make_fleet("c1", "c2")
    advance(made, fleet, 0.0)
    answer(made, "c1", Offer("n", 9.0, 1))
    advance(made, fleet, 0.0)
    answer(made, "c1", Done("n"))
    advance(made, fleet, 0.0)
    late = LEASE_S + 1
    beat(fleet, "c2", late)
    fleet.clusters["c1"].abandoned = True
    assert revoked(dispatch.abandon(made, "c1", late)) == ["c1"]
    assert asked(advance(made, fleet, late)) == ["c2"]


ANSWERS: dict[str, Answer] = {
    "offer": Offer("n", 1.0, 1),
    "refusal": Refusal("no"),
    "done": Done("n"),
    "stopped": Stopped(),
}


def beat_all(fleet: Fleet, away: set[str], now: float, seconds: float) -> None:
    """Reports of all clusters that are there, every second of this time."""
    for at in (*range(int(seconds)), seconds):
        for name in fleet.clusters.keys() - away:
            fleet.set(fleet.clusters[name].report, now + at)


LOSSES = st.lists(
    st.tuples(
        st.sampled_from(["offer", "refusal", "done", "stopped", "lost", "pause"]),
        st.integers(0, 30),
        st.sampled_from(["c1", "c2", "c3"]),
        st.sampled_from([0.0, 1.0, 20.0, 80.0]),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(LOSSES)
def test_a_copy_that_moves_only_when_it_was_stopped_never_runs_twice(
    steps: list[tuple[str, int, str, float]],
) -> None:
    """Clusters are cut off and come back. An agent that is cut off has stopped its copy by the time
    at which its cluster counts as lost for this mode; that is all that is assumed of it."""
    mode = ClusterLost.STOP_AND_MOVE
    made, now = case([["c1"], ["c2", "c3"]], cluster_lost=mode), 0.0
    fleet = make_fleet("c1", "c2", "c3")
    away: set[str] = set()
    running: dict[int, str] = {}
    """Attempts that may have a copy in their cluster."""
    for what, which, cluster, later in steps:
        beat_all(fleet, away, now, later)
        now += later
        if what == "pause":
            away ^= {cluster}
        if what == "lost" and fleet.lost(cluster, now, dispatch.MOVES_AFTER_S[mode]):
            running = {n: at for n, at in running.items() if at != cluster}
            dispatch.lost(made, cluster, mode, now)
        elif made.attempts and what in ANSWERS:
            attempt = made.attempts[which % len(made.attempts)]
            revoking = attempt.state is AttemptState.REVOKING
            if what == "stopped" or (what == "done" and revoking):
                running.pop(attempt.number, None)
            take_answer(made, attempt.number, ANSWERS[what], now)
        if made.request.state is State.QUEUED:
            made.request.state = State.SCHEDULING
        for send in advance(made, fleet, now):
            if isinstance(send, Apply):
                assert not running, "a second copy may run"
                running[send.attempt.number] = send.attempt.cluster
