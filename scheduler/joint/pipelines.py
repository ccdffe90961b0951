"""Pipelines: pods that talk to one another are placed together, near one another.

Who belongs to a pipeline, and to what it talks, is in the pods' gschConfig
(`filters.common.member`). The pods of one pipeline that arrive one by one are held for a short,
bounded time for their peers; then nodes for all that wait are chosen jointly
(`scheduler.joint.problem`), near those that run already.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from filters.common.member import PipelineMember
from scheduler.attempt import SchedulingAttempt
from scheduler.config.gschconfig import ENV_NAME, InvalidGschConfig, of_pod
from scheduler.cycle.trial import Trial
from scheduler.joint.problem import Plan, plan_jointly
from scheduler.queue.scheduling_queue import QueuedPod, QueueState, SchedulingQueue

HOLD_S = 3.0
"""Seconds that the first pod of a pipeline waits at most for the others."""
QUIET_S = 0.5
"""Seconds without a further member after which a pipeline that does not name its stages is
whole."""
RETRY_DELAY_S = 0.1
MAX_AT_ONCE = 32
"""Pods that are placed jointly; those of a larger pipeline come in turns, near the first ones."""


@dataclass(slots=True)
class _Pipeline:
    """Its pods by key: those that wait, and those that have a node, with their part in it."""

    waiting: dict[str, PipelineMember] = field(default_factory=dict)
    placed: dict[str, PipelineMember] = field(default_factory=dict)
    latest: float = 0.0


class Pipelines:
    """All pipelines that any pod of the cluster belongs to."""

    def __init__(
        self,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot, self._queue, self._clock = snapshot, queue, clock
        self._pipelines: dict[str, _Pipeline] = {}
        self._of: dict[str, str] = {}

    def __len__(self) -> int:
        """How many pods are known to belong to one."""
        return len(self._of)

    # -- who belongs where -----------------------------------------------------------------

    def waiting(self, key: str, member: PipelineMember | None) -> None:
        """A pending pod was read."""
        self.forget(key)
        if member is not None and member.pipeline:
            pipeline = self._pipelines.setdefault(member.pipeline, _Pipeline())
            pipeline.waiting[key] = member
            pipeline.latest = self._clock()
            self._of[key] = member.pipeline

    def bound(self, pod: Pod) -> None:
        """A pod has a node: what it says of pipelines counts for those that come."""
        if pod.metadata.deletion_timestamp:
            # On its way out: nobody is to be placed beside it.
            self.forget(pod.key)
            return
        config = any(v.name == ENV_NAME for c in pod.spec.containers for v in c.env or ())
        if not config:
            return
        try:
            gsch_config = of_pod(pod)
        except InvalidGschConfig:
            return
        member = gsch_config.member if gsch_config is not None else None
        self.forget(pod.key)
        if member is not None and member.pipeline:
            self._pipelines.setdefault(member.pipeline, _Pipeline()).placed[pod.key] = member
            self._of[pod.key] = member.pipeline

    def forget(self, key: str) -> None:
        """The pod is deleted, or is to be read anew."""
        name = self._of.pop(key, None)
        if name is None:
            return
        pipeline = self._pipelines[name]
        pipeline.waiting.pop(key, None)
        pipeline.placed.pop(key, None)
        if not pipeline.waiting and not pipeline.placed:
            del self._pipelines[name]

    # -- waiting for members -----------------------------------------------------------------

    def wait(self, first: QueuedPod) -> float:
        """Seconds after which to look again for further members of its pipeline; 0 where it is time
        to place."""
        pipeline = self._pipelines.get(self._of.get(first.key, ""))
        waited = self._clock() - first.added_at
        if pipeline is not None and self._being_placed(pipeline, first.key):
            return RETRY_DELAY_S
        if pipeline is None or waited >= HOLD_S or first.attempts > 1:
            return 0.0
        placed = self._placed(pipeline)
        members = [*self._waiting(pipeline).values(), *placed.values()]
        named = frozenset[str]().union(*(member.named for member in members))
        if named - {member.stage for member in members}:
            return min(RETRY_DELAY_S, HOLD_S - waited)
        if any(member.stages for member in members) or placed:
            return 0.0
        left = QUIET_S - (self._clock() - pipeline.latest)
        return max(left, 0.0)

    def _being_placed(self, pipeline: _Pipeline, but: str) -> bool:
        """Whether nodes for other pods of it are being searched for."""
        queued = (self._queue.pods.get(key) for key in pipeline.waiting if key != but)
        return any(
            q is not None and q.state is QueueState.IN_FLIGHT and q.key not in self._snapshot.pods
            for q in queued
        )

    def _placed(self, pipeline: _Pipeline) -> dict[str, PipelineMember]:
        """Mates that have a node, those whose bind is still under way included."""
        assumed = {k: m for k, m in pipeline.waiting.items() if k in self._snapshot.pods}
        return pipeline.placed | assumed

    def _waiting(self, pipeline: _Pipeline) -> dict[str, PipelineMember]:
        members: dict[str, PipelineMember] = {}
        for key in sorted(pipeline.waiting):
            queued = self._queue.pods.get(key)
            if key in self._snapshot.pods:
                continue
            if queued is not None and queued.info is not None and queued.info.member is not None:
                members[key] = queued.info.member
        return members

    def members(self, first: QueuedPod) -> list[QueuedPod]:
        """The pod and every member that waits, taken out of their queues."""
        members = [first]
        pipeline = self._pipelines.get(self._of.get(first.key, ""))
        profile = first.pod.spec.scheduler_name
        for key in self._waiting(pipeline) if pipeline is not None else ():
            queued = self._queue.pods[key]
            # A gang is decided as a gang.
            member = key != first.key and not queued.held and not queued.pod.group
            if len(members) == MAX_AT_ONCE:
                break
            if member and queued.pod.spec.scheduler_name == profile and self._queue.take(queued):
                members.append(queued)
        return members

    # -- placing ---------------------------------------------------------------------------

    def plan(
        self,
        attempts: Sequence[SchedulingAttempt],
        trial: Callable[[SchedulingAttempt], Trial],
    ) -> Plan | None:
        """Where these pods are best placed beside the others, yet to be solved; pods that fit
        nowhere are left out, and decided like any other."""
        pipeline = self._pipelines.get(self._of.get(attempts[0].key, ""))
        placed = {} if pipeline is None else self._placed(pipeline)
        trials = map(trial, attempts)
        return plan_jointly(trials, placed, self._snapshot, attempts[0].framework)
