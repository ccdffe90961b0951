"""The latest decisions as a page of metrics."""

from prometheus_client.parser import text_string_to_metric_families

from scheduler.observe.recent_decisions import MAX_DECISIONS, MAX_REASON_CHARS, RecentDecisions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def decisions() -> tuple[RecentDecisions, Clock]:
    clock = Clock()
    return RecentDecisions(clock), clock


def page(found: RecentDecisions) -> dict[str, tuple[str, str, str, float]]:
    """By pod: node, policy, why and when."""
    (family,) = text_string_to_metric_families(found.text().decode())
    assert family.name == "gsch_decision_timestamp_seconds"
    rows = [(s.labels, s.value) for s in family.samples]
    assert len({labels["pod"] for labels, _ in rows}) == len(rows)
    return {m["pod"]: (m["node"], m["policy"], m["why"], at) for m, at in rows}


def test_a_pod_is_told_with_its_latest_decision_alone() -> None:
    found, clock = decisions()
    found.refused("ns/p", "low", "0/1 nodes are available")
    found.placed("ns/q", "b", "", "the only node that fits")
    assert page(found)["ns/p"] == ("", "low", "0/1 nodes are available", 1000)
    clock.now += 5
    found.placed("ns/p", "a", "low", "near")
    assert page(found) == {
        "ns/p": ("a", "low", "near", 1005),
        "ns/q": ("b", "", "the only node that fits", 1000),
    }


def test_a_deleted_pod_is_not_told_any_more() -> None:
    found, _ = decisions()
    found.placed("ns/p", "a", "", "x")
    found.text()
    found.forget("ns/p")
    found.forget("ns/never-there")
    assert page(found) == {}


def test_only_the_last_pods_are_kept() -> None:
    found, _ = decisions()
    for number in range(MAX_DECISIONS):
        found.placed(f"ns/p{number}", "a", "", "x")
    found.placed("ns/p0", "b", "", "again")
    found.placed("ns/new", "a", "", "x")
    pods = page(found)
    assert len(pods) == MAX_DECISIONS
    assert "ns/p1" not in pods
    assert pods["ns/p0"][0] == "b"


def test_a_long_reason_is_cut_and_an_unusual_one_is_quoted() -> None:
    found, _ = decisions()
    found.refused("ns/long", "", "x" * (MAX_REASON_CHARS + 1))
    found.refused("ns/exact", "", "x" * MAX_REASON_CHARS)
    found.refused("ns/quoted", "", 'pod group "team"\nto appear')
    pods = page(found)
    assert pods["ns/long"][2] == "x" * (MAX_REASON_CHARS - 1) + "…"
    assert pods["ns/exact"][2] == "x" * MAX_REASON_CHARS
    assert pods["ns/quoted"][2] == 'pod group "team"\nto appear'
