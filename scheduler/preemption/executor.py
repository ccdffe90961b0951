"""What follows where a pod fits nowhere: victims are looked for in slices of the event loop's time,
then deleted, while the pod waits."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from cluster.api.client import ApiClient
from cluster.state.records import PodRecord
from cluster.state.snapshot import Snapshot
from scheduler.attempt import SchedulingAttempt
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.trial import Trial
from scheduler.observe.metrics import Metrics
from scheduler.observe.reporter import Reporter
from scheduler.preemption.candidates import (
    NO_CLAIMS,
    TERMINATING,
    Candidate,
    NotHelpful,
    Preemption,
    Search,
    keep,
    outcome,
)
from scheduler.preemption.eviction import EvictionFailed, evict
from scheduler.queue.events import ASSIGNED_POD_DELETE
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import QueuedPod, SchedulingQueue

VICTIM_TIMEOUT_S = 300.0
"""Seconds that a pod waits for its victims to go before it looks for others."""
MAX_REMEMBERED = 10_000
SLICE_S = 0.01
"""Seconds of the event loop that a search may take at once."""

Done = Callable[[Candidate | str], None]
"""Called with whom to remove where, or with what a message says about there being nobody."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    """A search that has not ended."""

    attempt: SchedulingAttempt
    trial: Trial
    own_row: int | None
    version: int
    search: Search
    done: Done


class Preemptor:
    """Makes room for pods, one search at a time for each.

    `give_up(key, uid)` sends a victim that has no node yet back to the queue, where it can; `slots`
    bounds the writes."""

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        *,
        nominator: Nominator,
        reporter: Reporter,
        metrics: Metrics,
        give_up: Callable[[str, str], bool],
        slots: asyncio.Semaphore,
        seed: int | None,
    ) -> None:
        self._client, self._snapshot, self._queue = client, snapshot, queue
        self._nominator, self._reporter = nominator, reporter
        self._slots = slots
        self._give_up, self._metrics = give_up, metrics
        self._pending: dict[str, tuple[float, tuple[PodRecord, ...]]] = {}
        """By preemptor: until when, and for which victims, it waits."""
        self._preemption = Preemption(snapshot, random.Random(seed))
        self._tasks: set[asyncio.Task[None]] = set()
        self._searches: deque[_Running] = deque()

    # -- searches --------------------------------------------------------------------------

    def start(
        self, attempt: SchedulingAttempt, trial: Trial, diagnosis: Diagnosis, done: Done
    ) -> None:
        """Look for pods to remove, for a pod that waits as unschedulable. `done` is called when
        that has ended, at once where it does not take long; never where the pod was deleted or
        changed."""
        info, framework = attempt.info, attempt.framework
        key = attempt.queued.key
        if self._waits_for_victims(key):
            done(f"{NO_CLAIMS}, preemption: {TERMINATING}")
            return
        if framework.preemption is not None:
            self._metrics.preemption_attempts.inc()
        own_row = self._nominator.row(key)
        said = outcome(framework, info, trial, diagnosis, own_row)
        if said is not None or framework.preemption is None:
            done(said or "")
            return
        search = self._preemption.search(
            framework.preemption, trial, info, own_row, lambda: self._nominator.ahead_of(info)
        )
        self._queue.hold(key)
        if self._searches:
            # One search a pod: what an older attempt began has no answer to give any more.
            rest = (r for r in self._searches if r.attempt.queued is not attempt.queued)
            self._searches = deque(rest)
        running = _Running(attempt, trial, own_row, self._snapshot.version, search, done)
        if not self._advance(running):
            self._searches.append(running)

    @property
    def searching(self) -> bool:
        """Whether `advance` has anything to do."""
        return bool(self._searches)

    def advance(self) -> None:
        """Carry the oldest search on for one slice."""
        if self._searches and self._advance(self._searches[0]):
            self._searches.popleft()

    def _advance(self, running: _Running) -> bool:
        """Whether the search has ended; a bug in a plugin ends it too."""
        if not self._wanted(running):
            return True
        try:
            result = running.search.advance(time.perf_counter() + SLICE_S)
        except Exception as error:
            log.exception("preemption failed", pod=running.attempt.queued.key)
            result = NotHelpful(f"internal error: {error!r}")
        if result is None:
            return False
        self._finish(running, result)
        return True

    def _wanted(self, running: _Running) -> bool:
        """Whether the pod still waits for the outcome, as it was when the search began."""
        queued = running.attempt.queued
        if self._queue.pods.get(queued.key) is not queued or not queued.held:
            return False
        if queued.info is not running.attempt.info:
            self._queue.release(queued.key, "PodUpdate")
            return False
        return True

    def _finish(self, running: _Running, result: Candidate | NotHelpful) -> None:
        attempt = running.attempt
        key = attempt.queued.key
        if isinstance(result, NotHelpful):
            running.done(
                keep(attempt.info, running.trial, running.own_row, result, running.version)
            )
            if result.outdated:
                self._queue.release(key, "PreemptionOutdated")
            else:
                self._queue.resume(key)
        else:
            running.done(result)

    # -- victims ---------------------------------------------------------------------------

    def _waits_for_victims(self, key: str) -> bool:
        """Whether victims of before are still where they were: the watch may trail their end.

        A second look would choose others, elsewhere.
        """
        until, victims = self._pending.get(key, (0.0, ()))
        # One that was sent back to the queue may have another node by now.
        now = ((self._snapshot.pods.get(victim.key), victim) for victim in victims)
        left = any(r is not None and (r.uid, r.node) == (v.uid, v.node) for r, v in now)
        if left and time.monotonic() < until:
            return True
        self._pending.pop(key, None)
        return False

    def carry_out(self, attempt: SchedulingAttempt, candidate: Candidate) -> str:
        """Nominate the pod and have the victims go; returns the node."""
        queued, info = attempt.queued, attempt.info
        node = self._snapshot.names[candidate.row]
        self._metrics.preemption_victims.observe(len(candidate.victims))
        log.info(
            "preempting", pod=queued.key, node=node, victims=[v.key for v in candidate.victims]
        )
        for nominated in self._nominator.behind(info, node):
            # They would find the room taken: another node may do.
            self._nominator.give_up(nominated.pod.key)
            self._reporter.clear_nomination(nominated.pod)
            self._queue.release(nominated.pod.key, "PreemptedNomination")
        self._nominator.add(info, node)
        self._queue.hold(queued.key)
        self._pending[queued.key] = (
            time.monotonic() + VICTIM_TIMEOUT_S,
            candidate.victims,
        )
        if len(self._pending) > MAX_REMEMBERED:
            del self._pending[next(iter(self._pending))]
        task = asyncio.create_task(self._evict(queued, node, candidate.victims))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return node

    async def drain(self, seconds: float) -> None:
        """Let evictions that were begun end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _evict(self, queued: QueuedPod, node: str, victims: tuple[PodRecord, ...]) -> None:
        scheduler = queued.pod.spec.scheduler_name
        try:
            # The least important first: should one not go, the fewest went in vain.
            for victim in reversed(victims):
                if victim.shape.terminating or (
                    victim.assumed and self._give_up(victim.key, victim.uid)
                ):
                    # On its way out already, or sent back to the queue before it had a node.
                    continue
                await evict(self._client, victim, scheduler, self._slots)
                self._reporter.preempted(victim, queued.pod, node)
            # It is the victims' end that brings the pod back, if it has not come already.
            self._queue.resume(queued.key)
        except EvictionFailed as error:
            log.error("preemption failed", pod=queued.key, node=node, error=str(error))
            self._undo(queued)
        except Exception:
            log.exception("preemption failed", pod=queued.key)
            self._undo(queued)

    def _undo(self, queued: QueuedPod) -> None:
        """The room will not come: others may have it."""
        self._queue.release(queued.key, "Preemption")
        self._pending.pop(queued.key, None)
        if self._nominator.give_up(queued.key):
            self._reporter.clear_nomination(queued.pod)
            self._queue.move(ASSIGNED_POD_DELETE)
