"""Gangs: who is waited for, and that too few of them leave nothing behind."""

import statistics
import time

import pytest

from cluster.state.resource_types import put
from filters.common.plugin import PodInfo
from latency.matrix import Matrix
from scheduler.attempt import SchedulingAttempt
from scheduler.config.configuration import Profile
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle, Decision
from scheduler.joint.gangs import GangMember, Gangs
from scheduler.queue.scheduling_queue import QueueState, SchedulingQueue
from tests.harness.make import Json, node, pod, snapshot
from tests.harness.objects import read


class World:
    def __init__(self, least: int, cpus: int) -> None:
        self.snapshot = snapshot(node("a", cpu=str(cpus)))
        self.queue = SchedulingQueue()
        self.gangs = Gangs(self.snapshot, self.queue)
        group = {
            "kind": "PodGroup",
            "metadata": {"name": "g", "namespace": "default"},
            "spec": {"schedulingPolicy": {"gang": {"minCount": least}}},
        }
        put(self.snapshot, "PodGroup", read(group))

    def add(self, name: str, ready: bool = True) -> None:
        new = pod(name, requests={"cpu": "1"}, schedulingGroup={"podGroupName": "g"})
        if ready:
            self.queue.add(new, PodInfo.of(new))
        else:
            self.queue.add(new, None if self.gangs.waits(new) else PodInfo.of(new))

    def decide(self) -> tuple[int, bool, str]:
        """How many members were decided, whether that was enough, and what is said."""
        first = self.queue.pop()
        assert first is not None
        cycle, framework = Cycle(self.snapshot, seed=1), Framework(Profile("gsch"), Matrix())

        def decide(attempt: SchedulingAttempt) -> Decision:
            return cycle.decide(framework, attempt.info)

        attempts = [
            SchedulingAttempt(queued, queued.info, framework, 0.0)
            for queued in self.gangs.members(first)
            if queued.info is not None
        ]
        found = list[GangMember]()
        for _ in self.gangs.decide(attempts, decide, found):
            pass
        enough = self.gangs.settle(attempts[0], found)
        return len(found), enough, self.gangs.message(attempts[0], found)

    @property
    def used(self) -> int:
        return int(self.snapshot.view().requested("cpu")[0])


def test_members_are_waited_for_and_then_looked_at_together() -> None:
    world = World(least=3, cpus=4)
    new = pod("p0", schedulingGroup={"podGroupName": "g"})
    assert "minCount" in world.gangs.waits(new)
    for number in range(2):
        world.add(f"p{number}", ready=False)
    assert world.queue.counts[QueueState.GATED] == 2
    world.add("p2", ready=False)
    world.gangs.changed("default/g", PodInfo.of)
    assert world.queue.counts[QueueState.ACTIVE] == 3
    assert world.decide()[:2] == (3, True)
    assert world.used == 3000


def test_a_group_that_is_not_there_is_waited_for() -> None:
    world = World(least=1, cpus=1)
    stray = pod("p", schedulingGroup={"podGroupName": "other"})
    assert 'pod group "other"' in world.gangs.waits(stray)
    world.queue.add(stray, None)
    world.gangs.changed("default/other", PodInfo.of)
    assert world.queue.counts[QueueState.GATED] == 1
    assert world.gangs.waits(pod("single")) == ""
    assert world.gangs.least(pod("single")) == 0


def test_too_few_that_fit_leave_nothing_assumed() -> None:
    world = World(least=3, cpus=2)
    for number in range(3):
        world.add(f"p{number}")
    decided, enough, message = world.decide()
    assert (decided, enough) == (3, False)
    assert world.used == 0
    assert message == (
        "gang default/g needs 3 pods at once and 2 fit: 0/1 nodes are available: "
        "1 Insufficient cpu."
    )


def test_members_beyond_the_least_may_come_later() -> None:
    world = World(least=2, cpus=2)
    for number in range(3):
        world.add(f"p{number}")
    assert world.decide()[:2] == (3, True)
    assert world.used == 2000


def test_a_gang_of_thousands_arrives_in_linear_time() -> None:
    """Neither a member that comes early nor one that comes late has the others counted again."""
    for least in (3000, 10):
        world = World(least=least, cpus=4)
        seconds = []
        for number in range(3000):
            started = time.process_time()
            world.add(f"p{number}", ready=False)
            world.gangs.changed("default/g", PodInfo.of)
            seconds.append(time.process_time() - started)
        assert world.queue.counts[QueueState.ACTIVE] == 3000
        # On c68a26d a member late in the gang took 30 times as long as an early one.
        assert statistics.median(seconds[-1000:-1]) < 5 * statistics.median(seconds[20:120])


def test_nothing_is_kept_of_members_that_came_and_went() -> None:
    world = World(least=3, cpus=4)
    for number in range(1000):
        world.add(f"p{number}", ready=False)
        world.queue.delete(f"default/p{number}")
        world.gangs.forget(f"default/p{number}")
    world.add("a", ready=False)
    world.add("b", ready=False)
    world.gangs.changed("default/g", PodInfo.of)
    assert world.queue.counts[QueueState.ACTIVE] == 0
    world.add("c", ready=False)
    world.gangs.changed("default/g", PodInfo.of)
    assert world.queue.counts[QueueState.ACTIVE] == 3


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"schedulingConstraints": {"topology": [{"key": "rack"}]}}, "schedulingConstraints"),
        ({"resourceClaims": [{"name": "gpus"}]}, "resourceClaims"),
        ({"disruptionMode": "PodGroup"}, "disruptionMode"),
        ({"priorityClassName": "high"}, "priorityClassName"),
    ],
)
def test_what_a_group_asks_for_and_nothing_honours_is_refused_by_name(
    fields: Json, name: str
) -> None:
    world = World(least=1, cpus=4)
    group = {
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 1}}, **fields},
    }
    put(world.snapshot, "PodGroup", read(group))
    why = world.gangs.waits(pod("p", schedulingGroup={"podGroupName": "g"}))
    assert why == f'pod group "g" asks for what nothing here honours: {name}'
