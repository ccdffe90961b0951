"""The scheduler: takes pod after pod from the queue, decides, and has it bound.

One event loop owns everything. A scheduling cycle runs from start to end without an await, so no
event of the cluster can fall into the middle of it; binds go on beside it.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import replace

import structlog
from prometheus_client.core import Metric

from cluster.client import ApiClient
from cluster.objects import Pod
from cluster.outbox import Outbox
from cluster.quantity import QuantityError
from cluster.snapshot import Snapshot
from cluster.storage import VolumePlan
from filters.framework import Event, PodInfo
from latency.matrix import Matrix
from scheduler.binding import Binder, Outcome
from scheduler.configuration import Configuration
from scheduler.cycle import Cycle, Decision
from scheduler.diagnosis import Diagnosis
from scheduler.gangs import Gangs
from scheduler.gauges import gauges
from scheduler.gschconfig import InvalidGschConfig
from scheduler.metrics import Metrics
from scheduler.nominator import Nominator
from scheduler.pods import WaitsForGlobal, pod_info
from scheduler.preemption import TERMINATING, Candidate
from scheduler.preemptor import Preemptor
from scheduler.profiles import Framework, frameworks
from scheduler.questions import Questions
from scheduler.queue import Delays, QueuedPod, SchedulingQueue
from scheduler.reports import Reporter
from scheduler.tasks import first_of
from scheduler.trial import Trial
from scheduler.volume_binder import BIND_TIMEOUT, VolumeBinder, VolumesNotBound
from scheduler.watches import Watches

log = structlog.get_logger(__name__)

ASSUMED_FOR = 900.0
"""Seconds that a successful bind may go unseen by the watch before its room is given back."""
DRAIN_FOR = 20.0
"""Seconds that binds and events in flight get at shutdown."""
CYCLES_PER_TURN = 8
"""Scheduling cycles in a row before the event loop gets to its sockets."""


class Scheduler:
    """One scheduler process's work, from the first list to the last bind."""

    def __init__(self, client: ApiClient, configuration: Configuration, matrix: Matrix) -> None:
        self._matrix = matrix
        self.snapshot = Snapshot()
        self.metrics = Metrics(self._gauges)
        self.queue = SchedulingQueue(on_incoming=self.metrics.incoming)
        self._cycle = Cycle(self.snapshot, configuration.seed)
        self._frameworks: dict[str, Framework] = {}
        self._outbox = Outbox(client)
        self._reporter = Reporter(self._outbox)
        self._binder = Binder(client)
        self.nominator = Nominator(self.snapshot)
        self._gangs = Gangs(self.snapshot, self.queue)
        self._preemptor = Preemptor(
            client,
            self.snapshot,
            self.queue,
            self.nominator,
            self._reporter,
            self._give_up,
            self.metrics.preemption_attempts.inc,
            self.metrics.preemption_victims.observe,
            configuration.seed,
        )
        self._binds: set[asyncio.Task[None]] = set()
        self._volume_binds: dict[str, asyncio.Future[None]] = {}
        self._room = asyncio.Semaphore(configuration.parallelism)
        self.stopped = asyncio.Event()
        self.configure(configuration)
        self.questions = Questions(client, self.snapshot, self.nominator, self._frameworks)
        self.watches = Watches(
            client,
            self.snapshot,
            self.queue,
            ours=self._frameworks.__contains__,
            prepare=self._prepare,
            nominator=self.nominator,
            gangs=self._gangs,
            forget=self._reporter.gone,
        )
        self._volumes = VolumeBinder(client, self.snapshot, self.watches.changed, BIND_TIMEOUT)

    def configure(self, configuration: Configuration) -> None:
        """Take on profiles, plugins and delays; the queue keeps its pods.

        Raises ConfigurationError, with the old configuration still in force.
        """
        fresh = frameworks(configuration, self._matrix)
        self._frameworks.clear()
        self._frameworks.update(fresh)
        self._cycle.clear()
        self.queue.delays = Delays(
            configuration.pod_initial_backoff_seconds, configuration.pod_max_backoff_seconds
        )

    def reconfigure(self, configuration: Configuration) -> None:
        """`configure` while running: pods that no node took, and those of a schedulerName that is
        new here, are tried at once. Raises ConfigurationError."""
        self.configure(configuration)
        self.watches.adopt()
        self.queue.move(~Event.NONE, "ConfigurationReload")

    # -- running ---------------------------------------------------------------------------

    async def follow(self) -> None:
        """Keep the snapshot and the queue, and send what is to be reported, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watches.run())
            group.create_task(self._outbox.run())
            group.create_task(self._expire())

    async def schedule(self) -> None:
        """Decide and bind until `stop`."""
        await first_of(self.watches.synced(), self.stopped.wait())
        if self.stopped.is_set():
            return
        self._reporter.speak()
        for gated in [q for q in self.queue.pods.values() if q.info is None]:
            # What keeps these waiting was found while another replica had the word.
            self.queue.update(gated.pod, self._prepare(gated.pod))
        log.info("scheduling", nodes=self.snapshot.node_count, pending=len(self.queue.pods))
        cycles = 0
        while not self.stopped.is_set():
            queued = self.queue.pop()
            if queued is None:
                await self.queue.wait()
                continue
            self._attempt(queued)
            cycles += 1
            if self._room.locked() or cycles % CYCLES_PER_TURN == 0:
                # Binding is slower than deciding: let it catch up, so that decisions are fresh.
                await asyncio.sleep(0)
                async with self._room:
                    pass

    def stop(self) -> None:
        """Take no further pod."""
        self.stopped.set()
        self.queue.wake()

    async def drain(self) -> bool:
        """Let binds and reports in flight end. Returns whether all did in time."""
        started = time.monotonic()
        if self._binds:
            await asyncio.wait(self._binds, timeout=DRAIN_FOR)
        await self._preemptor.drain(max(DRAIN_FOR - (time.monotonic() - started), 0.1))
        left = max(DRAIN_FOR - (time.monotonic() - started), 0.1)
        sent = await self._outbox.drain(left)
        log.info("drained", binds_left=len(self._binds), reports_left=len(self._outbox))
        return sent and not self._binds

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(30)
            for key in self.snapshot.expire(time.monotonic()):
                log.warning("assumed pod expired: bound, but never seen by the watch", pod=key)
                self.queue.move(Event.POD_GONE, "AssignedPodDelete")

    # -- one pod ---------------------------------------------------------------------------

    def _prepare(self, pod: Pod) -> PodInfo | None:
        """What scheduling reads of the pod; None where it has to wait for a change of itself."""
        framework = self._frameworks.get(pod.spec.scheduler_name)
        if framework is not None and framework.gated(pod):
            return None
        if why := self._gangs.waits(pod):
            self._reporter.unschedulable(pod, why)
            return None
        try:
            return pod_info(pod)
        except InvalidGschConfig as error:
            self._reporter.invalid(pod, str(error))
        except WaitsForGlobal as error:
            self._reporter.waits_for_global(pod, str(error))
        except QuantityError as error:
            self._reporter.failed(pod, str(error))
        except Exception as error:
            log.exception("pod not read", pod=pod.key)
            self._reporter.failed(pod, f"internal error in reading the pod: {error!r}")
        return None

    def _attempt(self, queued: QueuedPod) -> None:
        """One scheduling cycle. A bug in a plugin costs this pod a backoff, never the process."""
        started = time.perf_counter()
        profile = queued.pod.spec.scheduler_name
        framework, info = self._frameworks.get(profile), queued.info
        if framework is None or info is None:
            # Its profile went away with a new configuration: nobody's pod any more.
            self.queue.delete(queued.key)
            return
        if self._gangs.least(queued.pod):
            self._attempt_gang(queued, framework, started)
            return
        nominated = self.nominator.ahead_of(info)
        try:
            decision = self._cycle.decide(
                framework, info, nominated, self.nominator.row(queued.key)
            )
        except Exception as error:
            log.exception("scheduling cycle failed", pod=queued.key)
            self._fail(queued, f"internal error in the scheduling cycle: {error!r}", started)
            return
        seconds = time.perf_counter() - started
        if decision.diagnosis is not None:
            self.metrics.point("Filter", "Unschedulable", profile, seconds)
            self._refuse(queued, framework, info, decision.trial, decision.diagnosis, started)
            return
        self.metrics.point("Filter", "Success", profile, seconds)
        self._note_latency(queued, framework, info, decision.row)
        if log.is_enabled_for(logging.DEBUG):
            why = framework.why(info, decision.trial, self.snapshot, decision.row)
            log.debug("decided", pod=queued.key, node=self.snapshot.names[decision.row], why=why)
        self.snapshot.assume(queued.pod, info.needs, decision.row)
        if decision.reservation is not None:
            self.snapshot.storage.assume(decision.reservation)
        self._begin_bind(queued, decision, started)

    def _attempt_gang(self, first: QueuedPod, framework: Framework, started: float) -> None:
        """One scheduling cycle for all waiting members of a gang: all that are needed, or none."""
        members = self._gangs.members(first)

        def decide(info: PodInfo) -> Decision:
            return self._cycle.decide(framework, info, self.nominator.ahead_of(info))

        try:
            found, enough = self._gangs.decide(members, decide)
        except Exception as error:
            log.exception("scheduling cycle failed", pod=first.key, gang=first.pod.group)
            for queued in members:
                self.snapshot.forget(queued.key, queued.pod.metadata.uid)
                self._fail(queued, f"internal error in the scheduling cycle: {error!r}", started)
            return
        why = "" if enough else self._gangs.message(found)
        for member in found:
            diagnosis = member.decision.diagnosis
            if enough and diagnosis is None:
                self._begin_bind(member.queued, member.decision, started)
                continue
            plugins = diagnosis.plugins if diagnosis is not None else frozenset[str]()
            # A member that fits waits for whatever the others wait for.
            self.queue.unschedulable(member.queued, ~Event.NONE, plugins)
            text = why or (diagnosis.message if diagnosis is not None else "")
            self._reporter.unschedulable(member.queued.pod, text)
            self._count("unschedulable", member.queued, started)

    def _begin_bind(self, queued: QueuedPod, decision: Decision, started: float) -> None:
        """The pod is assumed: bind it beside the next cycles."""
        elsewhere = self.nominator.row(queued.key) not in (-1, decision.row)
        self.nominator.remove(queued.key)
        if elsewhere:
            self.queue.move(Event.POD_GONE, "AssignedPodDelete")
        self._reporter.assumed(queued.key)
        node = self.snapshot.names[decision.row]
        task = asyncio.create_task(self._bind(queued, node, decision.reservation, started))
        self._binds.add(task)
        task.add_done_callback(self._binds.discard)

    def _refuse(
        self,
        queued: QueuedPod,
        framework: Framework,
        info: PodInfo,
        trial: Trial,
        diagnosis: Diagnosis,
        started: float,
    ) -> None:
        """No node fits: make room by preemption where that helps, else wait for a change."""
        refusing = diagnosis.plugins or frozenset(p.NAME for p in framework.filters)
        waits_for = framework.events(refusing) | Event.NODE_ADD
        self.queue.unschedulable(queued, waits_for, diagnosis.plugins)
        found: Candidate | str
        try:
            found = self._preemptor.find(framework, info, trial, diagnosis)
        except Exception as error:
            log.exception("preemption failed", pod=queued.key)
            found = f"internal error in preemption: {error!r}"
        if isinstance(found, Candidate):
            node = self._preemptor.carry_out(queued, info, found)
            self._reporter.unschedulable(queued.pod, diagnosis.message, node)
        else:
            if TERMINATING not in found and self.nominator.remove(queued.key):
                self._reporter.clear_nomination(queued.pod)
                self.queue.move(Event.POD_GONE, "AssignedPodDelete")
            message = replace(diagnosis, sentence=found).message
            self._reporter.unschedulable(queued.pod, message)
        self._count("unschedulable", queued, started)

    def _note_latency(
        self, queued: QueuedPod, framework: Framework, info: PodInfo, row: int
    ) -> None:
        note = framework.latency_note(info, self.snapshot, row)
        if note:
            self._reporter.note(queued.pod, "LatencyUnknown", note)

    async def _bind(
        self, queued: QueuedPod, node: str, plan: VolumePlan | None, started: float
    ) -> None:
        key, uid = queued.key, queued.pod.metadata.uid
        if plan is not None and not await self._bind_volumes(queued, plan, started):
            return
        try:
            async with self._room:
                began = time.perf_counter()
                result = await self._binder.bind(queued.pod, node)
        except Exception as error:
            log.exception("binding cycle failed", pod=key)
            self._release(key, uid)
            self._fail(queued, f"internal error in the binding cycle: {error!r}", started)
            return
        status = "Success" if result.outcome is Outcome.BOUND else "Error"
        profile = queued.pod.spec.scheduler_name
        self.metrics.point("Bind", status, profile, time.perf_counter() - began)
        if result.outcome is Outcome.BOUND:
            self.snapshot.bound(key, uid, time.monotonic() + ASSUMED_FOR)
            self.queue.finish(queued)
            self._reporter.scheduled(queued.pod, node)
            self._count("scheduled", queued, started)
            self.metrics.scheduled(queued.attempts, time.monotonic() - queued.added_at)
            return
        self._release(key, uid)
        if result.outcome is Outcome.FAILED:
            self._fail(queued, f"binding to {node} failed: {result.why}", started)
        else:
            # Gone or taken: the watch tells the rest, and counts the pod where it really is.
            log.info("pod not bound", pod=key, node=node, why=result.why)
            self.queue.finish(queued)
            self._count("error", queued, started)

    async def _bind_volumes(self, queued: QueuedPod, plan: VolumePlan, started: float) -> bool:
        """Whether the pod's claims are bound; if not, the pod waits to be decided anew."""
        work = asyncio.ensure_future(self._volumes.bind(queued.pod, plan))
        self._volume_binds[queued.key] = work
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
            self.snapshot.storage.forget(plan)
            return True
        finally:
            self._volume_binds.pop(queued.key, None)
        self.snapshot.storage.forget(plan)
        self._release(queued.key, queued.pod.metadata.uid)
        self._fail(queued, f"binding volumes: {why}", started)
        return False

    def _give_up(self, key: str) -> bool:
        """Stop waiting for the volumes of a pod that has no node yet; whether it was waiting."""
        work = self._volume_binds.get(key)
        return work is not None and work.cancel()

    def _release(self, key: str, uid: str) -> None:
        """Give back the room of a pod that was not bound; others may be waiting for it."""
        if self.snapshot.forget(key, uid):
            self.queue.move(Event.POD_GONE, "AssignedPodDelete")

    def _fail(self, queued: QueuedPod, why: str, started: float) -> None:
        self.queue.back_off(queued)
        self._reporter.failed(queued.pod, why)
        self._count("error", queued, started)

    def _count(self, result: str, queued: QueuedPod, started: float) -> None:
        seconds = time.perf_counter() - started
        self.metrics.attempt(result, queued.pod.spec.scheduler_name, seconds)

    # -- numbers ---------------------------------------------------------------------------

    def _gauges(self) -> Iterable[Metric]:
        return gauges(self.queue, self.snapshot, self._outbox, len(self._matrix))
