"""Nearness as a score: what weights make of round-trip times."""

from filters.common.handle import Handle
from filters.common.plugin import PodInfo
from filters.low_latency import LowLatency
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.config.gschconfig import LOW_LATENCY
from tests.harness.make import node, pod, snapshot

NEAR = [Pair("src", "a", 1), Pair("src", "b", 5), Pair("src", "c", 20)]


def scores(*pairs: Pair) -> list[int]:
    matrix = Matrix()
    matrix.replace(Readings.of(list(pairs)))
    plugin = LowLatency()
    plugin.handle = Handle(matrix)
    world = snapshot(*(node(pair.target) for pair in pairs))
    weights = {"latency": 100.0}
    info = PodInfo.of(pod("p"), policy=LOW_LATENCY, near_node="src", weights=weights)
    state = plugin.pre_score(info, world)
    assert state is not None
    by_row: list[int] = plugin.score(state, world.view()).tolist()
    return by_row


def test_one_far_node_does_not_make_all_others_alike() -> None:
    one, five, twenty, far = scores(*NEAR, Pair("src", "d", 500))
    assert one - five >= 10
    assert five - twenty >= 10
    assert twenty - far >= 10


def test_a_node_s_score_does_not_depend_on_the_others() -> None:
    assert scores(*NEAR) == scores(*NEAR, Pair("src", "d", 500))[:3]
