"""A bug in a plugin costs the pod that it is about, never the process or what others hold."""

import asyncio
from typing import Any

import msgspec

from cluster.api.reflector import EventType
from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from filters.common.plugin import Event, Plugin, PodInfo, Prepared
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import Framework
from scheduler.cycle.reservation import Reservation
from scheduler.queue.events import ClusterEvent
from scheduler.queue.scheduling_queue import QueueState
from scheduler.scheduler import Scheduler
from tests.harness.in_process import enqueue, scheduler, scheduling, until
from tests.harness.make import node, pod


def framework(made: Scheduler) -> Framework:
    return made.frameworks[Configuration().profiles[0].scheduler_name]


def one_node() -> Scheduler:
    made = scheduler()
    made.snapshot.set_node(node("n", cpu="4"))
    return made


class Broken(Plugin):
    """Fails wherever it is asked."""

    NAME = "Broken"
    events = Event.NODE_TAINT

    def post_filter(self, info: PodInfo, snapshot: Snapshot) -> None:
        raise RuntimeError("post_filter")

    def unreserve(self, info: PodInfo, held: Any, snapshot: Snapshot) -> None:
        raise RuntimeError("unreserve")

    def reserve(
        self, info: PodInfo, prepared: Prepared[Any] | None, snapshot: Snapshot, row: int
    ) -> Any:
        return "held"


class Keeps(Broken):
    """Counts what it holds."""

    NAME = "Keeps"

    def __init__(self) -> None:
        self.held = 1

    def unreserve(self, info: PodInfo, held: Any, snapshot: Snapshot) -> None:
        self.held -= 1


class Waits(Plugin):
    """Holds every pod at Permit."""

    NAME = "Waits"
    events = Event.NODE_TAINT

    def __init__(self) -> None:
        self.asked = 0

    def permit(self, info: PodInfo, held: Any, snapshot: Snapshot, row: int) -> float:
        self.asked += 1
        return 600.0


async def test_a_post_filter_that_fails_sends_its_pod_into_backoff_and_others_go_on() -> None:
    made = one_node()
    framework(made).post_filters = (Broken(),)
    enqueue(made, pod("large", requests={"cpu": "9"}))
    enqueue(made, pod("small", requests={"cpu": "1"}))
    async with scheduling(made):
        await until(lambda: made.snapshot.holds("default/small", "uid-small"), 10)
        assert made.queue.pods["default/large"].state is QueueState.BACKOFF


async def test_what_follows_a_search_may_fail_too() -> None:
    made = one_node()
    made.snapshot.set_pod(pod("low", nodeName="n", requests={"cpu": "4"}, priority=1))

    def fail(*_: Any) -> str:
        raise RuntimeError("carry_out")

    made.preemptor.carry_out = fail  # type: ignore[method-assign,assignment]
    enqueue(made, pod("high", requests={"cpu": "2"}, priority=9))
    enqueue(made, pod("none", requests={"cpu": "0"}, priority=1))
    async with scheduling(made):
        await until(lambda: made.snapshot.holds("default/none", "uid-none"), 10)
        assert made.queue.pods["default/high"].state is QueueState.BACKOFF


def test_a_plugin_that_fails_to_unreserve_keeps_no_other_from_it() -> None:
    keeps = Keeps()
    info = PodInfo.of(pod("p"))
    Reservation(info, "n", [(keeps, 1), (Broken(), 1)]).unreserve(Snapshot())
    assert keeps.held == 0


async def test_nothing_is_kept_of_a_pod_that_is_deleted_while_it_waits_at_permit() -> None:
    made = one_node()
    waits = Waits()
    framework(made).permits = (waits,)
    waiting = pod("p", requests={"cpu": "1"})
    enqueue(made, waiting)
    async with scheduling(made):
        await until(lambda: waits.asked == 1, 10)
        await until(lambda: len(made.handle.waiting_pods()) == 1, 10)
        deleted(made, waiting)
        await until(lambda: not len(made.binding), 10)
    assert made.handle.waiting_pods() == []
    assert not made.snapshot.pods
    assert not made.nominator.given_up
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_pod_made_anew_under_its_name_is_given_up_for_a_preemptor() -> None:
    """The old one's end, which comes late, is not taken for the new one's."""
    made = one_node()
    waits = Waits()
    framework(made).permits = (waits,)
    old = pod("p", requests={"cpu": "3"})
    new = msgspec.structs.replace(old, metadata=msgspec.structs.replace(old.metadata, uid="new"))
    async with scheduling(made):
        enqueue(made, old)
        await until(lambda: waits.asked == 1, 10)
        deleted(made, old)
        enqueue(made, new)
        await until(lambda: made.snapshot.holds("default/p", "new"), 10)
        enqueue(made, pod("high", requests={"cpu": "3"}, priority=9))
        await until(lambda: made.snapshot.holds("default/high", "uid-high"), 10)
    assert not made.snapshot.holds("default/p", "new")
    assert made.queue.pods["default/p"].pod.metadata.uid == "new"


def deleted(made: Scheduler, gone: Pod) -> None:
    made.feed.on_pod(EventType.DELETED, gone, None)


async def test_events_missed_at_permit_bring_a_refused_pod_back() -> None:
    made = one_node()
    waits = Waits()
    framework(made).permits = (waits,)
    framework(made).instances += (waits,)
    enqueue(made, pod("p", requests={"cpu": "1"}))
    async with scheduling(made):
        await until(lambda: len(made.handle.waiting_pods()) == 1, 10)
        made.queue.move(ClusterEvent(Event.NODE_TAINT, "NodeTaintChange"))
        made.handle.reject("uid-p", "Waits", "no")
        await until(lambda: waits.asked == 2, 10)
