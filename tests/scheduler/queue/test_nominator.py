"""Pods that are promised a node: who leaves them their room, and whose word on it counts."""

import pytest

from filters.common.plugin import PodInfo
from scheduler.queue.nominator import Nominator
from tests.harness.make import info, node, snapshot


def nominator() -> Nominator:
    return Nominator(snapshot(node("a"), node("b")))


def keys(infos: list[PodInfo]) -> list[str]:
    return [one.pod.metadata.name for one in infos]


def ahead(found: Nominator, of: PodInfo) -> list[tuple[int, list[str]]]:
    return [(row, keys(infos)) for row, infos in found.ahead_of(of)]


def test_a_pod_leaves_room_to_nominated_pods_of_its_priority_or_higher() -> None:
    found = nominator()
    found.add(info("high", priority=9), "a")
    found.add(info("equal", priority=5), "a")
    found.add(info("low", priority=1), "b")
    assert ahead(found, info("p", priority=5)) == [(0, ["high", "equal"])]
    assert ahead(found, info("p", priority=10)) == []
    assert ahead(nominator(), info("p")) == []


def test_a_pod_does_not_leave_room_to_itself() -> None:
    found = nominator()
    found.add(info("p"), "a")
    assert ahead(found, info("p")) == []


def test_a_node_that_is_gone_has_no_row_to_leave_room_on() -> None:
    found = nominator()
    found.add(info("p"), "gone")
    assert ahead(found, info("other")) == []
    assert found.row("default/p") is None


def test_a_pod_is_nominated_to_one_node_at_a_time() -> None:
    found = nominator()
    found.add(info("p"), "a")
    found.add(info("p"), "b")
    assert found.row("default/p") == 1
    assert ahead(found, info("other")) == [(1, ["p"])]


def test_a_pod_that_changes_keeps_its_nomination_with_its_new_requests() -> None:
    found = nominator()
    found.add(info("p"), "a")
    changed = info("p", requests={"cpu": "2"})
    found.refresh(changed)
    found.refresh(info("never-nominated"))
    assert found.ahead_of(info("other")) == [(0, [changed])]


def test_nominated_pods_of_lower_priority_have_to_look_anew() -> None:
    found = nominator()
    found.add(info("low", priority=1), "a")
    found.add(info("equal", priority=5), "a")
    found.add(info("elsewhere", priority=1), "b")
    assert keys(found.behind(info("p", priority=5), "a")) == ["low"]
    assert found.behind(info("p", priority=5), "c") == []


@pytest.mark.parametrize("end", ["remove", "give_up", "forget"])
def test_an_end_says_whether_there_was_a_nomination(end: str) -> None:
    found = nominator()
    found.add(info("p"), "a")
    assert getattr(found, end)("default/p") is True
    assert getattr(found, end)("default/p") is False
    assert found.row("default/p") is None
    assert ahead(found, info("other")) == []


def test_a_nomination_that_was_given_up_is_not_believed_until_it_shows_another_node() -> None:
    found = nominator()
    found.add(info("p"), "a")
    found.give_up("default/p")
    assert found.shown("default/p", "a") == ""
    assert found.shown("default/p", "b") == "b"
    assert found.shown("default/p", "a") == "a"


def test_once_the_api_server_shows_no_nomination_the_same_node_counts_again() -> None:
    found = nominator()
    found.ignore("default/p", "a")
    assert found.shown("default/p", "a") == ""
    assert found.shown("default/p", "") == ""
    assert found.shown("default/p", "a") == "a"


@pytest.mark.parametrize("anew", ["forget", "add"])
def test_a_pod_made_or_nominated_anew_has_no_past(anew: str) -> None:
    found = nominator()
    found.ignore("default/p", "a")
    if anew == "forget":
        found.forget("default/p")
    else:
        found.add(info("p"), "a")
    assert found.shown("default/p", "a") == "a"
