"""The binding cycle: what happens beside the scheduling cycles once a pod is assumed on a node."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from cluster.api.client import ApiClient
from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PreBindPlugin, Refusal
from scheduler.attempt import SchedulingAttempt
from scheduler.binding.pod_binder import Binder, Outcome
from scheduler.binding.waiting_pods import WaitingPods
from scheduler.cycle.reservation import PluginRefused, Reservation
from scheduler.observe.metrics import Metrics
from scheduler.observe.reporter import Reporter
from scheduler.outcomes import ERROR, SCHEDULED, Outcomes
from scheduler.queue.events import ASSIGNED_POD_DELETE
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import SchedulingQueue

log = structlog.get_logger(__name__)

ASSUME_TTL_S = 900.0
"""Seconds that a successful bind may go unseen by the watch before its room is given back."""


class BindingCycle:
    """Binds in flight, each request in one of `slots`. `len()` is how many there are."""

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        *,
        nominator: Nominator,
        outcomes: Outcomes,
        reporter: Reporter,
        metrics: Metrics,
        waiting: WaitingPods,
        slots: asyncio.Semaphore,
    ) -> None:
        self._binder, self._waiting = Binder(client, observed=self._observed), waiting
        self._snapshot, self._queue = snapshot, queue
        self._nominator, self._outcomes = nominator, outcomes
        self._reporter, self._metrics = reporter, metrics
        self._room = slots
        self._tasks: set[asyncio.Task[None]] = set()
        self._preparing: dict[tuple[str, str], asyncio.Future[None]] = {}
        """By key and uid of pods that wait for plugins before their bind."""

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether as many binds are under way as may be."""
        return self._room.locked()

    async def room(self) -> None:
        """Until one more bind may begin."""
        async with self._room:
            pass

    async def drain(self, seconds: float) -> None:
        """Let what is in flight end, for at most so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def begin(self, attempt: SchedulingAttempt, row: int, reservation: Reservation) -> None:
        """The pod is assumed on the row: bind it beside the next cycles."""
        queued = attempt.queued
        elsewhere = self._nominator.row(queued.key) not in (None, row)
        self._nominator.remove(queued.key)
        if elsewhere:
            self._queue.move(ASSIGNED_POD_DELETE)
        self._reporter.assumed(queued.key)
        if reservation.waits:
            self._waiting.hold(queued.pod, reservation.node, reservation.waits)
        task = asyncio.create_task(self._bind(attempt, reservation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bind(self, attempt: SchedulingAttempt, reservation: Reservation) -> None:
        queued, node = attempt.queued, reservation.node
        key, uid = queued.key, queued.pod.metadata.uid
        pre_binds = [
            plugin
            for plugin in attempt.framework.pre_binds
            if not hasattr(plugin, "reserve") or reservation.value(plugin.NAME) is not None
        ]
        slow = bool(reservation.waits or pre_binds)
        if slow and not await self._prepare(attempt, reservation, pre_binds):
            return
        try:
            began = time.perf_counter()
            result = await self._binder.bind(queued.pod, node, self._room, self._uncertain)
        except Exception as error:
            log.exception("binding cycle failed", pod=key)
            why = f"internal error in the binding cycle: {error!r}"
            self._fail_bind(attempt, reservation, why, slow)
            return
        status = "Success" if result.outcome is Outcome.BOUND else "Error"
        profile = queued.pod.spec.scheduler_name
        self._metrics.point("Bind", status, profile, time.perf_counter() - began)
        if result.outcome is Outcome.BOUND:
            self._snapshot.bound(key, uid, time.monotonic() + ASSUME_TTL_S)
            self._queue.finish(queued)
            self._reporter.scheduled(queued.pod, node)
            self._outcomes.count(attempt, SCHEDULED)
            self._metrics.scheduled(queued.attempts, time.monotonic() - queued.added_at)
        elif result.outcome is Outcome.FAILED:
            why = f"binding to {node} failed: {result.why}"
            self._fail_bind(attempt, reservation, why, slow)
        else:
            # Gone or taken: the watch tells the rest, and counts the pod where it really is.
            log.info("pod not bound", pod=key, node=node, why=result.why)
            self.give_back(attempt, reservation)
            self._queue.finish(queued)
            self._outcomes.count(attempt, ERROR)

    async def _prepare(
        self,
        attempt: SchedulingAttempt,
        reservation: Reservation,
        pre_binds: Sequence[PreBindPlugin],
    ) -> bool:
        """Wait for plugins that asked for time, then have others do their part. Whether the pod may
        be bound; if not, it waits to be decided anew.

        Meanwhile the API server shows where the pod is expected to go (KEP-5278).
        """
        queued, node = attempt.queued, reservation.node
        self._reporter.expect(queued.pod, node)
        work = asyncio.ensure_future(self._run_plugins(attempt, reservation, pre_binds))
        self._preparing[queued.key, queued.pod.metadata.uid] = work
        try:
            await asyncio.wait([work])
            work.result()
            return True
        except PluginRefused as refusal:
            self.give_back(attempt, reservation)
            self._no_expectation(attempt, node)
            self._outcomes.refused(attempt, refusal)
        except Refusal as refusal:
            self._fail_bind(attempt, reservation, str(refusal), True)
        except asyncio.CancelledError:
            if not work.cancelled():
                work.cancel()
                raise
            why = "given up: a pod of higher priority needs the room"
            self._fail_bind(attempt, reservation, why, True)
        except Exception as error:
            log.exception("pre-bind failed", pod=queued.key)
            self._fail_bind(attempt, reservation, f"internal error in pre-bind: {error!r}", True)
        finally:
            self._preparing.pop((queued.key, queued.pod.metadata.uid), None)
        return False

    async def _run_plugins(
        self,
        attempt: SchedulingAttempt,
        reservation: Reservation,
        pre_binds: Sequence[PreBindPlugin],
    ) -> None:
        if reservation.waits:
            await self._waiting.wait(attempt.queued.pod.metadata.uid)
        for plugin in pre_binds:
            held = reservation.value(plugin.NAME)
            await plugin.pre_bind(attempt.info, held, reservation.node)

    def give_up(self, key: str, uid: str) -> bool:
        """Stop preparing a pod that has no node yet; whether it was being prepared."""
        work = self._preparing.get((key, uid))
        return work is not None and work.cancel()

    def _fail_bind(
        self, attempt: SchedulingAttempt, reservation: Reservation, why: str, expected: bool
    ) -> None:
        self.give_back(attempt, reservation)
        if expected:
            self._no_expectation(attempt, reservation.node)
        self._outcomes.failed(attempt, why)

    def _no_expectation(self, attempt: SchedulingAttempt, node: str) -> None:
        """What the API server still shows of where the pod was to go is the past."""
        if self._outcomes.waits(attempt):
            self._nominator.ignore(attempt.queued.key, node)
            self._reporter.clear_nomination(attempt.queued.pod)

    def give_back(self, attempt: SchedulingAttempt, reservation: Reservation) -> None:
        """Give back all that was held for a pod that was not bound; others may be waiting for
        it."""
        reservation.unreserve(self._snapshot)
        queued = attempt.queued
        if self._snapshot.forget(queued.key, queued.pod.metadata.uid):
            self._queue.move(ASSIGNED_POD_DELETE, by=queued)

    def _observed(self, pod: Pod) -> str | None:
        """The node of the pod as the watch shows it: None where it shows none yet, empty where the
        pod is deleted (until then a pod that is being bound is at least assumed)."""
        record = self._snapshot.pods.get(pod.key)
        if record is None or record.uid != pod.metadata.uid:
            return ""
        return None if record.assumed else record.node

    def _uncertain(self, pod: Pod, why: str) -> None:
        """A bind's outcome cannot be read: the room stays taken, and the pod's owner is told
        why."""
        self._reporter.warning(pod, "BindingUncertain", f"cannot read the pod after a bind: {why}")
