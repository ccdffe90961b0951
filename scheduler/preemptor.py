"""What follows where a pod fits nowhere: victims are chosen, told, deleted, and the pod waits."""

import asyncio
import random
from collections.abc import Callable

import structlog

from cluster.client import ApiClient
from cluster.records import PodRecord
from cluster.snapshot import Snapshot
from filters.framework import PodInfo
from scheduler.diagnosis import Diagnosis
from scheduler.evictions import EvictionFailed, evict
from scheduler.nominator import Nominator
from scheduler.preemption import Candidate, Preemption, sentence
from scheduler.profiles import Framework
from scheduler.queue import QueuedPod, SchedulingQueue
from scheduler.reports import Reporter
from scheduler.trial import Trial

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
        attempts: Callable[[], None],
        victims: Callable[[int], None],
        seed: int | None,
    ) -> None:
        self._client, self._snapshot, self._queue = client, snapshot, queue
        self._nominator, self._reporter = nominator, reporter
        self._attempts, self._victims = attempts, victims
        self._preemption = Preemption(snapshot, random.Random(seed))
        self._tasks: set[asyncio.Task[None]] = set()

    def find(
        self, framework: Framework, info: PodInfo, trial: Trial, diagnosis: Diagnosis
    ) -> Candidate | str:
        """Whom to remove where, or what there is to say about there being nobody."""
        if framework.preemption is not None:
            self._attempts()
        own_row = self._nominator.row(info.pod.key)
        return sentence(self._preemption, framework, info, trial, diagnosis, own_row)

    def carry_out(self, queued: QueuedPod, info: PodInfo, candidate: Candidate) -> str:
        """Nominate the pod and have the victims go; returns the node."""
        node = self._snapshot.names[candidate.row]
        self._victims(len(candidate.victims))
        log.info(
            "preempting", pod=queued.key, node=node, victims=[v.key for v in candidate.victims]
        )
        for other in self._nominator.behind(info, node):
            # They would find the room taken: another node may do.
            self._nominator.remove(other.pod.key)
            self._reporter.clear_nomination(other.pod)
            self._queue.release(other.pod.key, "PreemptedNomination")
        self._nominator.add(info, node)
        self._queue.hold(queued.key)
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
                await evict(self._client, victim, scheduler)
                self._reporter.preempted(victim, queued.pod, node)
        except EvictionFailed as error:
            log.error("preemption failed", pod=queued.key, node=node, error=str(error))
            self._nominator.remove(queued.key)
            self._reporter.clear_nomination(queued.pod)
        except Exception:
            log.exception("preemption failed", pod=queued.key)
            self._nominator.remove(queued.key)
        finally:
            self._queue.release(queued.key, "Preemption")
