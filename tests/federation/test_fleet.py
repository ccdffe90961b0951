"""Which clusters are asked, by what their agents reported last."""

from typing import Any

import pytest
from federation.fleet import LEASE_S, MAX_SHAPES, Fleet, NodeShape, Report
from federation.request import LOW_LATENCY, MOST_REQUESTED, Owner, PodNeeds, Request, Source

GPU = "nvidia.com/gpu"


def shape(cpu: int, free: int, count: int = 1, **more: Any) -> NodeShape:
    offered = {"cpu": cpu, "memory": 8 << 30, "pods": 110}
    left = {**offered, "cpu": free}
    named = {name.replace("__", "/"): amount for name, amount in more.items()}
    return NodeShape(count, {**offered, **named}, {**left, **named})


def request(policy: str = MOST_REQUESTED, source: str = "", **needs: Any) -> Request:
    asked = {name.replace("__", "/"): amount for name, amount in needs.items()}
    pods = [PodNeeds(1, asked)]
    return Request("r", Owner(), policy, "f", [], 0.0, pods=pods, source=Source(source))


def fleet(**shapes: list[NodeShape]) -> Fleet:
    made = Fleet()
    for name, own in shapes.items():
        made.set(Report(name, own), 0.0)
    return made


def test_the_cluster_with_the_fullest_node_that_fits_comes_first() -> None:
    made = fleet(empty=[shape(4000, 4000)], busy=[shape(4000, 1000)], full=[shape(4000, 10)])
    ranked, out = made.rank(request(cpu=500), ["empty", "busy", "full"], 0.0)
    assert [one.cluster for one in ranked] == ["busy", "empty"]
    assert out == {"full": "no node has room: insufficient cpu"}


def test_low_latency_ranks_by_the_round_trip_from_the_source_whoever_measured_it() -> None:
    made = fleet(a=[shape(4000, 4000)], b=[shape(4000, 4000)], c=[shape(4000, 4000)])
    made.set(Report("a", [shape(4000, 4000)], rtts_ms={"b": 80.0}), 0.0)
    made.set(Report("c", [shape(4000, 4000)], rtts_ms={"a": 15.0}), 0.0)
    ranked, _ = made.rank(request(LOW_LATENCY, "a", cpu=1), ["b", "c", "a"], 0.0)
    assert [(one.cluster, one.rtt_ms) for one in ranked] == [("a", 0.0), ("c", 15.0), ("b", 80.0)]


def test_resources_that_nobody_offers_leave_no_cluster() -> None:
    made = fleet(a=[shape(4000, 4000)])
    assert made.rank(request(MOST_REQUESTED, "", **{"example.com__fpga": 1}), ["a"], 0.0) == (
        [],
        {"a": "no node has room: insufficient example.com/fpga"},
    )


def test_a_pod_has_to_fit_on_one_node() -> None:
    made = fleet(a=[shape(4000, 100, nvidia__com=0, **{"nvidia.com__gpu": 2}), shape(4000, 4000)])
    _, out = made.rank(request(MOST_REQUESTED, "", cpu=1000, **{"nvidia.com__gpu": 1}), ["a"], 0.0)
    assert out == {"a": "no node has room: what is free lies on other nodes"}


def test_resources_of_later_reports_are_known_of_earlier_clusters_as_not_offered() -> None:
    made = fleet(plain=[shape(4000, 4000)], gpu=[shape(4000, 4000, **{"nvidia.com__gpu": 1})])
    made.set(Report("odd", [shape(4000, 4000, **{"example.com__x": 3})]), 0.0)
    ranked, out = made.rank(
        request(MOST_REQUESTED, "", **{"example.com__x": 2}), ["plain", "gpu", "odd"], 0.0
    )
    assert [one.cluster for one in ranked] == ["odd"]
    assert sorted(out) == ["gpu", "plain"]


@pytest.mark.parametrize(("silent", "there"), [(LEASE_S - 1, True), (LEASE_S + 1, False)])
def test_a_cluster_is_lost_after_a_lease(silent: float, there: bool) -> None:
    made = fleet(a=[shape(4000, 4000)])
    ranked, out = made.rank(request(cpu=1), ["a"], silent)
    assert bool(ranked) is there
    assert ("lost" in out.get("a", "")) is not there


def test_many_clusters_and_more_shapes_than_are_kept() -> None:
    made = Fleet()
    for number in range(40):
        made.set(Report(f"c{number}", [shape(4000, 100)] * (MAX_SHAPES + 5)), 0.0)
    made.set(Report("c7", [shape(4000, 3000)]), 1.0)
    ranked, out = made.rank(request(cpu=2000), [f"c{n}" for n in range(40)], 1.0)
    assert [one.cluster for one in ranked] == ["c7"]
    assert len(out) == 39


def test_a_layer_that_was_away_itself_takes_no_cluster_for_lost_at_once() -> None:
    made = Fleet(since=100.0)
    made.set(Report("a", [shape(4000, 4000)]), 0.0)
    assert not made.lost("a", 100.0 + LEASE_S - 1)
    assert made.lost("a", 100.0 + LEASE_S + 1)


def test_silence_of_all_clusters_is_our_own_and_makes_none_of_them_lost() -> None:
    fleet = Fleet()
    for name in ("c1", "c2"):
        fleet.set(Report(name), 0.0)
    assert fleet.lost("c1", LEASE_S + 1)
    fleet.set(Report("c2"), 100.0)
    assert not fleet.lost("c1", 100.0)
    assert fleet.lost("c1", 100.0 + LEASE_S + 1)


def test_where_room_was_promised_others_are_asked_first_until_the_next_report() -> None:
    """It is no reason not to ask: the report may show it already."""
    made = fleet(a=[shape(4000, 4000, count=2)], b=[shape(8000, 8000)])
    pods = [PodNeeds(3, {"cpu": 2000})]

    def asked(cpu: int) -> list[str]:
        return [one.cluster for one in made.rank(request(cpu=cpu), ["a", "b"], 0.0)[0]]

    assert asked(3000) == ["a", "b"], "the fuller one"
    made.promise("a", pods, 1.0)
    assert asked(2000) == ["a", "b"], "there is room for it all the same"
    assert asked(3000) == ["b", "a"]
    made.promise("a", pods, -1.0)
    assert asked(3000) == ["a", "b"], "it was given back"
    made.promise("a", pods, 1.0)
    made.set(Report("a", [shape(4000, 3000, count=2)]), 0.0)
    assert asked(3000) == ["a", "b"], "the report counts from now on"
    made.promise("unheard", pods, 1.0)


@pytest.mark.parametrize(("divided", "fits"), [(False, False), (True, True)])
def test_a_request_is_counted_as_a_whole_unless_it_is_divided(divided: bool, fits: bool) -> None:
    made = fleet(a=[shape(4000, 1000, count=3)])
    given = request()
    given.pods, given.divided = [PodNeeds(4, {"cpu": 1000})], divided
    ranked, out = made.rank(given, ["a"], 0.0)
    assert (bool(ranked), bool(out)) == (fits, not fits)


def test_location_and_storage_classes_cut_the_list() -> None:
    made = Fleet()
    for name, location, classes in (
        ("a", "edge", ["fast", "slow"]), ("b", "cloud", ["fast"]), ("c", "near", ["slow"]),
    ):  # fmt: skip
        report = Report(name, [shape(4000, 4000)], location, storage_classes=classes)
        made.set(report, 0.0)
    given = request(cpu=1)
    given.locations, given.storage_classes = ["edge", "near"], ["fast"]
    ranked, out = made.rank(given, ["a", "b", "c"], 0.0)
    assert [one.cluster for one in ranked] == ["a"]
    assert out == {
        "b": "its location is cloud, not edge or near",
        "c": "it has no StorageClass fast",
    }
