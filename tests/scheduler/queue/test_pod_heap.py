"""The heap of queued pods, against a sorted list."""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scheduler.queue.pod_heap import MIN_DEAD, PodHeap
from scheduler.queue.scheduling_queue import QueuedPod
from tests.harness.make import pod

STAMPS = itertools.count(1)


def queued(name: str) -> QueuedPod:
    return QueuedPod(pod(name), None, 0.0)


def push(heap: PodHeap[QueuedPod], entry: QueuedPod, *key: float) -> int:
    """As the queue does it: every entry has a stamp of its own."""
    entry.stamp = next(STAMPS)
    heap.push(key, entry)
    return entry.stamp


def leave(heap: PodHeap[QueuedPod], entry: QueuedPod) -> None:
    entry.stamp = next(STAMPS)
    heap.leave(entry)


class AgainstASortedList(RuleBasedStateMachine):
    """Pods come out by key, and among equal keys in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.heap: PodHeap[QueuedPod] = PodHeap()
        self.sorted: list[tuple[tuple[float, ...], int, QueuedPod]] = []

    @rule(priority=st.integers(0, 3), age=st.integers(0, 3))
    def push(self, priority: int, age: int) -> None:
        entry = queued("p")
        stamp = push(self.heap, entry, priority, age)
        self.sorted.append(((priority, age), stamp, entry))
        self.sorted.sort(key=lambda found: found[:2])

    @rule(place=st.integers(0, 99))
    def leave(self, place: int) -> None:
        if self.sorted:
            leave(self.heap, self.sorted.pop(place % len(self.sorted))[2])

    @rule(count=st.integers(1, 2 * MIN_DEAD))
    def come_and_leave(self, count: int) -> None:
        entries = [queued("q") for _ in range(count)]
        for entry in entries:
            push(self.heap, entry, 1, 1)
        for entry in entries:
            leave(self.heap, entry)

    @rule()
    def pop(self) -> None:
        if self.sorted:
            expected = self.sorted.pop(0)[2]
            assert self.heap.pop() is expected
            assert expected.heap is None

    @invariant()
    def first_and_length_are_those_of_the_list(self) -> None:
        assert len(self.heap) == len(self.sorted)
        assert self.heap.first() == (self.sorted[0][0][0] if self.sorted else None)


TestAgainstASortedList = AgainstASortedList.TestCase
TestAgainstASortedList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_pod_that_leaves_is_not_popped() -> None:
    heap: PodHeap[QueuedPod] = PodHeap()
    gone, stays = queued("gone"), queued("stays")
    push(heap, gone, 1.0)
    push(heap, stays, 2.0)
    leave(heap, gone)
    assert gone.heap is None
    assert len(heap) == 1
    assert heap.first() == 2.0
    assert heap.pop() is stays


def test_a_pod_knows_the_heap_that_it_is_in() -> None:
    heap, entry = PodHeap[QueuedPod](), queued("p")
    push(heap, entry, 1.0)
    assert entry.heap is heap


def test_a_pod_that_comes_back_has_its_new_place_alone() -> None:
    heap: PodHeap[QueuedPod] = PodHeap()
    back, other = queued("back"), queued("other")
    push(heap, back, 1.0)
    push(heap, other, 2.0)
    leave(heap, back)
    push(heap, back, 3.0)
    assert [heap.pop(), heap.pop()] == [other, back]
    assert len(heap) == 0


@pytest.mark.parametrize("left", [0, 3])
def test_an_empty_heap_has_no_first_pod(left: int) -> None:
    heap: PodHeap[QueuedPod] = PodHeap()
    for _ in range(left):
        entry = queued("p")
        push(heap, entry, 1.0)
        leave(heap, entry)
    assert heap.first() is None
    with pytest.raises(IndexError):
        heap.pop()
