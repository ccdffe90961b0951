import asyncio
import gc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from filters.common.plugin import Event, PodInfo
from scheduler.queue.events import ClusterEvent
from scheduler.queue.scheduling_queue import Delays, QueuedPod, QueueState, SchedulingQueue
from tests.harness.make import pod


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[SchedulingQueue, Clock]:
    clock = Clock()
    return SchedulingQueue(Delays(1.0, 10.0), clock), clock


def add(found: SchedulingQueue, name: str, priority: int = 0) -> QueuedPod:
    new = pod(name, priority=priority)
    return found.add(new, PodInfo.of(new))


def popped(found: SchedulingQueue) -> QueuedPod:
    queued = found.pop()
    assert queued is not None
    return queued


def test_priority_goes_before_age_and_age_before_the_rest() -> None:
    found, clock = queue()
    add(found, "old")
    clock.now += 1
    add(found, "young")
    add(found, "urgent", priority=5)
    assert [popped(found).pod.metadata.name for _ in range(3)] == ["urgent", "old", "young"]
    assert found.pop() is None


def test_an_unschedulable_pod_waits_for_its_own_events_only() -> None:
    found, clock = queue()
    add(found, "p")
    found.unschedulable(popped(found), Event.NODE_TAINT, frozenset({"TaintToleration"}))
    clock.now += 60
    assert found.move(ClusterEvent(Event.NODE_LABEL, "x")) == 0
    assert found.pop() is None
    assert found.move(ClusterEvent(Event.NODE_TAINT, "x")) == 1
    assert popped(found).attempts == 2


def test_an_event_during_the_backoff_brings_the_pod_back_behind_everything_active() -> None:
    found, clock = queue()
    add(found, "p")
    found.unschedulable(popped(found), Event.NODE_ADD, frozenset())
    found.move(ClusterEvent(Event.NODE_ADD, "x"))
    assert found.counts[QueueState.BACKOFF] == 1
    clock.now += 0.5
    add(found, "new")
    assert [popped(found).pod.metadata.name for _ in range(2)] == ["new", "p"]


def test_a_pod_whose_attempt_failed_by_error_waits_its_backoff_out() -> None:
    found, clock = queue()
    add(found, "p")
    found.back_off(popped(found))
    clock.now += 0.9
    assert found.pop() is None
    clock.now += 0.2
    assert popped(found).pod.metadata.name == "p"


def test_a_pod_that_failed_goes_behind_newer_ones_of_its_priority() -> None:
    found, clock = queue()
    for number in range(3):
        add(found, f"hopeless-{number}")
    for _ in range(3):
        found.unschedulable(popped(found), Event.NODE_ADD, frozenset())
    clock.now += 60
    add(found, "new")
    clock.now += 1
    failed_again = 0
    while failed_again < 6:
        found.move(ClusterEvent(Event.NODE_ADD, "x"))
        queued = popped(found)
        if queued.pod.metadata.name == "new":
            break
        failed_again += 1
        found.unschedulable(queued, Event.NODE_ADD, frozenset())
        clock.now += 30
    assert failed_again <= 3, "the new pod was not tried before all of the others came twice"


def test_time_behind_gates_does_not_count_for_order_or_waiting() -> None:
    found, clock = queue()
    gated = pod("gated")
    found.add(gated, None)
    clock.now += 50
    add(found, "free")
    clock.now += 10
    found.update(gated, PodInfo.of(gated))
    assert [popped(found).pod.metadata.name for _ in range(2)] == ["free", "gated"]
    assert found.pods["default/gated"].added_at == clock.now


def test_events_missed_while_held_take_effect_when_nothing_came_of_it() -> None:
    found, clock = queue()
    for name in ("hears", "deaf"):
        add(found, name)
        found.unschedulable(popped(found), Event.NODE_ADD, frozenset())
        found.hold(f"default/{name}")
    clock.now += 100
    found.resume("default/deaf")
    found.move(ClusterEvent(Event.NODE_ADD, "x"))
    assert popped(found).pod.metadata.name == "deaf"
    assert found.pop() is None
    found.resume("default/hears")
    assert popped(found).pod.metadata.name == "hears"


def test_events_during_an_attempt_take_effect_after_it() -> None:
    found, _ = queue()
    add(found, "hears")
    found.move(ClusterEvent(Event.NODE_ADD, "before"))
    attempt = popped(found)
    found.move(ClusterEvent(Event.NODE_TAINT, "during"))
    found.unschedulable(attempt, Event.NODE_ADD, frozenset())
    assert attempt.state is QueueState.UNSCHEDULABLE
    found.move(ClusterEvent(Event.NODE_ADD, "after"))
    attempt = popped(found)
    found.move(ClusterEvent(Event.NODE_ADD, "during"))
    found.unschedulable(attempt, Event.NODE_ADD, frozenset())
    assert attempt.state is QueueState.BACKOFF


def test_what_an_attempt_itself_gives_back_does_not_bring_its_own_pod_back() -> None:
    found, _ = queue()
    add(found, "p")
    attempt = popped(found)
    found.move(ClusterEvent(Event.POD_GONE, "AssignedPodDelete"), by=attempt)
    found.unschedulable(attempt, Event.POD_GONE, frozenset())
    assert attempt.state is QueueState.UNSCHEDULABLE


def test_a_pod_that_changes_during_its_attempt_gets_another() -> None:
    found, _ = queue()
    add(found, "changed"), add(found, "gated")
    for info in (PodInfo.of(pod("changed")), None):
        attempt = popped(found)
        found.update(attempt.pod, info)
        found.unschedulable(attempt, Event.NODE_ADD, frozenset())
        assert attempt.state is (QueueState.GATED if info is None else QueueState.BACKOFF)


def test_a_queue_that_nobody_pops_keeps_nothing_of_deleted_pods() -> None:
    """A standby's queue: it is fed for as long as another replica leads."""
    found, _ = queue()
    for number in range(3000):
        add(found, f"p{number}")
        found.delete(f"default/p{number}")
    gc.collect()
    kept = sum(isinstance(thing, QueuedPod) for thing in gc.get_objects())
    assert kept < 500


def test_backoff_doubles_up_to_its_limit() -> None:
    delays = Delays(1.0, 10.0)
    assert [delays.after(n) for n in (1, 2, 3, 4, 5, 99)] == [1, 2, 4, 8, 10, 10]


def test_without_any_event_a_pod_is_tried_again_after_five_minutes() -> None:
    found, clock = queue()
    add(found, "p")
    found.unschedulable(popped(found), Event.NONE, frozenset())
    clock.now += 299
    assert found.pop() is None
    clock.now += 2
    assert popped(found).attempts == 2


def test_pods_that_come_back_again_and_again_leave_nothing_behind() -> None:
    found, clock = queue()
    add(found, "p")
    for _ in range(5000):
        found.unschedulable(popped(found), Event.NODE_ADD, frozenset())
        clock.now += 11
        found.move(ClusterEvent(Event.NODE_ADD, "x"))
    gc.collect()
    heaps = [thing for thing in gc.get_objects() if type(thing) is list and len(thing) > 1000]
    assert not any(
        isinstance(entry, tuple) and entry[-1:] == (found.pods["default/p"],)
        for heap in heaps
        for entry in heap[:1]
    )


def test_a_gated_pod_is_not_tried_until_it_changes() -> None:
    found, _ = queue()
    new = pod("p")
    found.add(new, None)
    assert found.pop() is None
    assert found.counts[QueueState.GATED] == 1
    found.update(new, PodInfo.of(new))
    assert popped(found).key == new.key


def test_a_pod_deleted_in_flight_does_not_come_back() -> None:
    found, clock = queue()
    add(found, "p")
    queued = popped(found)
    found.delete(queued.key)
    found.back_off(queued)
    clock.now += 60
    assert found.pop() is None
    assert found.pods == {}


def test_a_pod_made_anew_in_flight_is_another_pod() -> None:
    found, _ = queue()
    add(found, "p")
    old = popped(found)
    found.delete(old.key)
    new = add(found, "p")
    found.finish(old)
    assert found.pods[new.key] is new


async def test_wait_ends_with_an_arrival_and_with_the_end_of_a_backoff() -> None:
    found = SchedulingQueue(Delays(0.05, 0.05))
    waiting = asyncio.create_task(found.wait())
    await asyncio.sleep(0)
    add(found, "p")
    await asyncio.wait_for(waiting, 1)
    queued = popped(found)
    found.back_off(queued)
    while (again := found.pop()) is None:
        await asyncio.wait_for(found.wait(), 1)
    assert again is queued


class EveryPodInOnePlace(RuleBasedStateMachine):
    """Whatever happens, no pod is lost, doubled or counted wrong."""

    names = st.sampled_from(["a", "b", "c", "d"])
    events = st.sampled_from([Event.NODE_ADD, Event.NODE_TAINT, Event.POD_GONE])

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.clock = queue()
        self.known: set[str] = set()
        self.flying: list[QueuedPod] = []

    @rule(name=names, gated=st.booleans())
    def add(self, name: str, gated: bool) -> None:
        new = pod(name)
        self.queue.add(new, None if gated else PodInfo.of(new))
        self.known.add(new.key)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.queue.delete(f"default/{name}")
        self.known.discard(f"default/{name}")

    @rule(name=names, gated=st.booleans())
    def update(self, name: str, gated: bool) -> None:
        new = pod(name)
        if new.key in self.known:
            self.queue.update(new, None if gated else PodInfo.of(new))

    @rule()
    def pop(self) -> None:
        queued = self.queue.pop()
        if queued is not None:
            assert queued.state is QueueState.IN_FLIGHT
            self.flying.append(queued)

    @rule(event=events)
    def refuse(self, event: Event) -> None:
        if self.flying:
            self.queue.unschedulable(self.flying.pop(0), event, frozenset())

    @rule()
    def fail(self) -> None:
        if self.flying:
            self.queue.back_off(self.flying.pop(0))

    @rule(event=events)
    def move(self, event: Event) -> None:
        self.queue.move(ClusterEvent(event, "x"))

    @rule(seconds=st.sampled_from([0.5, 5.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def counts_hold(self) -> None:
        assert set(self.queue.pods) == self.known
        for place in QueueState:
            here = [q for q in self.queue.pods.values() if q.state is place]
            assert self.queue.counts[place] == len(here)

    def teardown(self) -> None:
        """Every pod that is not gated or in flight comes out in the end."""
        self.clock.now += 10_000
        out = set()
        while (queued := self.queue.pop()) is not None:
            out.add(queued.key)
        left = {k for k, q in self.queue.pods.items() if q.state is not QueueState.IN_FLIGHT}
        assert all(self.queue.pods[key].state is QueueState.GATED for key in left)
        assert not out & left


TestEveryPodInOnePlace = EveryPodInOnePlace.TestCase
TestEveryPodInOnePlace.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_a_pod_that_room_is_made_for_comes_back_only_when_that_is_done() -> None:
    clock = Clock()
    queue = SchedulingQueue(clock=clock)
    queue.add(pod("p"), PodInfo.of(pod("p")))
    queued = queue.pop()
    assert queued is not None
    queue.unschedulable(queued, ~Event.NONE, frozenset())
    queue.hold("default/p")
    clock.now += 100
    assert queue.move(ClusterEvent(Event.POD_GONE, "AssignedPodDelete")) == 0
    assert queue.pop() is None
    queue.release("default/p", "Preemption")
    assert queue.pop() is queued
    queue.release("default/gone", "Preemption")
