"""What nodes offer and what is asked of them, and the round-trip times, as pages."""

import json

from prometheus_client.parser import text_string_to_metric_families

from latency.matrix import FOREVER, Matrix, Readings
from latency.pairs import Pair
from scheduler.observe.node_resources import latency, text
from tests.harness.make import node, pod, snapshot

GI = 1024**3


def test_offers_and_requests_are_told_in_cores_bytes_and_counts() -> None:
    found = snapshot(
        node("a", cpu="1500m", memory="2Gi", nvidia__gpu="2"),
        node("gone"),
        node("b"),
        pods=(pod("p", requests={"cpu": "250m", "nvidia/gpu": "1"}, nodeName="a"),),
    )
    found.remove_node("gone")
    values = {
        (sample.name, sample.labels["node"], sample.labels["resource"]): sample.value
        for family in text_string_to_metric_families(text(found).decode())
        for sample in family.samples
    }
    assert values == {
        ("gsch_node_allocatable", "a", "cpu"): 1.5,
        ("gsch_node_allocatable", "a", "memory"): 2 * GI,
        ("gsch_node_allocatable", "a", "pods"): 110,
        ("gsch_node_allocatable", "a", "nvidia/gpu"): 2,
        ("gsch_node_allocatable", "b", "cpu"): 4,
        ("gsch_node_allocatable", "b", "memory"): 8 * GI,
        ("gsch_node_allocatable", "b", "pods"): 110,
        ("gsch_node_requested", "a", "cpu"): 0.25,
        ("gsch_node_requested", "a", "memory"): 0,
        ("gsch_node_requested", "a", "pods"): 1,
        ("gsch_node_requested", "a", "nvidia/gpu"): 1,
        ("gsch_node_requested", "b", "cpu"): 0,
        ("gsch_node_requested", "b", "memory"): 0,
        ("gsch_node_requested", "b", "pods"): 0,
    }


def test_round_trip_times_come_with_their_ages() -> None:
    def page(stamp: float) -> object:
        matrix = Matrix()
        matrix.replace(Readings.of([Pair("a", "b", 1.23456)], stamp))
        return json.loads(latency(matrix, now=1000.0))

    head = {"source": "a", "target": "b", "rtt_ms": 1.2346}
    assert page(990.25) == [{**head, "age_s": 9.8}]
    assert page(FOREVER) == [{**head, "age_s": None}]
    # Clocks of two machines may differ.
    assert page(1002.0) == [{**head, "age_s": 0.0}]
