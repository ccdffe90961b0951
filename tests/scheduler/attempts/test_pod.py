"""Attempts of single pods: what plugins may do after a node was found, and where none was."""

import json
from typing import Any

import pytest

from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from filters.common.plugin import Event, Plugin, PodInfo, PostFilterResult, Prepared, Refusal
from latency.matrix import Matrix
from scheduler.cycle.framework import Framework
from scheduler.observe.recent_decisions import RecentDecisions
from scheduler.queue.scheduling_queue import QueuedPod, QueueState
from scheduler.scheduler import Scheduler
from tests.harness.in_process import enqueue, scheduler, scheduling, until
from tests.harness.make import node, pod


def one_node(cpu: str = "4", matrix: Matrix | None = None) -> Scheduler:
    made = scheduler(matrix)
    made.snapshot.set_node(node("a", cpu=cpu))
    return made


def framework(made: Scheduler) -> Framework:
    return made.frameworks["gsch"]


def queued(made: Scheduler) -> QueuedPod:
    return made.queue.pods["default/p"]


async def attempted(made: Scheduler, new: Pod) -> None:
    """Until the first attempt of the pod has ended without a bind."""
    enqueue(made, new)
    async with scheduling(made):
        await until(
            lambda: queued(made).attempts > 0 and queued(made).state is not QueueState.IN_FLIGHT
        )


class Reserves(Plugin):
    """Ends a reservation as it is told."""

    NAME = "Reserves"
    events = Event.NODE_TAINT

    def __init__(self, error: Exception) -> None:
        self.error = error

    def unreserve(self, info: PodInfo, held: Any, snapshot: Snapshot) -> None:
        raise AssertionError("nothing was held")

    def reserve(
        self, info: PodInfo, prepared: Prepared[Any] | None, snapshot: Snapshot, row: int
    ) -> Any:
        raise self.error


async def test_a_pod_whose_reservation_is_refused_waits_for_that_plugin_s_events() -> None:
    made = one_node()
    framework(made).reserves = (Reserves(Refusal("no quota")),)
    await attempted(made, pod("p"))
    assert queued(made).state is QueueState.UNSCHEDULABLE
    assert queued(made).plugins == {"Reserves"}
    assert made.snapshot.pods == {}


async def test_a_bug_in_a_reservation_costs_the_pod_a_backoff() -> None:
    made = one_node()
    framework(made).reserves = (Reserves(ZeroDivisionError()),)
    await attempted(made, pod("p"))
    assert queued(made).state is QueueState.BACKOFF
    assert made.snapshot.pods == {}


class MakesRoom(Plugin):
    """Answers for pods that fit nowhere."""

    NAME = "MakesRoom"

    def __init__(self, result: PostFilterResult | None) -> None:
        self.result = result

    def post_filter(self, info: PodInfo, snapshot: Snapshot) -> PostFilterResult | None:
        return self.result


async def test_a_plugin_that_makes_room_nominates_the_pod_before_preemption_is_asked() -> None:
    made = one_node(cpu="1")
    made.snapshot.set_pod(pod("low", nodeName="a", requests={"cpu": "1"}))
    room = PostFilterResult(nominated="a")
    framework(made).post_filters = (MakesRoom(None), MakesRoom(room))
    await attempted(made, pod("p", requests={"cpu": "1"}, priority=9))
    assert made.nominator.row("default/p") == 0
    assert queued(made).state is QueueState.UNSCHEDULABLE
    assert not queued(made).held


async def test_what_a_plugin_has_to_say_is_added_to_what_the_owner_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def refused(self: RecentDecisions, pod: str, policy: str, why: str) -> None:
        told.append(why)

    monkeypatch.setattr(RecentDecisions, "refused", refused)
    made = one_node(cpu="1")
    more = PostFilterResult(message="more nodes are on order.")
    framework(made).post_filters = (MakesRoom(more),)
    await attempted(made, pod("p", requests={"cpu": "2"}))
    assert told == ["0/1 nodes are available: 1 Insufficient cpu. more nodes are on order."]


async def test_a_pod_that_fits_nowhere_waits_for_events_of_what_refused_it() -> None:
    made = one_node(cpu="1")
    await attempted(made, pod("p", requests={"cpu": "2"}))
    assert queued(made).plugins == {"NodeResourcesFit"}
    assert Event.NODE_ALLOCATABLE in queued(made).waits_for
    assert Event.NODE_ADD in queued(made).waits_for
    assert Event.NODE_LABEL not in queued(made).waits_for


async def test_a_nomination_that_came_to_nothing_is_given_up() -> None:
    made = one_node(cpu="1")
    new = pod("p", requests={"cpu": "2"})
    made.nominator.add(PodInfo.of(new), "a")
    await attempted(made, new)
    assert made.nominator.row("default/p") is None
    assert made.nominator.given_up == {"default/p": "a"}


async def test_a_pod_with_an_unknown_source_is_placed_all_the_same() -> None:
    made = one_node()
    config = {"priority": "GLowLatencyPriority", "option": {"sourceNode": "nowhere"}}
    enqueue(made, pod("p", config=json.dumps(config)))
    async with scheduling(made):
        await until(lambda: "default/p" in made.snapshot.pods)


async def test_a_bug_at_the_start_of_a_bind_gives_the_room_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = one_node()

    def begin(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(made.binding, "begin", begin)
    await attempted(made, pod("p"))
    assert queued(made).state is QueueState.BACKOFF
    assert made.snapshot.pods == {}
