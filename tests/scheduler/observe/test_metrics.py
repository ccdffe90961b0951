"""Metrics under kube-scheduler's names, as Prometheus reads them."""

from collections.abc import Iterable, Mapping

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from scheduler.observe.metrics import Metrics, gauge, samples


def metrics(*gauges: Metric, more: bytes = b"") -> Metrics:
    def now() -> Iterable[Metric]:
        return gauges

    return Metrics(now, lambda: more)


def value(found: Metrics, name: str, **labels: str) -> float | None:
    """The sample with exactly these labels."""
    for family in text_string_to_metric_families(found.text().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_attempts_are_counted_and_timed_by_result_and_profile() -> None:
    found = metrics()
    for seconds in (0.0005, 0.003):
        found.attempt("scheduled", "gsch", seconds)
    found.attempt("error", "gsch", 1)
    labels = {"result": "scheduled", "profile": "gsch"}
    assert value(found, "scheduler_schedule_attempts_total", **labels) == 2
    name = "scheduler_scheduling_attempt_duration_seconds"
    assert value(found, f"{name}_count", **labels) == 2
    assert value(found, f"{name}_sum", **labels) == pytest.approx(0.0035)
    assert value(found, f"{name}_bucket", le="0.001", **labels) == 1
    assert value(found, f"{name}_bucket", le="0.004", **labels) == 2


def test_extension_points_are_timed_by_point_and_status() -> None:
    found = metrics()
    found.point("Filter", "Success", "gsch", 0.0002)
    name = "scheduler_framework_extension_point_duration_seconds_count"
    labels: Mapping[str, str] = {
        "extension_point": "Filter", "status": "Success", "profile": "gsch",
    }  # fmt: skip
    assert value(found, name, **labels) == 1


def test_a_scheduled_pod_counts_by_its_attempts() -> None:
    found = metrics()
    found.scheduled(3, 0.5)
    assert value(found, "scheduler_pod_scheduling_attempts_sum") == 3
    assert value(found, "scheduler_pod_scheduling_sli_duration_seconds_sum", attempts="3") == 0.5


def test_numbers_of_many_attempts_share_a_label() -> None:
    found = metrics()
    for attempts in (99, 100):
        found.scheduled(attempts, 1)
    names = [
        sample.labels["attempts"]
        for family in text_string_to_metric_families(found.text().decode())
        for sample in family.samples
        if sample.name == "scheduler_pod_scheduling_sli_duration_seconds_count"
    ]
    assert len(names) == 1
    assert names[0].endswith("+")


def test_pods_that_enter_a_queue_count_by_the_event_that_brought_them() -> None:
    found = metrics()
    found.incoming("active", "PodAdd")
    found.incoming("active", "PodAdd")
    labels = {"queue": "active", "event": "PodAdd"}
    assert value(found, "scheduler_queue_incoming_pods_total", **labels) == 2


def test_gauges_are_looked_up_at_every_scrape() -> None:
    waiting = [1.0]
    found = Metrics(lambda: [gauge("waiting", "Text", [], [([], waiting[0])])], lambda: b"")
    assert value(found, "waiting") == 1
    waiting[0] = 5
    assert value(found, "waiting") == 5


def test_what_others_write_comes_at_the_end_of_the_page() -> None:
    more = b"# TYPE extra gauge\nextra 4\n"
    found = metrics(more=more)
    assert found.text().endswith(more)
    assert value(found, "extra") == 4


def test_a_metric_s_head_and_samples_come_apart() -> None:
    head, lines = samples(gauge("g", "Text", ["x"], [(["a"], 1), (['b"\n'], 2.5)]))
    assert head == b"# HELP g Text\n# TYPE g gauge\n"
    assert lines == [b'g{x="a"} 1.0\n', b'g{x="b\\"\\n"} 2.5\n']
