"""Questions to a snapshot leave it as it was."""

from typing import Any

import pytest

from cluster.state.records import amounts_of
from cluster.state.snapshot import Snapshot
from cluster.state.what_if import unchanged, with_pods, without
from tests.harness.make import node, pod, snapshot


def state(found: Snapshot) -> Any:
    """All that anybody who keeps results could go by."""
    view = found.view()
    return (
        found.version,
        found.last_assumed,
        sorted(found.pods),
        sorted(found.assumed),
        view.requested("cpu").tolist(),
        view.requested("pods").tolist(),
        found.changed_since(0).tolist(),
    )


def cluster() -> Snapshot:
    return snapshot(
        node("a"),
        node("b"),
        pods=(
            pod("one", requests={"cpu": "1"}, nodeName="a"),
            pod("two", requests={"cpu": "2"}, nodeName="b"),
        ),
    )


def test_without_pods_their_room_is_free_for_as_long_as_the_question_lasts() -> None:
    found = cluster()
    before = state(found)
    with without(found, [found.pods["default/one"]]):
        assert found.view().requested("cpu").tolist() == [0, 2000]
        assert "default/one" not in found.pods
        assert found.asking
    assert state(found) == before
    assert not found.asking


def test_an_assumed_pod_that_was_thought_away_is_assumed_again() -> None:
    found = cluster()
    new = pod("new")
    found.assume(new, amounts_of(new), 0)
    with without(found, [found.pods[new.key]]):
        assert new.key not in found.assumed
    assert set(found.assumed) == {new.key}


def test_with_pods_their_room_is_taken_for_as_long_as_the_question_lasts() -> None:
    found = cluster()
    before = state(found)
    new, placed = pod("new", requests={"cpu": "1"}), pod("two", requests={"cpu": "2"})
    with with_pods(found, [(0, new, amounts_of(new)), (0, placed, amounts_of(placed))]):
        # The second has a node already, and stays there.
        assert found.view().requested("cpu").tolist() == [2000, 2000]
    assert state(found) == before


def test_questions_within_questions_are_undone_one_by_one() -> None:
    found = cluster()
    before = state(found)
    new = pod("new", requests={"cpu": "1"})
    with without(found, [found.pods["default/one"]]):
        with with_pods(found, [(0, new, amounts_of(new))]):
            assert found.view().requested("cpu").tolist() == [1000, 2000]
        assert found.view().requested("cpu").tolist() == [0, 2000]
        assert found.asking
    assert state(found) == before


@pytest.mark.parametrize("kind", ["unchanged", "without", "with"])
def test_a_question_that_fails_is_undone_all_the_same(kind: str) -> None:
    found = cluster()
    before = state(found)
    new = pod("new")
    question = {
        "unchanged": unchanged(found),
        "without": without(found, list(found.pods.values())),
        "with": with_pods(found, [(0, new, amounts_of(new))]),
    }[kind]
    with pytest.raises(RuntimeError), question:
        raise RuntimeError
    assert state(found) == before
