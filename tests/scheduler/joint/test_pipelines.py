"""Who belongs to a pipeline, who waits for whom, and beside whom a pod is placed."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from cluster.objects.core import OwnerReference, Pod
from cluster.state.snapshot import Snapshot
from filters.common.handle import Handle
from filters.common.plugin import PodInfo
from filters.low_latency import LowLatency
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.attempt import SchedulingAttempt
from scheduler.config.configuration import Profile
from scheduler.config.gschconfig import LOW_LATENCY
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.joint.pipelines import HOLD_S, MAX_AT_ONCE, QUIET_S, Pipelines
from scheduler.joint.problem import Placed
from scheduler.joint.solver import solve
from scheduler.offline.rebalance import MoveLimits, find
from scheduler.queue.scheduling_queue import QueuedPod, SchedulingQueue
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import row_of

LINE = ("n0", "n1", "n2", "n3")
PAIRS = [Pair(a, b, 5.0 * (j - i)) for i, a in enumerate(LINE) for j, b in enumerate(LINE) if i < j]


class World:
    """A queue, a snapshot of nodes in a row, and a clock."""

    def __init__(self, pairs: list[Pair] = PAIRS) -> None:
        self.now = 0.0
        self.snapshot: Snapshot = snapshot(*(node(name) for name in LINE))
        self.queue = SchedulingQueue(clock=lambda: self.now)
        self.pipelines = Pipelines(self.snapshot, self.queue, clock=lambda: self.now)
        self.matrix = Matrix()
        self.matrix.replace(Readings.of(pairs))
        self.framework = Framework(Profile("gsch"), self.matrix)
        self.cycle = Cycle(self.snapshot, seed=1)

    def pending(self, name: str, **option: Any) -> QueuedPod:
        made = member(name, **option)
        found = pod_info(made)
        self.pipelines.waiting(made.key, found.member)
        self.queue.add(made, found)
        return self.queue.pods[made.key]

    def running(self, name: str, on: str, **option: Any) -> Pod:
        made = member(name, on, **option)
        self.snapshot.set_pod(made)
        self.pipelines.bound(made)
        return made

    def placed(self, first: QueuedPod) -> dict[str, Placed]:
        self.queue.take(first)
        members = self.pipelines.members(first)
        attempts = [
            SchedulingAttempt(queued, queued.info, self.framework, 0.0)
            for queued in members
            if queued.info is not None
        ]
        plan = self.pipelines.plan(
            attempts, lambda attempt: self.cycle.trial(attempt.framework, attempt.info)
        )
        nodes = solve(plan.problem) if plan is not None else None
        return plan.placed(nodes) if plan is not None and nodes else {}

    def plan(self, first: QueuedPod) -> dict[str, str]:
        found = self.placed(first)
        return {key: placed.node for key, placed in found.items()}


def member(name: str, on: str = "", **option: Any) -> Pod:
    config = {"priority": "GLowLatencyPriority", "option": {"pipeline": "p", **option}}
    fields: dict[str, Any] = {"nodeName": on} if on else {}
    return pod(name, config=json.dumps(config), **fields)


def test_the_first_waits_for_the_stages_that_are_named_and_not_for_ever() -> None:
    world = World()
    first = world.pending("a", stage="a", stages=["a", "b"])
    assert 0 < world.pipelines.wait(first) <= HOLD_S
    world.pending("b", stage="b", stages=["a", "b"])
    assert world.pipelines.wait(first) == 0
    lonely = World()
    first = lonely.pending("a", stage="a", dependsOn=["b"])
    assert lonely.pipelines.wait(first) > 0
    lonely.now = HOLD_S
    assert lonely.pipelines.wait(first) == 0


def test_the_hold_counts_from_when_the_pod_may_be_scheduled() -> None:
    world = World()
    gated = member("a", stage="a", stages=["a", "b"])
    world.queue.add(gated, None)
    world.now = 100.0
    found = pod_info(gated)
    world.pipelines.waiting(gated.key, found.member)
    world.queue.update(gated, found)
    assert world.pipelines.wait(world.queue.pods[gated.key]) > 0


def test_without_a_list_of_stages_it_waits_until_nobody_else_comes() -> None:
    world = World()
    first = world.pending("a", stage="a")
    assert world.pipelines.wait(first) == QUIET_S
    world.now = QUIET_S - 0.1
    world.pending("b", stage="b", dependsOn=["a"])
    assert world.pipelines.wait(first) == QUIET_S
    world.now += QUIET_S
    assert world.pipelines.wait(first) == 0


def test_a_mate_that_is_on_its_way_out_draws_nobody_to_it() -> None:
    world = World()
    old = world.running("old", "n3", stage="b", dependsOn=[{"stage": "a"}])
    going = msgspec.structs.replace(
        old,
        metadata=msgspec.structs.replace(old.metadata, deletion_timestamp="2026-01-01T00:00:00Z"),
    )
    world.pipelines.bound(going)
    talks = [{"node": "n0"}]
    first = world.pending("a", stage="a", stages=["a", "b"], dependsOn=talks)
    assert world.pipelines.wait(first) > 0
    world.pending("b", stage="b", stages=["a", "b"], dependsOn=["a"])
    assert world.plan(first) == {"default/a": "n0", "default/b": "n0"}


def test_a_mate_whose_bind_is_under_way_counts_as_placed() -> None:
    world = World()
    first = world.pending("a", stage="a")
    world.queue.take(first)
    found = first.info
    assert found is not None
    world.snapshot.assume(first.pod, found.needs, row_of(world.snapshot, "n2"))
    second = world.pending("b", stage="b", dependsOn=["a"])
    assert world.pipelines.wait(second) == 0
    assert world.plan(second) == {"default/b": "n2"}


def test_members_of_a_gang_are_left_to_their_gang() -> None:
    world = World()
    first = world.pending("a", stage="a")
    member = world.pending("b", stage="b")
    member.pod = msgspec.structs.replace(
        member.pod,
        spec=msgspec.structs.replace(
            member.pod.spec,
            scheduling_group=msgspec.convert(
                {"podGroupName": "g"},
                type(pod("x", schedulingGroup={"podGroupName": "g"}).spec.scheduling_group),
            ),
        ),
    )
    assert member.pod.group
    world.queue.take(first)
    assert world.pipelines.members(first) == [first]


def test_a_very_large_pipeline_comes_in_turns() -> None:
    world = World()
    pods = [world.pending(f"a{number:02}", stage="a") for number in range(MAX_AT_ONCE + 5)]
    world.queue.take(pods[0])
    assert len(world.pipelines.members(pods[0])) == MAX_AT_ONCE


def test_a_pod_that_is_gone_leaves_no_trace() -> None:
    world = World()
    world.pending("a", stage="a")
    world.running("b", "n1", stage="b")
    world.pipelines.forget("default/a")
    world.pipelines.forget("default/b")
    assert len(world.pipelines) == 0


# -- what is not known -----------------------------------------------------------------------


def test_a_limit_does_not_refuse_by_a_guess_and_labels_that_come_later_count() -> None:
    zone = "topology.kubernetes.io/zone"
    matrix = Matrix()
    matrix.replace(Readings.of([Pair("gw", "far", 50.0)]))
    plugin = LowLatency()
    plugin.start(Handle(matrix))
    world = snapshot(node("far", labels={zone: "z"}), node("unmeasured"))
    wanted = PodInfo.of(pod(), policy=LOW_LATENCY, near_node="gw", max_latency_ms=8.0)
    before = plugin.nearness(wanted, world)
    assert before is not None
    assert np.isnan(before.times[1])
    world.set_node(node("unmeasured", labels={zone: "z"}))
    after = plugin.nearness(wanted, world)
    assert after is not None
    assert (after.times[1], bool(after.estimated[1])) == (50.0, True)
    prepared = plugin.pre_filter(wanted, world)
    refused = plugin.filter(prepared, world.view()) != 0  # type: ignore[arg-type]
    assert refused.tolist() == [True, False]


@pytest.mark.parametrize(
    ("pairs", "moved"),
    [
        (PAIRS, True),
        # Of its own node nothing is known, or of no node at all: an agent is away, say.
        ([pair for pair in PAIRS if "n3" not in (pair.source, pair.target)], False),
        ([], False),
    ],
)
def test_no_pod_is_moved_on_a_guess(pairs: list[Pair], moved: bool) -> None:
    world = World(pairs)
    running = world.running("a", "n3", stage="a", dependsOn=[{"node": "n0", "callsPerSecond": 25}])
    owner = OwnerReference("v1", "ReplicaSet", "a", "u", controller=True)
    made = msgspec.structs.replace(
        running,
        metadata=msgspec.structs.replace(running.metadata, owner_references=[owner]),
        status=msgspec.structs.replace(running.status, start_time="2026-01-01T00:00:00Z"),
    )
    moves = find([made], world.snapshot, {"gsch": world.framework}, MoveLimits())
    assert bool(moves) is moved
    if moved:
        assert (moves[0].steps[0].source, moves[0].steps[0].target) == ("n3", "n0")


@pytest.mark.parametrize(("pairs", "guessed"), [(PAIRS, False), ([], True)])
def test_a_plan_that_rests_on_guesses_says_so(pairs: list[Pair], guessed: bool) -> None:
    world = World(pairs)
    talks = [{"node": "n0"}]
    first = world.pending("a", stage="a", differentNodes=True, dependsOn=talks)
    world.pending("b", stage="b", differentNodes=True, dependsOn=["a"])
    found = world.placed(first)
    assert [placed.guessed for placed in found.values()] == [guessed, guessed]
