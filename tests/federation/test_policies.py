"""Policies of installed packages choose among clusters, and cost nobody else anything."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from federation import policies, wire
from federation.dispatch import advance, take_answer
from federation.exchange import Apply, Ask, Offer
from federation.fleet import Fleet, NodeShape, Report
from federation.messages import Code, decode
from federation.policies import Candidate, ClusterPolicy
from federation.request import (
    LOW_LATENCY,
    MOST_REQUESTED,
    Attempt,
    AttemptState,
    Case,
    Owner,
    PodNeeds,
    Request,
    Source,
    State,
)

from cluster.errors import ConfigError
from tests.harness.plugins import install

ROOM = {"cpu": 4000, "memory": 8 << 30, "pods": 10}


class CloudLast(ClusterPolicy):
    """No cluster named `banned`; the cloud when there is nothing else; most pods wins."""

    def filter_clusters(
        self, request: Request, candidates: Sequence[Candidate]
    ) -> Mapping[str, str]:
        return {"banned": "is banned"}

    def score_clusters(self, request: Request, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [-float(one.report.location == "cloud") for one in candidates]

    def score_offer(self, request: Request, offer: Attempt) -> float:
        return offer.fits


class Near(ClusterPolicy):
    base = LOW_LATENCY


class Broken(ClusterPolicy):
    def score_clusters(self, request: Request, candidates: Sequence[Candidate]) -> Sequence[float]:
        raise ZeroDivisionError("by zero")


class BrokenLater(ClusterPolicy):
    def score_offer(self, request: Request, offer: Attempt) -> float:
        raise KeyError(offer.cluster)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"CloudLast": CloudLast(), "Near": Near(), "Broken": Broken(),
            "BrokenLater": BrokenLater()}  # fmt: skip
    monkeypatch.setattr(policies, "plugins", lambda: made)


def _fleet(**locations: str) -> Fleet:
    fleet = Fleet(0.0)
    for name, location in locations.items():
        rtts = {other: 10.0 * (number + 1) for number, other in enumerate(locations)}
        fleet.set(Report(name, [NodeShape(2, ROOM, ROOM)], location, rtts), 100.0)
    return fleet


def _case(policy: str, **fields: Any) -> Case:
    pods = [PodNeeds(2, {"cpu": 1000, "memory": 1 << 30, "pods": 1})]
    request = Request("r", Owner("ann"), policy, "f", [], 0.0, pods=pods,
                      state=State.SCHEDULING)  # fmt: skip
    return Case(msgspec.structs.replace(request, **fields))


def test_clusters_are_filtered_scored_and_the_best_offer_is_taken() -> None:
    fleet, case = _fleet(c1="cloud", c2="edge", banned="edge", c3="near"), _case("CloudLast")
    asks = advance(case, fleet, 100.0)
    assert [send.attempt.cluster for send in asks if isinstance(send, Ask)] == ["c2", "c3", "c1"]
    assert case.request.excluded == {"banned": "is banned"}
    for number, fits in ((1, 2), (2, 9), (3, 4)):
        take_answer(case, number, Offer("n", 50.0, fits), 100.0)
    (applied,) = (send for send in advance(case, fleet, 100.0) if isinstance(send, Apply))
    assert applied.attempt.cluster == "c3"


def test_within_clusters_the_policy_that_it_names_holds() -> None:
    fleet = _fleet(c1="edge", c2="edge", c3="edge")
    case = _case("Near", source=Source("c3"), levels=[["c1", "c2"]])
    first, second = advance(case, fleet, 100.0)
    assert [first.attempt.cluster, second.attempt.cluster] == ["c1", "c2"], "the nearer first"
    _, body = wire.message(case.request, first)
    message = decode(body)
    assert (message.hcode, message.msg["policy"]) == (Code.LATENCY, LOW_LATENCY)
    take_answer(case, 1, Offer("n", 1.0, 5, rtt_ms=30.0), 100.0)
    take_answer(case, 2, Offer("n", 1.0, 5, rtt_ms=0.5), 100.0)
    (applied,) = (send for send in advance(case, fleet, 100.0) if isinstance(send, Apply))
    assert applied.attempt.rtt_ms is not None
    assert applied.attempt.cluster == "c2", applied.attempt.rtt_ms
    assert decode(wire.message(case.request, applied)[1]).hcode == Code.APPLY_LATENCY


def test_a_policy_that_fails_costs_its_request_one_round_and_says_why() -> None:
    fleet, case = _fleet(c1="edge"), _case("Broken")
    assert advance(case, fleet, 100.0) == []
    assert case.request.state is State.QUEUED
    assert "c1: policy Broken failed: ZeroDivisionError: by zero" in case.request.message
    ranked, out = policies.rank(fleet, _case(MOST_REQUESTED).request, ["c1"], 100.0)
    assert ([one.cluster for one in ranked], out) == (["c1"], {})


def test_where_it_fails_with_offers_one_is_taken_all_the_same() -> None:
    fleet, case = _fleet(c1="edge", c2="edge"), _case("BrokenLater")
    advance(case, fleet, 100.0)
    take_answer(case, 1, Offer("n", 10.0, 2), 100.0)
    take_answer(case, 2, Offer("n", 20.0, 2), 100.0)
    advance(case, fleet, 100.0)
    applied = case.attempt(2)
    assert applied is not None
    assert applied.state is AttemptState.APPLYING, "the higher score of the agent's"
    assert applied.message == "policy BrokenLater failed: KeyError: 'c2'"


CODE = """
from federation.policies import ClusterPolicy

class Good(ClusterPolicy):
    pass

class Odd(ClusterPolicy):
    base = "Odd"

class NoPolicy:
    pass
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.undo()
    policies.plugins.cache_clear()

    def installed(**given: str) -> dict[str, ClusterPolicy]:
        folder = install(tmp_path, "gsch_test_policies", CODE, "gsch.policies", **given)
        monkeypatch.syspath_prepend(folder)
        return policies.plugins()

    yield installed
    policies.plugins.cache_clear()


def test_installed_policies_are_loaded_by_entry_point(load: Any) -> None:
    assert list(load(Good="Good")) == ["Good"]
    assert policies.names()[-1] == "Good"
    assert policies.base_of("Good") == MOST_REQUESTED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"GSetClusters": "Good"}, "policy GSetClusters of gsch_test_policies:Good is already"),
        ({"Mine": "NoPolicy"}, "is no ClusterPolicy"),
        ({"Mine": "Odd"}, "base: 'Odd' is none: one of GLowLatencyPriority"),
    ],
)
def test_what_cannot_be_a_policy_is_refused_at_start(
    load: Any, given: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(**given)
