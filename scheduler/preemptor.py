"""What follows where a pod fits nowhere: victims are chosen, told, deleted, and the pod waits."""

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from cluster.client import ApiClient
from cluster.records import PodRecord
from cluster.snapshot import Snapshot
from filters.framework import Event, PodInfo
from scheduler.diagnosis import Diagnosis
from scheduler.evictions import EvictionFailed, evict
from scheduler.nominator import Nominator
from scheduler.preemption import NO_CLAIMS, TERMINATING, Candidate, Preemption, sentence
from scheduler.profiles import Framework
from scheduler.queue import QueuedPod, SchedulingQueue
from scheduler.reports import Reporter
from scheduler.trial import Trial

VICTIMS_GONE_WITHIN = 300.0
"""Seconds that a pod waits for its victims to go before it looks for others."""
REMEMBERED = 10_000

log = structlog.get_logger(__name__)


class Preemptor:
    """Makes room for pods, one at a time for each; counts `attempts`, and `victims` of each."""

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        nominator: Nominator,
        reporter: Reporter,
        give_up: Callable[[str, str], bool],
        attempts: Callable[[], None],
        victims: Callable[[int], None],
        seed: int | None,
    ) -> None:
        self._client, self._snapshot, self._queue = client, snapshot, queue
        self._nominator, self._reporter = nominator, reporter
        self._give_up, self._attempts, self._victims = give_up, attempts, victims
        self._pending: dict[str, tuple[float, tuple[PodRecord, ...]]] = {}
        """By preemptor: until when, and for which victims, it waits."""
        self._preemption = Preemption(snapshot, random.Random(seed))
        self._tasks: set[asyncio.Task[None]] = set()

    def find(
        self, framework: Framework, info: PodInfo, trial: Trial, diagnosis: Diagnosis
    ) -> Candidate | str:
        """Whom to remove where, or what there is to say about there being nobody."""
        if self._waits_for_victims(info.pod.key):
            return f"{NO_CLAIMS}, preemption: {TERMINATING}"
        if framework.preemption is not None:
            self._attempts()
        own_row = self._nominator.row(info.pod.key)
        return sentence(self._preemption, framework, info, trial, diagnosis, own_row)

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

    def carry_out(self, queued: QueuedPod, info: PodInfo, candidate: Candidate) -> str:
        """Nominate the pod and have the victims go; returns the node."""
        node = self._snapshot.names[candidate.row]
        self._victims(len(candidate.victims))
        log.info(
            "preempting", pod=queued.key, node=node, victims=[v.key for v in candidate.victims]
        )
        for other in self._nominator.behind(info, node):
            # They would find the room taken: another node may do.
            self._nominator.give_up(other.pod.key)
            self._reporter.clear_nomination(other.pod)
            self._queue.release(other.pod.key, "PreemptedNomination")
        self._nominator.add(info, node)
        self._queue.hold(queued.key)
        self._pending[queued.key] = (
            time.monotonic() + VICTIMS_GONE_WITHIN,
            candidate.victims,
        )
        if len(self._pending) > REMEMBERED:
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
                await evict(self._client, victim, scheduler)
                self._reporter.preempted(victim, queued.pod, node)
        except EvictionFailed as error:
            log.error("preemption failed", pod=queued.key, node=node, error=str(error))
            self._undo(queued)
        except Exception:
            log.exception("preemption failed", pod=queued.key)
            self._undo(queued)
        finally:
            self._queue.release(queued.key, "Preemption")

    def _undo(self, queued: QueuedPod) -> None:
        """The room will not come: others may have it."""
        self._pending.pop(queued.key, None)
        if self._nominator.give_up(queued.key):
            self._reporter.clear_nomination(queued.pod)
            self._queue.move(Event.POD_GONE, "AssignedPodDelete")
