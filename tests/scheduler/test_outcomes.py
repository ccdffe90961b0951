"""How attempts end that bind nothing."""

import time
from typing import cast

import pytest

from cluster.api.client import ApiClient
from cluster.api.writer import ApiWriter
from filters.common.plugin import Event
from filters.node_ports import NodePorts
from latency.matrix import Matrix
from scheduler.attempt import SchedulingAttempt
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.reservation import PluginRefused
from scheduler.observe.metrics import Metrics
from scheduler.observe.reporter import Reporter
from scheduler.outcomes import ERROR, SCHEDULED, UNSCHEDULABLE, Outcomes
from scheduler.queue.scheduling_queue import QueueState, SchedulingQueue
from tests.harness.in_process import NoServer
from tests.harness.make import pod


class World:
    """One attempt under way."""

    def __init__(self) -> None:
        self.queue = SchedulingQueue()
        self.writer = ApiWriter(cast(ApiClient, NoServer()))
        self.metrics = Metrics(lambda: (), lambda: b"")
        reporter = Reporter(self.writer)
        reporter.enable()
        self.outcomes = Outcomes(self.queue, reporter, self.metrics)
        new = pod("p")
        self.queue.add(new, pod_info(new))
        queued = self.queue.pop()
        assert queued is not None
        framework = Framework(Profile("gsch"), Matrix())
        self.attempt = SchedulingAttempt(queued, pod_info(new), framework, time.perf_counter())

    def counted(self, result: str) -> bool:
        line = f'scheduler_schedule_attempts_total{{profile="gsch",result="{result}"}} 1.0'
        return line in self.metrics.text().decode()


def test_an_attempt_that_failed_is_made_again_after_a_backoff() -> None:
    world = World()
    world.outcomes.failed(world.attempt, "the server was away")
    assert world.attempt.queued.state is QueueState.BACKOFF
    assert world.counted(ERROR)
    # An event and a condition.
    assert len(world.writer) == 2


def test_a_pod_that_a_plugin_refused_waits_for_that_plugin_s_events_and_new_nodes() -> None:
    world = World()
    world.outcomes.refused(world.attempt, PluginRefused(NodePorts.NAME, "taken"))
    queued = world.attempt.queued
    assert queued.state is QueueState.UNSCHEDULABLE
    assert queued.plugins == {NodePorts.NAME}
    assert NodePorts.events in queued.waits_for
    assert world.counted(UNSCHEDULABLE)
    assert len(world.writer) == 2


def test_a_pod_that_was_refused_waits_for_a_new_node_whatever_the_plugin_waits_for() -> None:
    world = World()
    world.outcomes.refused(world.attempt, PluginRefused("ImageLocality", "x"))
    assert world.attempt.queued.waits_for == Event.NODE_ADD


@pytest.mark.parametrize("end", ["failed", "refused"])
def test_a_pod_that_was_deleted_during_its_attempt_is_counted_and_no_more(end: str) -> None:
    world = World()
    world.queue.delete(world.attempt.key)
    assert not world.outcomes.waits(world.attempt)
    if end == "failed":
        world.outcomes.failed(world.attempt, "x")
    else:
        world.outcomes.refused(world.attempt, PluginRefused(NodePorts.NAME, "x"))
    assert world.queue.pods == {}
    assert len(world.writer) == 0
    assert world.counted(ERROR if end == "failed" else UNSCHEDULABLE)


def test_a_pod_made_anew_under_the_name_is_not_the_attempt_s() -> None:
    world = World()
    world.queue.delete(world.attempt.key)
    new = pod("p")
    world.queue.add(new, pod_info(new))
    world.outcomes.failed(world.attempt, "x")
    assert world.queue.pods[new.key].state is QueueState.ACTIVE
    world.outcomes.count(world.attempt, SCHEDULED)
    assert world.counted(SCHEDULED)
