"""Taints: which would have to be tolerated, and how soft ones score."""

from typing import Any

from filters.common.plugin import PodInfo
from filters.taint_toleration import MAX_KEPT, TaintToleration
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import scores

HARD: Any = {"key": "hard", "value": "v", "effect": "NoSchedule"}
GONE: Any = {"key": "gone", "effect": "NoExecute"}
SOFT: Any = {"key": "soft", "effect": "PreferNoSchedule"}
SOFTER: Any = {"key": "softer", "effect": "PreferNoSchedule"}


def test_the_taints_that_keep_a_pod_away_are_named() -> None:
    plugin, found = TaintToleration(), snapshot(node("a", taints=[HARD, SOFT, GONE]), node("b"))
    tolerations = [{"key": "gone", "operator": "Exists"}]
    for own, texts in (
        (
            [],
            [
                "a toleration of the taint hard=v:NoSchedule",
                "a toleration of the taint gone:NoExecute",
            ],
        ),
        (tolerations, ["a toleration of the taint hard=v:NoSchedule"]),
    ):
        prepared = plugin.pre_filter(PodInfo.of(pod(tolerations=own)), found)
        assert prepared is not None
        assert [remedy.text for remedy in plugin.remedies(prepared, found, 0)] == texts
        assert plugin.remedies(prepared, found, 1) == []


def test_nodes_with_fewer_soft_taints_score_more() -> None:
    nodes = node("none"), node("one", taints=[SOFT]), node("two", taints=[SOFT, SOFTER])
    assert scores("TaintToleration", pod(), *nodes) == [100, 50, 0]
    tolerated = [{"key": "soft", "operator": "Exists", "effect": "PreferNoSchedule"}]
    assert scores("TaintToleration", pod(tolerations=tolerated), *nodes) == [100, 100, 0]
    # A toleration of another effect is none of a soft taint.
    other = [{"key": "soft", "operator": "Exists", "effect": "NoSchedule"}]
    assert scores("TaintToleration", pod(tolerations=other), *nodes) == [100, 50, 0]


def test_counts_follow_the_taints_that_come_and_go() -> None:
    plugin, found = TaintToleration(), snapshot(node("a", taints=[HARD]), node("b"))
    new = PodInfo.of(pod())

    def refused() -> list[bool]:
        prepared = plugin.pre_filter(new, found)
        assert prepared is not None
        return [bool(bits) for bits in plugin.filter(prepared, found.view())]

    assert refused() == [True, False]
    # The number of the set of taints that is gone comes to mean another one.
    found.set_node(node("a"))
    found.set_node(node("b", taints=[SOFT]))
    assert refused() == [False, False]
    found.set_node(node("a", taints=[GONE]))
    assert refused() == [True, False]


def test_pods_with_ever_new_tolerations_are_judged_by_their_own() -> None:
    plugin, found = TaintToleration(), snapshot(node("a", taints=[HARD]))
    for number in range(2 * MAX_KEPT):
        value = "v" if number % 2 else f"v{number}"
        own = [{"key": "hard", "value": value}, {"key": f"k{number}", "operator": "Exists"}]
        prepared = plugin.pre_filter(PodInfo.of(pod(tolerations=own)), found)
        assert prepared is not None
        assert bool(plugin.filter(prepared, found.view())[0]) is (number % 2 == 0)
