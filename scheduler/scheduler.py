"""The scheduler: takes pod after pod from the queue, decides, and has it bound.

One event loop owns everything. A scheduling cycle runs from start to end without an await, so no
event of the cluster can fall into the middle of it; binds go on beside it.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import structlog
from prometheus_client.core import Metric

from cluster.api.client import ApiClient
from cluster.api.writer import ApiWriter
from cluster.objects.core import Pod
from cluster.objects.quantity import QuantityError
from cluster.state.snapshot import Snapshot
from cluster.state.storage import VolumePlan
from filters.common.handle import Handle
from filters.common.plugin import Event, PodInfo, Refusal
from latency.matrix import Matrix
from scheduler.attempt import SchedulingAttempt
from scheduler.binding.binding_cycle import BindingCycle
from scheduler.binding.object_waiters import ObjectWaiters
from scheduler.binding.reservation import PluginRefused, Reservation, reserve
from scheduler.binding.volume_binder import VolumeBinder, VolumesNotBound
from scheduler.binding.waiting_pods import WaitingPods
from scheduler.cluster_feed import ClusterFeed
from scheduler.config.configuration import Configuration
from scheduler.config.gschconfig import InvalidGschConfig
from scheduler.config.pod_info import WaitsForGlobal, pod_info
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.framework import Framework, frameworks
from scheduler.cycle.scheduling_cycle import Cycle, Decision
from scheduler.cycle.trial import Trial
from scheduler.joint.gangs import GangMember, Gangs
from scheduler.joint.pipelines import Pipelines
from scheduler.joint.problem import GUESSED, Placed
from scheduler.observe.gauges import gauges
from scheduler.observe.metrics import Metrics
from scheduler.observe.recent_decisions import RecentDecisions
from scheduler.observe.reporter import Reporter
from scheduler.pending_pods import PendingPods
from scheduler.preemption.candidates import TERMINATING, Candidate
from scheduler.preemption.executor import Preemptor
from scheduler.queue.events import (
    ASSIGNED_POD_DELETE,
    CONFIGURATION_RELOAD,
    LATENCY_CHANGE,
    PLUGIN_OBJECT_CHANGE,
)
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import Delays, QueuedPod, SchedulingQueue
from serving.garbage import leave_out_when
from serving.tasks import first_of

log = structlog.get_logger(__name__)

DRAIN_FOR_S = 20.0
"""Seconds that binds and events in flight get at shutdown."""
CYCLES_PER_TURN = 8
TURN_S = 0.02
"""Scheduling cycles in a row, and seconds, after which the event loop gets to its sockets."""


class Scheduler:
    """One scheduler process's work, from the first list to the last bind."""

    def __init__(self, client: ApiClient, configuration: Configuration, matrix: Matrix) -> None:
        self._matrix = matrix
        self.snapshot = Snapshot()
        self._recent = RecentDecisions()
        self.metrics = Metrics(self._gauges, self._recent.text)
        self.queue = SchedulingQueue(on_incoming=self.metrics.incoming)
        self._cycle = Cycle(self.snapshot, configuration.seed)
        self.frameworks: dict[str, Framework] = {}
        """By schedulerName, as configured now."""
        self._writer = ApiWriter(client)
        self._reporter = Reporter(self._writer)
        self.nominator = Nominator(self.snapshot)
        self._gangs = Gangs(self.snapshot, self.queue)
        self._pipelines = Pipelines(self.snapshot, self.queue)
        waiters, waiting = ObjectWaiters(), WaitingPods()
        slots = asyncio.Semaphore(configuration.parallelism)
        """One bound for all writes that pods wait for."""
        self._binding = BindingCycle(
            client,
            self.snapshot,
            self.queue,
            self.nominator,
            self._reporter,
            self.metrics,
            waiting,
            slots,
        )
        self._volumes = VolumeBinder(client, self.snapshot, waiters, slots)
        self._handle = Handle(
            matrix,
            client.request,
            self._bind_volumes,
            waiting.allow,
            waiting.reject,
            waiting.all,
        )
        self._preemptor = Preemptor(
            client,
            self.snapshot,
            self.queue,
            self.nominator,
            self._reporter,
            self._binding.give_up,
            slots,
            self.metrics.preemption_attempts.inc,
            self.metrics.preemption_victims.observe,
            configuration.seed,
        )
        self.stopped = asyncio.Event()
        self.configure(configuration)
        self._pending = PendingPods(
            self.snapshot,
            self.queue,
            self.nominator,
            self._gangs,
            self._pipelines,
            waiters,
            ours=self.frameworks.__contains__,
            admit=self._admit,
            forget=self._forget,
        )
        self.feed = ClusterFeed(
            client,
            self.snapshot,
            listener=self._pending,
            kinds={
                path: kind for f in self.frameworks.values() for path, kind in f.watches.items()
            }.values(),
            plugin_object_changed=self._plugin_object_changed,
        )
        self._handle.kinds.update(self.feed.plugin_objects)

    def configure(self, configuration: Configuration) -> None:
        """Take on profiles, plugins and delays; the queue keeps its pods.

        Raises ConfigurationError, with the old configuration still in force.
        """
        fresh = frameworks(configuration, self._handle)
        self.frameworks.clear()
        self.frameworks.update(fresh)
        self._cycle.clear()
        self.queue.delays = Delays(
            configuration.pod_initial_backoff_seconds,
            configuration.pod_max_backoff_seconds,
            configuration.pod_max_in_unschedulable_pods_duration,
        )

    def reconfigure(self, configuration: Configuration) -> None:
        """`configure` while running: pods that no node took, and those of a schedulerName that is
        new here, are tried at once. Raises ConfigurationError."""
        self.configure(configuration)
        self._pending.adopt(self.feed.reflectors["pods"].objects.values())
        self.queue.move(CONFIGURATION_RELOAD)

    # -- running ---------------------------------------------------------------------------

    async def follow(self) -> None:
        """Keep the snapshot and the queue, and send what is to be reported, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            group.create_task(self._writer.run())
            group.create_task(self._expire())
            group.create_task(self._follow_matrix())
            group.create_task(leave_out_when(self.feed.synced()))

    async def schedule(self) -> None:
        """Decide and bind until `stop`."""
        await first_of(self.feed.synced(), self.stopped.wait())
        if self.stopped.is_set():
            return
        self._reporter.enable()
        self._pending.admit_gated()
        log.info("scheduling", nodes=self.snapshot.node_count, pending=len(self.queue.pods))
        while not self.stopped.is_set():
            if not await self._turn():
                await self.queue.wait()

    async def _turn(self) -> bool:
        """A few scheduling cycles, and a slice of a long search; whether there was anything to
        do."""
        ends = time.perf_counter() + TURN_S
        busy = False
        for _ in range(CYCLES_PER_TURN):
            queued = self.queue.pop()
            if queued is None:
                break
            busy = True
            for _ in self._attempt(queued):
                # An attempt for many pods: events apply between two of them.
                await asyncio.sleep(0)
            if self._binding.full or time.perf_counter() >= ends:
                break
        if self._preemptor.searching:
            busy = True
            self._preemptor.advance()
        if busy:
            # Binding is slower than deciding: let it catch up, so that decisions are fresh.
            await asyncio.sleep(0)
            await self._binding.room()
        return busy

    def stop(self) -> None:
        """Take no further pod."""
        self.stopped.set()
        self.queue.wake()

    async def drain(self) -> bool:
        """Let binds and reports in flight end. Returns whether all did in time."""
        started = time.monotonic()
        await self._binding.drain(DRAIN_FOR_S)
        await self._preemptor.drain(max(DRAIN_FOR_S - (time.monotonic() - started), 0.1))
        left = max(DRAIN_FOR_S - (time.monotonic() - started), 0.1)
        sent = await self._writer.drain(left)
        log.info("drained", binds_left=len(self._binding), reports_left=len(self._writer))
        return sent and not len(self._binding)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(30)
            for key in self.snapshot.expire(time.monotonic()):
                log.warning("assumed pod expired: bound, but never seen by the watch", pod=key)
                self.queue.move(ASSIGNED_POD_DELETE)

    async def _follow_matrix(self) -> None:
        """Pods that a hard limit on latency refused may fit when the times change."""
        seen = self._matrix.version
        while True:
            await asyncio.sleep(1)
            if self._matrix.version != seen:
                seen = self._matrix.version
                self.queue.move(LATENCY_CHANGE)

    # -- one pod ---------------------------------------------------------------------------

    def _admit(self, pod: Pod) -> PodInfo | None:
        """What scheduling reads of the pod; it is registered with its gang or pipeline. None, with
        a report where something is wrong, where it has to wait for a change of itself."""
        framework = self.frameworks.get(pod.spec.scheduler_name)
        if framework is not None and framework.gated(pod):
            return None
        if why := self._gangs.waits(pod):
            self._reporter.unschedulable(pod, why)
            return None
        try:
            info = pod_info(pod)
            self._pipelines.waiting(pod.key, info.member)
            return info
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

    def _attempt(self, queued: QueuedPod) -> Iterable[None]:
        """One scheduling cycle. A bug in a plugin costs this pod a backoff, never the process.

        What is returned has to be gone through: it is where an attempt for many pods pauses.
        """
        started = time.perf_counter()
        profile = queued.pod.spec.scheduler_name
        framework, info = self.frameworks.get(profile), queued.info
        if framework is None or info is None:
            # Its profile went away with a new configuration: nobody's pod any more.
            self.queue.delete(queued.key)
        elif self._gangs.least(queued.pod):
            return self._attempt_gang(queued, framework, started)
        elif info.member is not None:
            self._attempt_pipeline(queued, framework, started)
        else:
            self._attempt_one(queued, framework, info, started)
        return ()

    def _attempt_one(
        self,
        queued: QueuedPod,
        framework: Framework,
        info: PodInfo,
        started: float,
        placed: Placed | None = None,
    ) -> None:
        """Decide for one pod; `placed` is what was decided for it jointly with others."""
        profile = queued.pod.spec.scheduler_name
        prefer = self.nominator.row(queued.key)
        if prefer < 0 and placed is not None:
            prefer = placed.row
        nominated = self.nominator.ahead_of(info)
        try:
            decision = self._cycle.decide(framework, info, nominated, prefer)
            if decision.diagnosis is None:
                self._tell(queued, framework, info, decision, placed)
        except Exception as error:
            log.exception("scheduling cycle failed", pod=queued.key)
            why = f"internal error in the scheduling cycle: {error!r}"
            self._binding.fail(queued, why, started)
            return
        seconds = time.perf_counter() - started
        if decision.diagnosis is not None:
            self.metrics.point("Filter", "Unschedulable", profile, seconds)
            try:
                self._refuse(queued, framework, info, decision.trial, decision.diagnosis, started)
            except Exception as error:
                log.exception("post-filter failed", pod=queued.key)
                why = f"internal error after no node was found: {error!r}"
                self._binding.fail(queued, why, started)
            return
        self.metrics.point("Filter", "Success", profile, seconds)
        self._assume(SchedulingAttempt(queued, info, framework, started), decision)

    def _assume(self, attempt: SchedulingAttempt, decision: Decision) -> None:
        """Count the pod on its node, have plugins reserve what it needs, and begin to bind it."""
        queued, info = attempt.queued, attempt.info
        self.snapshot.assume(queued.pod, info.needs, decision.row)
        try:
            reservation = reserve(
                attempt.framework, decision.trial, info, self.snapshot, decision.row
            )
        except PluginRefused as refusal:
            self.snapshot.forget(queued.key, queued.pod.metadata.uid)
            self._binding.refuse(attempt, refusal)
        except Exception as error:
            log.exception("reserve or permit failed", pod=queued.key)
            self.snapshot.forget(queued.key, queued.pod.metadata.uid)
            why = f"internal error in reserve or permit: {error!r}"
            self._binding.fail(queued, why, attempt.started)
        else:
            self._begin(attempt, decision.row, reservation)

    def _begin(self, attempt: SchedulingAttempt, row: int, reservation: Reservation) -> None:
        try:
            self._binding.begin(attempt, row, reservation)
        except Exception as error:
            log.exception("binding cycle failed", pod=attempt.queued.key)
            why = f"internal error at the start of the binding cycle: {error!r}"
            self._binding.give_back(attempt, reservation)
            self._binding.fail(attempt.queued, why, attempt.started)

    def _plugin_object_changed(self, path: str, old: Any, new: Any) -> None:
        for framework in self.frameworks.values():
            framework.watched(path, old, new)
        self.queue.move(PLUGIN_OBJECT_CHANGE)

    async def _bind_volumes(self, pod: Pod, plan: VolumePlan, seconds: float) -> None:
        """Raises Refusal."""
        try:
            await self._volumes.bind(pod, plan, seconds)
        except VolumesNotBound as error:
            raise Refusal(f"binding volumes: {error}") from error
        # The API server shows it from now on.
        self.snapshot.storage.forget(plan)

    def _attempt_gang(
        self, first: QueuedPod, framework: Framework, started: float
    ) -> Iterator[None]:
        """One scheduling cycle for all waiting members of a gang: all that are needed, or none."""
        members = self._gangs.members(first)

        def decide(info: PodInfo) -> Decision:
            return self._cycle.decide(framework, info, self.nominator.ahead_of(info))

        found: list[GangMember] = []
        try:
            ends = time.perf_counter() + TURN_S
            for _ in self._gangs.decide(members, framework, decide, found):
                if time.perf_counter() >= ends:
                    yield
                    ends = time.perf_counter() + TURN_S
            enough = self._gangs.settle(members, found)
        except Exception as error:
            log.exception("scheduling cycle failed", pod=first.key, gang=first.pod.group)
            for queued in members:
                self.snapshot.forget(queued.key, queued.pod.metadata.uid)
                self._binding.fail(
                    queued, f"internal error in the scheduling cycle: {error!r}", started
                )
            return
        yield from self._settled(members, framework, found, enough, started)

    def _settled(
        self,
        members: list[QueuedPod],
        framework: Framework,
        found: list[GangMember],
        enough: bool,
        started: float,
    ) -> Iterator[None]:
        """Bind the members that have a node, where enough of the gang have one; let the others
        wait."""
        why = "" if enough or not found else self._gangs.message(found)
        decided = {member.queued.key for member in found}
        for queued in members:
            if queued.key not in decided:
                # Gated or deleted during a pause.
                self.queue.unschedulable(queued, ~Event.NONE, frozenset())
        ends = time.perf_counter() + TURN_S
        for member in found:
            if time.perf_counter() >= ends:
                yield
                ends = time.perf_counter() + TURN_S
            diagnosis = member.decision.diagnosis
            if enough and member.reservation is not None:
                attempt = SchedulingAttempt(member.queued, member.info, framework, started)
                self._begin(attempt, member.decision.row, member.reservation)
                continue
            plugins = diagnosis.plugins if diagnosis is not None else frozenset[str]()
            # A member that fits waits for whatever the others wait for.
            self.queue.unschedulable(member.queued, ~Event.NONE, plugins)
            text = why or (diagnosis.message if diagnosis is not None else "")
            self._reporter.unschedulable(member.queued.pod, text)
            self._binding.count("unschedulable", member.queued, started)

    def _attempt_pipeline(self, first: QueuedPod, framework: Framework, started: float) -> None:
        """One scheduling cycle for the waiting pods of a pipeline: nodes for all of them together.

        Each of them is then decided like any pod, on its node of that plan where it fits there.
        """
        wait = self._pipelines.wait(first)
        if wait > 0:
            self.queue.postpone(first, wait)
            return
        members = self._pipelines.members(first)

        def trial(info: PodInfo) -> Trial:
            return self._cycle.trial(framework, info, self.nominator.ahead_of(info))

        try:
            plan = self._pipelines.plan(members, trial, framework)
        except Exception as error:
            log.exception("joint placement failed", pod=first.key)
            for queued in members:
                why = f"internal error in joint placement: {error!r}"
                self._binding.fail(queued, why, started)
            return
        for queued in members:
            if queued.info is not None:
                placed = plan.get(queued.key)
                self._attempt_one(queued, framework, queued.info, started, placed)

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
        attempt = SchedulingAttempt(queued, info, framework, started)
        for plugin in framework.post_filters:
            result = plugin.post_filter(info, self.snapshot)
            if result is not None and result.nominated:
                self.nominator.add(info, result.nominated)
                self._reporter.unschedulable(queued.pod, diagnosis.message, result.nominated)
                self._binding.count("unschedulable", queued, started)
                return
            if result is not None and result.message:
                diagnosis = replace(diagnosis, sentence=result.message)
        self._preemptor.start(
            attempt, trial, diagnosis, lambda result: self._refused(attempt, diagnosis, result)
        )

    def _refused(
        self, attempt: SchedulingAttempt, diagnosis: Diagnosis, result: Candidate | str
    ) -> None:
        """`_conclude`; a bug there costs the pod a backoff."""
        try:
            self._conclude(attempt, diagnosis, result)
        except Exception as error:
            log.exception("preemption failed", pod=attempt.queued.key)
            why = f"internal error in preemption: {error!r}"
            self._binding.fail(attempt.queued, why, attempt.started)

    def _conclude(
        self, attempt: SchedulingAttempt, diagnosis: Diagnosis, result: Candidate | str
    ) -> None:
        """Report why no node fits, and what preemption came to."""
        queued, info = attempt.queued, attempt.info
        if isinstance(result, Candidate):
            node = self._preemptor.carry_out(queued, info, result)
            self._reporter.unschedulable(queued.pod, diagnosis.message, node)
        else:
            if TERMINATING not in result and self.nominator.give_up(queued.key):
                self._reporter.clear_nomination(queued.pod)
                self.queue.move(ASSIGNED_POD_DELETE)
            message = replace(diagnosis, sentence=result).message
            self._reporter.unschedulable(queued.pod, message)
        self._recent.refused(queued.key, info.policy, diagnosis.message)
        self._binding.count("unschedulable", queued, attempt.started)

    def _tell(
        self,
        queued: QueuedPod,
        framework: Framework,
        info: PodInfo,
        decision: Decision,
        placed: Placed | None,
    ) -> None:
        """Why the pod goes where it goes, for its owner and for people who look on."""
        node = self.snapshot.names[decision.row]
        why = framework.why_in_short(info, decision.trial, self.snapshot, decision.row)
        if placed is not None and decision.row == placed.row:
            why = placed.note
            self._reporter.normal(queued.pod, "PlacedJointly", why)
            if placed.guessed:
                self._reporter.warning(queued.pod, "LatencyUnknown", GUESSED)
        self._recent.placed(queued.key, node, info.policy, why)
        note = framework.latency_note(info, self.snapshot, decision.row)
        if note:
            self._reporter.warning(queued.pod, "LatencyUnknown", note)
        if log.is_enabled_for(logging.DEBUG):
            why = framework.why(info, decision.trial, self.snapshot, decision.row)
            log.debug("decided", pod=queued.key, node=node, why=why)

    # -- numbers ---------------------------------------------------------------------------

    def _forget(self, pod: Pod) -> None:
        """The pod is deleted, or about to be."""
        self._binding.give_up(pod.key, pod.metadata.uid)
        self._reporter.deleted(pod)
        self._recent.gone(pod.key)
        self._gangs.gone(pod.key)

    def _gauges(self) -> Iterable[Metric]:
        yield from gauges(self.queue, self.snapshot, self._writer, len(self._matrix))
