"""The binding cycle: what happens beside the scheduling cycles once a pod is assumed on a node."""

import asyncio
import time

import structlog

from cluster.client import ApiClient
from cluster.objects import Pod
from cluster.snapshot import Snapshot
from cluster.storage import VolumePlan
from filters.framework import Event
from scheduler.binding import Binder, Outcome
from scheduler.cycle import Decision
from scheduler.metrics import Metrics
from scheduler.nominator import Nominator
from scheduler.queue import QueuedPod, SchedulingQueue
from scheduler.reports import Reporter
from scheduler.volume_binder import VolumeBinder, VolumesNotBound

log = structlog.get_logger(__name__)

ASSUMED_FOR = 900.0
"""Seconds that a successful bind may go unseen by the watch before its room is given back."""


class BindingCycle:
    """Binds in flight, each request in one of `slots`. `len()` is how many there are."""

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        nominator: Nominator,
        reporter: Reporter,
        metrics: Metrics,
        volumes: VolumeBinder,
        slots: asyncio.Semaphore,
    ) -> None:
        self._binder, self._volumes = Binder(client, observed=self._observed), volumes
        self._snapshot, self._queue = snapshot, queue
        self._nominator, self._reporter, self._metrics = nominator, reporter, metrics
        self._room = slots
        self._tasks: set[asyncio.Task[None]] = set()
        self._volume_binds: dict[tuple[str, str], asyncio.Future[None]] = {}
        """By key and uid of the pod whose volumes are being bound."""

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

    def begin(self, queued: QueuedPod, decision: Decision, started: float) -> None:
        """The pod is assumed: bind it beside the next cycles."""
        elsewhere = self._nominator.row(queued.key) not in (-1, decision.row)
        self._nominator.remove(queued.key)
        if elsewhere:
            self._queue.move(Event.POD_GONE, "AssignedPodDelete")
        self._reporter.assumed(queued.key)
        node = self._snapshot.names[decision.row]
        task = asyncio.create_task(self._bind(queued, node, decision.reservation, started))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bind(
        self, queued: QueuedPod, node: str, plan: VolumePlan | None, started: float
    ) -> None:
        key, uid = queued.key, queued.pod.metadata.uid
        if plan is not None and not await self._bind_volumes(queued, plan, started):
            return
        try:
            began = time.perf_counter()
            result = await self._binder.bind(queued.pod, node, self._room, self._uncertain)
        except Exception as error:
            log.exception("binding cycle failed", pod=key)
            self._release(key, uid)
            self.fail(queued, f"internal error in the binding cycle: {error!r}", started)
            return
        status = "Success" if result.outcome is Outcome.BOUND else "Error"
        profile = queued.pod.spec.scheduler_name
        self._metrics.point("Bind", status, profile, time.perf_counter() - began)
        if result.outcome is Outcome.BOUND:
            self._snapshot.bound(key, uid, time.monotonic() + ASSUMED_FOR)
            self._queue.finish(queued)
            self._reporter.scheduled(queued.pod, node)
            self.count("scheduled", queued, started)
            self._metrics.scheduled(queued.attempts, time.monotonic() - queued.added_at)
            return
        self._release(key, uid)
        if result.outcome is Outcome.FAILED:
            self.fail(queued, f"binding to {node} failed: {result.why}", started)
        else:
            # Gone or taken: the watch tells the rest, and counts the pod where it really is.
            log.info("pod not bound", pod=key, node=node, why=result.why)
            self._queue.finish(queued)
            self.count("error", queued, started)

    async def _bind_volumes(self, queued: QueuedPod, plan: VolumePlan, started: float) -> bool:
        """Whether the pod's claims are bound; if not, the pod waits to be decided anew."""
        work = asyncio.ensure_future(self._volumes.bind(queued.pod, plan))
        self._volume_binds[queued.key, queued.pod.metadata.uid] = work
        try:
            await asyncio.wait([work])
            work.result()
        except VolumesNotBound as error:
            why = str(error)
        except asyncio.CancelledError:
            if not work.cancelled():
                work.cancel()
                raise
            why = "given up: a pod of higher priority needs the room"
        except Exception as error:
            log.exception("binding volumes failed", pod=queued.key)
            why = f"internal error in binding volumes: {error!r}"
        else:
            self._snapshot.storage.forget(plan)
            return True
        finally:
            self._volume_binds.pop((queued.key, queued.pod.metadata.uid), None)
        self._snapshot.storage.forget(plan)
        self._release(queued.key, queued.pod.metadata.uid)
        self.fail(queued, f"binding volumes: {why}", started)
        return False

    def give_up(self, key: str, uid: str) -> bool:
        """Stop waiting for the volumes of a pod that has no node yet; whether it was waiting."""
        work = self._volume_binds.get((key, uid))
        return work is not None and work.cancel()

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
        self._reporter.note(pod, "BindingUncertain", f"cannot read the pod after a bind: {why}")

    def _release(self, key: str, uid: str) -> None:
        """Give back the room of a pod that was not bound; others may be waiting for it."""
        if self._snapshot.forget(key, uid):
            self._queue.move(Event.POD_GONE, "AssignedPodDelete")

    def fail(self, queued: QueuedPod, why: str, started: float) -> None:
        """The attempt came to nothing for a reason that is not the nodes': try again later."""
        self._queue.back_off(queued)
        self._reporter.failed(queued.pod, why)
        self.count("error", queued, started)

    def count(self, result: str, queued: QueuedPod, started: float) -> None:
        """An attempt that began at `started` (perf_counter) is over."""
        seconds = time.perf_counter() - started
        self._metrics.attempt(result, queued.pod.spec.scheduler_name, seconds)
