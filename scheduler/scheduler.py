"""The scheduler: takes pod after pod from the queue, decides, and has it bound.

One event loop owns everything. A scheduling cycle runs from start to end without an await, so no
event of the cluster can fall into the middle of it; binds go on beside it.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client.core import Metric

from cluster.api.client import ApiClient
from cluster.api.writer import ApiWriter
from cluster.errors import PodRejected
from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from cluster.state.storage import VolumePlan
from filters.common.handle import Handle
from filters.common.plugin import PodInfo, Refusal
from latency.matrix import Matrix
from scheduler.attempt import SchedulingAttempt
from scheduler.attempts.gang import TURN_S, GangAttempts
from scheduler.attempts.pipeline import PipelineAttempts
from scheduler.attempts.pod import PodAttempts
from scheduler.binding.binding_cycle import BindingCycle
from scheduler.binding.object_waiters import ObjectWaiters
from scheduler.binding.volume_binder import VolumeBinder, VolumesNotBound
from scheduler.binding.waiting_pods import WaitingPods
from scheduler.cluster_feed import ClusterFeed
from scheduler.config.configuration import Configuration
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework, frameworks
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.joint.gangs import Gangs
from scheduler.joint.pipelines import Pipelines
from scheduler.observe.gauges import gauges
from scheduler.observe.metrics import Metrics
from scheduler.observe.recent_decisions import RecentDecisions
from scheduler.observe.reporter import Reporter
from scheduler.outcomes import Outcomes
from scheduler.pending_pods import PendingPods
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
"""Scheduling cycles in a row after which, as after TURN_S, the event loop gets to its sockets."""


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
        self.writer = ApiWriter(client)
        self._reporter = Reporter(self.writer)
        self.nominator = Nominator(self.snapshot)
        self._gangs = Gangs(self.snapshot, self.queue)
        self._pipelines = Pipelines(self.snapshot, self.queue)
        waiters, waiting = ObjectWaiters(), WaitingPods()
        slots = asyncio.Semaphore(configuration.parallelism)
        """One bound for all writes that pods wait for."""
        outcomes = Outcomes(self.queue, self._reporter, self.metrics)
        self.binding = BindingCycle(
            client,
            self.snapshot,
            self.queue,
            nominator=self.nominator,
            outcomes=outcomes,
            reporter=self._reporter,
            metrics=self.metrics,
            waiting=waiting,
            slots=slots,
        )
        self._volumes = VolumeBinder(client, self.snapshot, waiters, slots)
        self.handle = Handle(
            matrix,
            client.request,
            self._bind_volumes,
            waiting.allow,
            waiting.reject,
            waiting.all,
        )
        self.preemptor = Preemptor(
            client,
            self.snapshot,
            self.queue,
            nominator=self.nominator,
            reporter=self._reporter,
            metrics=self.metrics,
            give_up=self.binding.give_up,
            slots=slots,
            seed=configuration.seed,
        )
        self._pod_attempts = PodAttempts(
            self.snapshot,
            self.queue,
            cycle=self._cycle,
            nominator=self.nominator,
            binding=self.binding,
            preemptor=self.preemptor,
            outcomes=outcomes,
            reporter=self._reporter,
            metrics=self.metrics,
            recent=self._recent,
        )
        self._gang_attempts = GangAttempts(
            self.snapshot,
            self.queue,
            gangs=self._gangs,
            cycle=self._cycle,
            nominator=self.nominator,
            pods=self._pod_attempts,
            outcomes=outcomes,
            reporter=self._reporter,
        )
        self._pipeline_attempts = PipelineAttempts(
            self.queue,
            pipelines=self._pipelines,
            cycle=self._cycle,
            nominator=self.nominator,
            pods=self._pod_attempts,
            outcomes=outcomes,
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
        self.handle.kinds.update(self.feed.plugin_objects)

    def configure(self, configuration: Configuration) -> None:
        """Take on profiles, plugins and delays; the queue keeps its pods.

        Raises ConfigError, with the old configuration still in force.
        """
        fresh = frameworks(configuration, self.handle)
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
        new here, are tried at once. Raises ConfigError."""
        self.configure(configuration)
        self._pending.adopt(self.feed.reflectors["pods"].objects.values())
        self.queue.move(CONFIGURATION_RELOAD)

    # -- running ---------------------------------------------------------------------------

    async def follow(self) -> None:
        """Keep the snapshot and the queue, and send what is to be reported, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            group.create_task(self.writer.run())
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
            if self.binding.full or time.perf_counter() >= ends:
                break
        if self.preemptor.searching:
            busy = True
            self.preemptor.advance()
        if busy:
            # Binding is slower than deciding: let it catch up, so that decisions are fresh.
            await asyncio.sleep(0)
            await self.binding.room()
        return busy

    def stop(self) -> None:
        """Take no further pod."""
        self.stopped.set()
        self.queue.wake()

    async def drain(self) -> bool:
        """Let binds and reports in flight end. Returns whether all did in time."""
        started = time.monotonic()
        self._pipeline_attempts.close()
        await self.binding.drain(DRAIN_FOR_S)
        await self.preemptor.drain(max(DRAIN_FOR_S - (time.monotonic() - started), 0.1))
        left = max(DRAIN_FOR_S - (time.monotonic() - started), 0.1)
        sent = await self.writer.drain(left)
        log.info("drained", binds_left=len(self.binding), reports_left=len(self.writer))
        return sent and not len(self.binding)

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
        except PodRejected as rejected:
            self._reporter.rejected(pod, rejected)
        except Exception as error:
            log.exception("pod not read", pod=pod.key)
            self._reporter.failed(pod, f"internal error in reading the pod: {error!r}")
        return None

    def _attempt(self, queued: QueuedPod) -> Iterable[None]:
        """One scheduling attempt. What is returned has to be gone through: it is where an attempt
        for many pods pauses."""
        framework, info = self.frameworks.get(queued.pod.spec.scheduler_name), queued.info
        if framework is None or info is None:
            # Its profile went away with a new configuration: nobody's pod any more.
            self.queue.delete(queued.key)
            return ()
        attempt = SchedulingAttempt(queued, info, framework, time.perf_counter())
        if self._gangs.least(queued.pod):
            return self._gang_attempts.run(attempt)
        if info.member is not None:
            self._pipeline_attempts.run(attempt)
        else:
            self._pod_attempts.run(attempt)
        return ()

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

    # -- numbers ---------------------------------------------------------------------------

    def _forget(self, pod: Pod) -> None:
        """The pod is deleted, or about to be."""
        self.binding.give_up(pod.key, pod.metadata.uid)
        self._reporter.deleted(pod)
        self._recent.forget(pod.key)
        self._gangs.forget(pod.key)

    def _gauges(self) -> Iterable[Metric]:
        yield from gauges(self.queue, self.snapshot, self.writer, len(self._matrix))
