"""How attempts end that bind nothing: the pod's place in the queue, its event and condition, and
the metrics."""

import time

from filters.common.plugin import Event
from scheduler.attempt import SchedulingAttempt
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.reservation import PluginRefused
from scheduler.observe.metrics import Metrics
from scheduler.observe.reporter import Reporter
from scheduler.queue.scheduling_queue import SchedulingQueue

SCHEDULED, UNSCHEDULABLE, ERROR = "scheduled", "unschedulable", "error"
"""Results of an attempt, as upstream's metrics name them."""


class Outcomes:
    """A pod that was deleted during its attempt is counted, and no more."""

    def __init__(self, queue: SchedulingQueue, reporter: Reporter, metrics: Metrics) -> None:
        self._queue, self._reporter, self._metrics = queue, reporter, metrics

    def waits(self, attempt: SchedulingAttempt) -> bool:
        """Whether the pod is still there."""
        return self._queue.pods.get(attempt.key) is attempt.queued

    def failed(self, attempt: SchedulingAttempt, why: str) -> None:
        """For a reason that is not the nodes': tried again after a backoff."""
        if self.waits(attempt):
            self._queue.back_off(attempt.queued)
            self._reporter.failed(attempt.pod, why)
        self.count(attempt, ERROR)

    def refused(self, attempt: SchedulingAttempt, refusal: PluginRefused) -> None:
        """By a plugin, after the node was chosen: the pod waits for that plugin's events."""
        plugins = frozenset((refusal.plugin,))
        if self.waits(attempt):
            events = attempt.framework.events(plugins) | Event.NODE_ADD
            self._queue.unschedulable(attempt.queued, events, plugins)
            message = Diagnosis(1, {str(refusal): 1}, plugins).message
            self._reporter.unschedulable(attempt.pod, message)
        self.count(attempt, UNSCHEDULABLE)

    def count(self, attempt: SchedulingAttempt, result: str) -> None:
        """The attempt is over."""
        seconds = time.perf_counter() - attempt.started
        self._metrics.attempt(result, attempt.pod.spec.scheduler_name, seconds)
