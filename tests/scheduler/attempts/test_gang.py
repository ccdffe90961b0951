"""Attempts of gangs: all members that are needed get a node, or none does."""

from typing import Any

import pytest

from cluster.api.reflector import EventType
from cluster.objects.core import Pod
from cluster.state.resource_types import put
from scheduler.queue.scheduling_queue import QueueState
from scheduler.scheduler import Scheduler
from tests.harness.in_process import scheduler, scheduling, until
from tests.harness.make import node, pod
from tests.harness.objects import read


def cluster(cpu: str, least: int) -> Scheduler:
    """One node, and the group of a gang."""
    made = scheduler()
    made.snapshot.set_node(node("a", cpu=cpu))
    group = {
        "kind": "PodGroup",
        "metadata": {"name": "team", "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": least}}},
    }
    put(made.snapshot, "PodGroup", read(group))
    return made


def arrive(made: Scheduler, count: int, **spec: Any) -> None:
    for number in range(count):
        made.feed.on_pod(EventType.ADDED, None, member(number, **spec))


def member(number: int, **spec: Any) -> Pod:
    fields: Any = {"requests": {"cpu": "1"}, "schedulingGroup": {"podGroupName": "team"}}
    return pod(f"m{number}", **fields, **spec)


def placed(made: Scheduler) -> list[str]:
    return sorted(made.snapshot.pods)


async def test_a_gang_waits_until_it_is_complete_and_is_then_placed_as_a_whole() -> None:
    made = cluster("4", least=3)
    async with scheduling(made):
        arrive(made, 2)
        assert {q.state for q in made.queue.pods.values()} == {QueueState.GATED}
        made.feed.on_pod(EventType.ADDED, None, member(2))
        await until(lambda: len(placed(made)) == 3)


async def test_a_gang_that_does_not_fit_holds_no_room_and_waits() -> None:
    made = cluster("2", least=3)
    async with scheduling(made):
        arrive(made, 3)
        await until(
            lambda: all(q.state is QueueState.UNSCHEDULABLE for q in made.queue.pods.values())
        )
        assert placed(made) == []
        assert all(q.attempts == 1 for q in made.queue.pods.values())
        made.feed.on_node(EventType.ADDED, None, node("b", cpu="1"))
        await until(lambda: len(placed(made)) == 3)


async def test_members_beyond_the_least_wait_where_there_is_no_room() -> None:
    made = cluster("2", least=2)
    async with scheduling(made):
        arrive(made, 3)
        await until(lambda: len(placed(made)) == 2)
        await until(lambda: made.queue.counts[QueueState.UNSCHEDULABLE] == 1)


async def test_a_bug_in_a_decision_costs_the_gang_a_backoff(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = cluster("4", least=2)

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("scheduler.joint.gangs.Gangs.settle", broken)
    async with scheduling(made):
        arrive(made, 2)
        await until(lambda: made.queue.counts[QueueState.BACKOFF] == 2)
        assert placed(made) == []
