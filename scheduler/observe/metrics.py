"""Prometheus metrics under kube-scheduler's own names, so that its dashboards work."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

ATTEMPT_BUCKETS = tuple(0.001 * 2**n for n in range(15))
SLI_BUCKETS = tuple(0.01 * 2**n for n in range(20))
COUNT_BUCKETS = (1, 2, 4, 8, 16)
VICTIM_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
POINT_BUCKETS = tuple(0.0001 * 2**n for n in range(12))

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Gauges = Callable[[], Iterable[Metric]]


class Metrics:
    """The scheduler's metrics. Result is one of scheduled, unschedulable, error. `more` writes
    further ones."""

    def __init__(self, gauges: Gauges, more: Callable[[], bytes]) -> None:
        self.registry, self._more = CollectorRegistry(), more
        self.registry.register(_Gauges(gauges))
        self._attempts = Counter(
            "scheduler_schedule_attempts",
            "Attempts to schedule pods, by result",
            ["result", "profile"],
            registry=self.registry,
        )
        self._attempt_seconds = Histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "Time of one attempt: scheduling cycle and binding",
            ["result", "profile"],
            buckets=ATTEMPT_BUCKETS,
            registry=self.registry,
        )
        self._point_seconds = Histogram(
            "scheduler_framework_extension_point_duration_seconds",
            "Time of an extension point; Filter is filter and score, which run together",
            ["extension_point", "status", "profile"],
            buckets=POINT_BUCKETS,
            registry=self.registry,
        )
        self._pod_attempts = Histogram(
            "scheduler_pod_scheduling_attempts",
            "Attempts that a pod took until it was scheduled",
            buckets=COUNT_BUCKETS,
            registry=self.registry,
        )
        self._sli_seconds = Histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Time from a pod's first sight to its binding",
            ["attempts"],
            buckets=SLI_BUCKETS,
            registry=self.registry,
        )
        self._incoming = Counter(
            "scheduler_queue_incoming_pods",
            "Pods that entered a queue, by the event that brought them",
            ["queue", "event"],
            registry=self.registry,
        )
        self.preemption_attempts = Counter(
            "scheduler_preemption_attempts",
            "Preemption attempts",
            registry=self.registry,
        )
        self.preemption_victims = Histogram(
            "scheduler_preemption_victims",
            "Pods preempted in one attempt",
            buckets=VICTIM_BUCKETS,
            registry=self.registry,
        )
        # A child of a labelled metric costs a lock and a dictionary to find: keep those in use.
        self._attempt_children = lru_cache(maxsize=256)(self._find_attempt)
        self._incoming_child = lru_cache(maxsize=256)(self._find_incoming)
        self._point_child = lru_cache(maxsize=256)(self._find_point)

    def _find_attempt(self, result: str, profile: str) -> tuple[Counter, Histogram]:
        return self._attempts.labels(result, profile), self._attempt_seconds.labels(result, profile)

    def _find_incoming(self, queue: str, event: str) -> Counter:
        return self._incoming.labels(queue, event)

    def _find_point(self, point: str, status: str, profile: str) -> Histogram:
        return self._point_seconds.labels(point, status, profile)

    def attempt(self, result: str, profile: str, seconds: float) -> None:
        counter, histogram = self._attempt_children(result, profile)
        counter.inc()
        histogram.observe(seconds)

    def point(self, point: str, status: str, profile: str, seconds: float) -> None:
        self._point_child(point, status, profile).observe(seconds)

    def scheduled(self, attempts: int, seconds: float) -> None:
        """A pod was bound after so many attempts, so long after it was first seen."""
        self._pod_attempts.observe(attempts)
        label = str(attempts) if attempts < 15 else "15+"
        self._sli_seconds.labels(label).observe(seconds)

    def incoming(self, queue: str, event: str) -> None:
        self._incoming_child(queue, event).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry) + self._more()


class _Gauges:
    """Numbers that are read off at the moment of a scrape."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()

    def describe(self) -> list[Metric]:
        return []


def samples(metric: Metric) -> tuple[bytes, list[bytes]]:
    """The metric in Prometheus' text format: its head, and a line for each sample."""
    registry = CollectorRegistry()
    registry.register(_Gauges(lambda: [metric]))
    lines = generate_latest(registry).splitlines(keepends=True)
    return b"".join(lines[:2]), lines[2:]


def gauge(
    name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]
) -> Metric:
    """A gauge with one sample for each (label values, value)."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
