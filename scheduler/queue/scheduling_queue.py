"""The scheduling queue: active, backoff, unschedulable, gated, and pods in flight.

Source: kube-scheduler's PriorityQueue. Highest priority first; within a priority by `timestamp`:
when the pod could first be scheduled, set anew after each failed attempt, so that pods which fail
again and again do not stand in front of new ones. A pod that fitted nowhere waits for an event that
one of its failing plugins named, at the latest `max_unschedulable_s`; a pod whose attempt failed
waits out a backoff that doubles with every failure. When nothing is active, pods that fitted
nowhere need not wait for the end of their backoff (KEP-5142)."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cluster.objects.core import Pod
from filters.common.plugin import Event, PodInfo
from scheduler.queue.events import ClusterEvent
from scheduler.queue.pod_heap import PodHeap

MAX_UNSCHEDULABLE_S = 300.0
"""Seconds after which an unschedulable pod is tried again without any event."""


class QueueState(Enum):
    ACTIVE = "active"
    BACKOFF = "backoff"
    UNSCHEDULABLE = "unschedulable"
    GATED = "gated"
    IN_FLIGHT = "in_flight"


@dataclass(slots=True, eq=False)
class QueuedPod:
    """A pending pod with its history. Times are of the queue's clock, in seconds.

    `added_at` is when the pod could first be scheduled: time behind gates does not count. `held`
    keeps events from bringing the pod back while room is being made for it; `missed` are those that
    came. `seen` is the number of the last event before the attempt that is under way."""

    pod: Pod
    info: PodInfo | None
    added_at: float
    timestamp: float = 0.0
    state: QueueState = QueueState.GATED
    attempts: int = 0
    unschedulable_count: int = 0
    error_count: int = 0
    waits_for: Event = Event.NONE
    plugins: frozenset[str] = frozenset()
    stamp: int = 0
    heap: "PodHeap[QueuedPod] | None" = None
    held: bool = False
    missed: Event = Event.NONE
    seen: int = 0
    unschedulable_since: float = 0.0

    @property
    def key(self) -> str:
        return self.pod.key


@dataclass(slots=True)
class Delays:
    """Backoff in seconds: the first, and the limit of the doubling; and the longest wait of an
    unschedulable pod (`max_unschedulable_s`)."""

    first: float = 1.0
    max_backoff: float = 10.0
    max_unschedulable_s: float = MAX_UNSCHEDULABLE_S

    def after(self, failures: int) -> float:
        return min(self.first * 2.0 ** min(max(failures - 1, 0), 30), self.max_backoff)


Incoming = Callable[[str, str], None]
"""Told (queue, event) whenever a pod enters a queue."""


@dataclass(slots=True)
class SchedulingQueue:
    """All pending pods of this scheduler, each in exactly one place."""

    delays: Delays = field(default_factory=Delays)
    clock: Callable[[], float] = time.monotonic
    on_incoming: Incoming = lambda queue, event: None
    pods: dict[str, QueuedPod] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)
    """Keys of the pods by PodGroup, for those that belong to one."""
    counts: dict[QueueState, int] = field(default_factory=lambda: dict.fromkeys(QueueState, 0))
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Unschedulable pods by (plugin that refused them, profile)."""
    _active: PodHeap[QueuedPod] = field(default_factory=PodHeap)
    _backoff: PodHeap[QueuedPod] = field(default_factory=PodHeap)
    _error_backoff: PodHeap[QueuedPod] = field(default_factory=PodHeap)
    """Apart from `_backoff`: these have to wait it out even when nothing else is to be done."""
    _late: PodHeap[QueuedPod] = field(default_factory=PodHeap)
    _waiting: dict[Event, dict[str, QueuedPod]] = field(default_factory=dict)
    _stamps: "itertools.count[int]" = field(default_factory=itertools.count)
    _events: int = 0
    """How many events there were."""
    _latest: dict[Event, int] = field(default_factory=dict)
    """By event, the number of its latest: what came during an attempt takes effect after it."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    # -- pods come, change and go ----------------------------------------------------------

    def add(self, pod: Pod, info: PodInfo | None, event: str = "PodAdd") -> QueuedPod:
        """Take in a pending pod. Without `info` it is gated: it must change before it is tried."""
        existing = self.pods.get(pod.key)
        if existing is not None:
            self._leave(existing)
        now = self.clock()
        queued = QueuedPod(pod, info, now, now)
        self.pods[pod.key] = queued
        if pod.group:
            self.groups.setdefault(pod.group, set()).add(pod.key)
        self.counts[QueueState.GATED] += 1
        if info is None:
            self.on_incoming("gated", event)
        else:
            self._activate(queued, event)
        return queued

    def update(self, pod: Pod, info: PodInfo | None) -> None:
        """A pending pod changed in what scheduling reads."""
        queued = self.pods.get(pod.key)
        if queued is None:
            self.add(pod, info)
            return
        ungated = queued.info is None and info is not None
        queued.pod, queued.info = pod, info
        if queued.state is QueueState.IN_FLIGHT:
            # Should the attempt fail, another one is due: this one reads the pod as it was.
            queued.missed = ~Event.NONE
            return
        if ungated and not queued.attempts:
            queued.added_at = queued.timestamp = self.clock()
        if info is None:
            self._move(queued, QueueState.GATED)
        elif queued.held and queued.state is QueueState.UNSCHEDULABLE:
            # Room is being made for it: `release` brings it back.
            return
        elif queued.state in (QueueState.GATED, QueueState.UNSCHEDULABLE, QueueState.ACTIVE):
            self._activate(queued, "PodUpdate")

    def refresh(self, pod: Pod) -> None:
        """Keep the newest form of a pod whose change does not matter to scheduling."""
        queued = self.pods.get(pod.key)
        if queued is not None:
            queued.pod = pod

    def delete(self, key: str) -> None:
        """The pod is gone, or somebody bound it."""
        queued = self.pods.pop(key, None)
        if queued is not None:
            self._leave(queued)
            if queued.pod.group:
                self._leave_group(queued.pod.group, key)

    def _leave_group(self, group: str, key: str) -> None:
        self.groups[group].discard(key)
        if not self.groups[group]:
            del self.groups[group]

    # -- attempts --------------------------------------------------------------------------

    def pop(self) -> QueuedPod | None:
        """The next pod to try, None with nothing to do now."""
        self._flush()
        if len(self._active):
            queued = self._active.pop()
        elif len(self._backoff):
            queued = self._backoff.pop()
            self.on_incoming("active", "PopFromBackoffQ")
        else:
            return None
        self._begin(queued)
        return queued

    def take(self, queued: QueuedPod) -> bool:
        """Try this pod now, wherever it waits; whether it can be had."""
        if self.pods.get(queued.key) is not queued or queued.state is QueueState.IN_FLIGHT:
            return False
        self._begin(queued)
        return True

    def _begin(self, queued: QueuedPod) -> None:
        self._move(queued, QueueState.IN_FLIGHT)
        queued.attempts += 1
        queued.seen, queued.missed, queued.held = self._events, Event.NONE, False

    async def wait(self) -> None:
        """Until a pod may be ready: an arrival, an event, or the end of a backoff."""
        self._wake.clear()
        due = self._next_due()
        if len(self._active) or len(self._backoff):
            return
        timeout = None if due is None else max(due - self.clock(), 0.001)
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """End a `wait`."""
        self._wake.set()

    def finish(self, queued: QueuedPod) -> None:
        """The pod needs no further attempt; one made anew under its name stays."""
        if self.pods.get(queued.key) is queued:
            self.delete(queued.key)

    def unschedulable(self, queued: QueuedPod, waits_for: Event, plugins: frozenset[str]) -> None:
        """No node took the pod: it waits for one of these events; not for those that came during
        the attempt, which was made without them."""
        if self.pods.get(queued.key) is not queued:
            return
        if queued.info is None:
            self._move(queued, QueueState.GATED)
            return
        queued.waits_for, queued.plugins = waits_for, plugins
        queued.unschedulable_count += 1
        queued.error_count = 0
        queued.timestamp = queued.unschedulable_since = self.clock()
        if (queued.missed | self._since(queued)) & waits_for:
            self._requeue(queued, "MissedEvent")
            return
        self._move(queued, QueueState.UNSCHEDULABLE)
        self._waiting.setdefault(waits_for, {})[queued.key] = queued
        self.refused.update((plugin, queued.pod.spec.scheduler_name) for plugin in plugins)
        self._late.push((queued.timestamp + self.delays.max_unschedulable_s,), queued)
        self.on_incoming("unschedulable", "ScheduleAttemptFailure")

    def back_off(self, queued: QueuedPod) -> None:
        """The attempt failed for a reason that is not the nodes': try again after a while."""
        if self.pods.get(queued.key) is not queued:
            return
        queued.held = False
        queued.error_count += 1
        queued.timestamp = self.clock()
        if queued.info is None:
            self._move(queued, QueueState.GATED)
            return
        self._into_backoff(queued, "ScheduleAttemptFailure", self._error_backoff)

    def postpone(self, queued: QueuedPod, seconds: float) -> None:
        """Not now, and no fault of the pod's: as if this attempt had not been."""
        if self.pods.get(queued.key) is not queued:
            return
        queued.attempts -= 1
        self._move(queued, QueueState.BACKOFF)
        self._error_backoff.push((self.clock() + seconds,), queued)
        self._wake.set()

    def move(self, event: ClusterEvent, by: QueuedPod | None = None) -> int:
        """Bring back the pods that this event may help; says how many. Not the pod whose own
        attempt it comes from."""
        if by is not None:
            by.missed |= self._since(by)
        self._events += 1
        self._latest[event.flags] = self._events
        if by is not None:
            by.seen = self._events
        moved = 0
        for waits_for in [mask for mask in self._waiting if mask & event.flags]:
            for queued in list(self._waiting[waits_for].values()):
                if queued.held:
                    queued.missed |= event.flags
                    continue
                moved += 1
                self._requeue(queued, event.label)
        return moved

    def hold(self, key: str) -> None:
        """Let no event bring the pod back until `release`: room is being made for it."""
        queued = self.pods.get(key)
        if queued is not None:
            queued.held, queued.missed = True, Event.NONE

    def resume(self, key: str) -> None:
        """End a `hold` that came to nothing: events that came meanwhile take effect now."""
        queued = self.pods.get(key)
        if queued is None:
            return
        queued.held = False
        if queued.state is QueueState.UNSCHEDULABLE and queued.missed & queued.waits_for:
            self._requeue(queued, "MissedEvent")

    def release(self, key: str, event: str) -> None:
        """Look at the pod again, after its backoff."""
        queued = self.pods.get(key)
        if queued is None:
            return
        queued.held = False
        if queued.state is QueueState.UNSCHEDULABLE:
            self._requeue(queued, event)

    # -- inside ----------------------------------------------------------------------------

    def _since(self, queued: QueuedPod) -> Event:
        """The events since the pod's attempt began."""
        events = Event.NONE
        if queued.seen < self._events:
            for event, number in self._latest.items():
                if number > queued.seen:
                    events |= event
        return events

    def _backoff_until(self, queued: QueuedPod) -> float:
        return queued.timestamp + self.delays.after(
            queued.error_count or queued.unschedulable_count
        )

    def _requeue(self, queued: QueuedPod, event: str) -> None:
        """An unschedulable pod is to be tried again, once its backoff is over."""
        if self._backoff_until(queued) > self.clock():
            self._into_backoff(queued, event, self._backoff)
        else:
            self._activate(queued, event)

    def _into_backoff(self, queued: QueuedPod, event: str, heap: PodHeap[QueuedPod]) -> None:
        self._move(queued, QueueState.BACKOFF)
        heap.push((self._backoff_until(queued),), queued)
        self._wake.set()
        self.on_incoming("backoff", event)

    def _activate(self, queued: QueuedPod, event: str) -> None:
        self._move(queued, QueueState.ACTIVE)
        self._active.push((-queued.pod.spec.priority, queued.timestamp), queued)
        self._wake.set()
        self.on_incoming("active", event)

    def _move(self, queued: QueuedPod, state: QueueState) -> None:
        self._leave(queued)
        queued.state = state
        # A fresh stamp turns every older entry of this pod in any heap into a dead one.
        queued.stamp = next(self._stamps)
        self.counts[state] += 1

    def _leave(self, queued: QueuedPod) -> None:
        self.counts[queued.state] -= 1
        queued.stamp = -1
        if queued.heap is not None:
            queued.heap.leave(queued)
        if queued.state is QueueState.UNSCHEDULABLE:
            group = self._waiting[queued.waits_for]
            del group[queued.key]
            if not group:
                del self._waiting[queued.waits_for]
            for plugin in queued.plugins:
                refused = plugin, queued.pod.spec.scheduler_name
                self.refused[refused] -= 1
                if not self.refused[refused]:
                    del self.refused[refused]

    def _flush(self) -> None:
        """Activate the pods whose backoff, or longest wait, is over."""
        now = self.clock()
        for heap, event in (
            (self._backoff, "BackoffComplete"),
            (self._error_backoff, "BackoffComplete"),
            (self._late, "UnschedulableTimeout"),
        ):
            while (due := heap.first()) is not None and due <= now:
                queued = heap.pop()
                queued.held = False
                self._activate(queued, event)

    def _next_due(self) -> float | None:
        heaps = (self._backoff, self._error_backoff, self._late)
        return min((due for heap in heaps if (due := heap.first()) is not None), default=None)
