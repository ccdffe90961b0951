"""How near nodes are, as a profile's latency plugin has it."""

import json

import numpy as np

from filters.low_latency import LowLatency
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.config.configuration import PluginChoice, PluginRef, Plugins, Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.latency_queries import LatencyQueries
from tests.harness.make import node, pod, snapshot

NEAR = json.dumps({"priority": "GLowLatencyPriority", "option": {"sourceNode": "a"}})


def matrix() -> Matrix:
    found = Matrix()
    found.replace(Readings.of([Pair("a", "b", 7.0)]))
    return found


def test_a_profile_knows_how_far_nodes_are_from_a_pod_s_source() -> None:
    found = snapshot(node("a"), node("b"), node("c"))
    queries = Framework(Profile("gsch"), matrix()).latency
    times = queries.times(pod_info(pod(config=NEAR)), found)
    assert times is not None
    np.testing.assert_array_equal(times, [0.0, 7.0, np.nan])
    nearness = queries.nearness(pod_info(pod(config=NEAR)), found)
    assert nearness is not None
    assert nearness.times[:2].tolist() == [0.0, 7.0]
    from_b = queries.from_node("b", found)
    assert from_b is not None
    assert from_b.times[:2].tolist() == [7.0, 0.0]
    assert queries.resolution_ms > 0


def test_a_pod_that_is_to_be_near_to_nothing_has_no_times() -> None:
    found = snapshot(node("a"))
    queries = Framework(Profile("gsch"), matrix()).latency
    assert queries.times(pod_info(pod()), found) is None
    assert queries.nearness(pod_info(pod()), found) is None


def test_a_profile_without_the_plugin_knows_of_nothing_near() -> None:
    found = snapshot(node("a"))
    without = Plugins(multi_point=PluginChoice(disabled=(PluginRef(LowLatency.NAME),)))
    for queries in (LatencyQueries([]), Framework(Profile("gsch", without), matrix()).latency):
        assert queries.resolution_ms == 0.0
        assert queries.times(pod_info(pod(config=NEAR)), found) is None
        assert queries.nearness(pod_info(pod(config=NEAR)), found) is None
        assert queries.from_node("a", found) is None
