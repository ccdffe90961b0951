"""The scheduling queue: active, backoff, unschedulable, gated, and pods in flight.

Source: kube-scheduler's PriorityQueue. Highest priority first, then oldest. A pod that fitted
nowhere waits for an event that one of its failing plugins named, at the latest five minutes; a
pod whose attempt failed waits out a backoff that doubles with every attempt.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cluster.objects import Pod
from filters.framework import Event, PodInfo

UNSCHEDULABLE_AT_MOST = 300.0
"""Seconds after which an unschedulable pod is tried again without any event."""


class Place(Enum):
    ACTIVE = "active"
    BACKOFF = "backoff"
    UNSCHEDULABLE = "unschedulable"
    GATED = "gated"
    IN_FLIGHT = "in_flight"


@dataclass(slots=True, eq=False)
class QueuedPod:
    """A pending pod with its history. Times are of the queue's clock, in seconds."""

    pod: Pod
    info: PodInfo | None
    added_at: float
    place: Place = Place.GATED
    attempts: int = 0
    tried_at: float = 0.0
    waits_for: Event = Event.NONE
    plugins: frozenset[str] = frozenset()
    stamp: int = 0
    held: bool = False
    unschedulable_since: float = 0.0

    @property
    def key(self) -> str:
        return self.pod.key


@dataclass(slots=True)
class Delays:
    """Backoff in seconds: the first, and the limit of the doubling."""

    first: float = 1.0
    most: float = 10.0

    def after(self, attempts: int) -> float:
        return min(self.first * 2.0 ** min(max(attempts - 1, 0), 30), self.most)


Counter = Callable[[str, str], None]
"""Told (queue, event) whenever a pod enters a queue."""


@dataclass(slots=True)
class SchedulingQueue:
    """All pending pods of this scheduler, each in exactly one place."""

    delays: Delays = field(default_factory=Delays)
    clock: Callable[[], float] = time.monotonic
    on_incoming: Counter = lambda queue, event: None
    pods: dict[str, QueuedPod] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)
    """Keys of the pods by PodGroup, for those that belong to one."""
    counts: dict[Place, int] = field(default_factory=lambda: dict.fromkeys(Place, 0))
    _active: list[tuple[int, float, int, QueuedPod]] = field(default_factory=list)
    _backoff: list[tuple[float, int, QueuedPod]] = field(default_factory=list)
    _late: list[tuple[float, int, QueuedPod]] = field(default_factory=list)
    _waiting: dict[Event, dict[str, QueuedPod]] = field(default_factory=dict)
    _stamps: "itertools.count[int]" = field(default_factory=itertools.count)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    # -- pods come, change and go ----------------------------------------------------------

    def add(self, pod: Pod, info: PodInfo | None, event: str = "PodAdd") -> QueuedPod:
        """Take in a pending pod. Without `info` it is gated: it must change before it is tried."""
        known = self.pods.get(pod.key)
        if known is not None:
            self._leave(known)
        queued = QueuedPod(pod, info, self.clock())
        self.pods[pod.key] = queued
        if pod.group:
            self.groups.setdefault(pod.group, set()).add(pod.key)
        self.counts[Place.GATED] += 1
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
        queued.pod, queued.info = pod, info
        if queued.place is Place.IN_FLIGHT:
            return
        if info is None:
            self._move(queued, Place.GATED)
        elif queued.held:
            # Room is being made for it: `release` brings it back.
            return
        elif queued.place in (Place.GATED, Place.UNSCHEDULABLE, Place.ACTIVE):
            self._activate(queued, "PodUpdate")

    def see(self, pod: Pod) -> None:
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
        while self._active:
            _, _, stamp, queued = heapq.heappop(self._active)
            if queued.stamp == stamp and queued.place is Place.ACTIVE:
                self._move(queued, Place.IN_FLIGHT)
                queued.attempts += 1
                queued.tried_at = self.clock()
                return queued
        return None

    def take(self, queued: QueuedPod) -> bool:
        """Try this pod now, wherever it waits; whether it can be had."""
        if self.pods.get(queued.key) is not queued or queued.place is Place.IN_FLIGHT:
            return False
        self._move(queued, Place.IN_FLIGHT)
        queued.attempts += 1
        queued.tried_at = self.clock()
        return True

    async def wait(self) -> None:
        """Until a pod may be ready: an arrival, an event, or the end of a backoff."""
        self._wake.clear()
        due = self._next_due()
        if self._active:
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
        """No node took the pod: it waits for one of these events."""
        if self.pods.get(queued.key) is not queued:
            return
        queued.waits_for, queued.plugins = waits_for, plugins
        queued.unschedulable_since = self.clock()
        self._move(queued, Place.UNSCHEDULABLE)
        self._waiting.setdefault(waits_for, {})[queued.key] = queued
        late = queued.unschedulable_since + UNSCHEDULABLE_AT_MOST
        heapq.heappush(self._late, (late, queued.stamp, queued))
        if len(self._late) > 2 * len(self.pods) + 1024:
            # Pods that came back before their time leave dead entries behind.
            self._late = [entry for entry in self._late if entry[2].stamp == entry[1]]
            heapq.heapify(self._late)
        self.on_incoming("unschedulable", "ScheduleAttemptFailure")

    def back_off(self, queued: QueuedPod) -> None:
        """The attempt failed for a reason that is not the nodes': try again after a while."""
        if self.pods.get(queued.key) is not queued:
            return
        if queued.info is None:
            self._move(queued, Place.GATED)
            return
        self._into_backoff(queued, "ScheduleAttemptFailure")

    def postpone(self, queued: QueuedPod, seconds: float) -> None:
        """Not now, and no fault of the pod's: as if this attempt had not been."""
        if self.pods.get(queued.key) is not queued:
            return
        queued.attempts -= 1
        self._move(queued, Place.BACKOFF)
        heapq.heappush(self._backoff, (self.clock() + seconds, queued.stamp, queued))
        self._wake.set()

    def move(self, event: Event, name: str) -> int:
        """Bring back the pods that this event may help; says how many."""
        moved = 0
        for waits_for in [mask for mask in self._waiting if mask & event]:
            for queued in list(self._waiting[waits_for].values()):
                if queued.held:
                    continue
                moved += 1
                if self._backoff_until(queued) > self.clock():
                    self._into_backoff(queued, name)
                else:
                    self._activate(queued, name)
        return moved

    def hold(self, key: str) -> None:
        """Let no event bring the pod back until `release`: room is being made for it."""
        queued = self.pods.get(key)
        if queued is not None:
            queued.held = True

    def release(self, key: str, event: str) -> None:
        """Look at the pod again, after its backoff."""
        queued = self.pods.get(key)
        if queued is None:
            return
        queued.held = False
        if queued.place is not Place.UNSCHEDULABLE:
            return
        if self._backoff_until(queued) > self.clock():
            self._into_backoff(queued, event)
        else:
            self._activate(queued, event)

    # -- inside ----------------------------------------------------------------------------

    def _backoff_until(self, queued: QueuedPod) -> float:
        return queued.tried_at + self.delays.after(queued.attempts)

    def _into_backoff(self, queued: QueuedPod, event: str) -> None:
        self._move(queued, Place.BACKOFF)
        heapq.heappush(self._backoff, (self._backoff_until(queued), queued.stamp, queued))
        self._wake.set()
        self.on_incoming("backoff", event)

    def _activate(self, queued: QueuedPod, event: str) -> None:
        self._move(queued, Place.ACTIVE)
        order = (-queued.pod.spec.priority, queued.added_at, queued.stamp, queued)
        heapq.heappush(self._active, order)
        self._wake.set()
        self.on_incoming("active", event)

    def _move(self, queued: QueuedPod, place: Place) -> None:
        self._leave(queued)
        queued.place = place
        # A fresh stamp turns every older entry of this pod in any heap into a dead one.
        queued.stamp = next(self._stamps)
        self.counts[place] += 1

    def _leave(self, queued: QueuedPod) -> None:
        self.counts[queued.place] -= 1
        queued.stamp = -1
        if queued.place is Place.UNSCHEDULABLE:
            group = self._waiting[queued.waits_for]
            del group[queued.key]
            if not group:
                del self._waiting[queued.waits_for]

    def _flush(self) -> None:
        """Take up the pods whose backoff, or longest wait, is over."""
        now = self.clock()
        while self._backoff and self._backoff[0][0] <= now:
            _, stamp, queued = heapq.heappop(self._backoff)
            if queued.stamp == stamp:
                self._activate(queued, "BackoffComplete")
        while self._late and self._late[0][0] <= now:
            _, stamp, queued = heapq.heappop(self._late)
            if queued.stamp == stamp:
                queued.held = False
                self._activate(queued, "UnschedulableTimeout")

    def _next_due(self) -> float | None:
        dues = []
        for heap in (self._backoff, self._late):
            while heap and heap[0][2].stamp != heap[0][1]:
                heapq.heappop(heap)
            if heap:
                dues.append(heap[0][0])
        return min(dues, default=None)
