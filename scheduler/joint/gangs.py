"""Gang scheduling: pods of a PodGroup with a gang policy are placed together or not at all.

Source: KEP-4671 and upstream's gangscheduling plugin. Upstream holds placed members at Permit until
enough of them are; here all waiting members are decided in one scheduling cycle, and all of them
are given up again where too few fit, so that two gangs can never hold halves of the same room.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.objects.core import Pod
from cluster.objects.keys import ObjectKey
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from scheduler.attempt import SchedulingAttempt
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.reservation import PluginRefused, Reservation, reserve
from scheduler.cycle.scheduling_cycle import Decision, FitError
from scheduler.queue.scheduling_queue import QueuedPod, SchedulingQueue


@dataclass(frozen=True, slots=True)
class PlacedMember:
    """A gang's pod that is assumed on a node."""

    attempt: SchedulingAttempt
    row: int
    reservation: Reservation
    """What is held for it there."""


@dataclass(frozen=True, slots=True)
class RefusedMember:
    """A gang's pod that has no node."""

    attempt: SchedulingAttempt
    diagnosis: Diagnosis


GangMember = PlacedMember | RefusedMember


def refused_group(group: str, fields: list[str]) -> str:
    """Why a pod of a PodGroup with these fields is not scheduled."""
    name = ObjectKey.parse(group).name
    return f'pod group "{name}" asks for what nothing here honours: {", ".join(fields)}'


class Gangs:
    """Which pods have to be placed together, and whether all that are needed are there."""

    def __init__(self, snapshot: Snapshot, queue: SchedulingQueue) -> None:
        self._snapshot, self._queue = snapshot, queue
        self._complete: set[str] = set()
        """Groups known to be complete while their members are prepared."""
        self._kept: dict[str, dict[str, None]] = {}
        """By group, the keys of the pods that wait for it, in the order of their arrival."""
        self._group_of: dict[str, str] = {}

    def least(self, pod: Pod) -> int:
        """How many pods of its gang have to run at once; 0 for a pod of no gang."""
        return self._least(pod.group)

    def _least(self, name: str) -> int:
        group = self._snapshot.groups.get(name)
        gang = group.spec.scheduling_policy.gang if group is not None else None
        return gang.min_count if gang is not None else 0

    def waits(self, pod: Pod) -> str:
        """Why the pod cannot be looked at yet, in upstream's words; empty where it can."""
        why = self._why(pod)
        self.forget(pod.key)
        if why:
            self._kept.setdefault(pod.group, {})[pod.key] = None
            self._group_of[pod.key] = pod.group
        return why

    def _why(self, pod: Pod) -> str:
        if not pod.group or pod.group in self._complete:
            return ""
        if pod.group not in self._snapshot.groups:
            name = ObjectKey.parse(pod.group).name
            return f'waiting for pods\'s pod group "{name}" to appear in scheduling queue'
        if fields := self._snapshot.groups[pod.group].spec.not_honoured:
            return refused_group(pod.group, fields)
        if not self._enough(pod.group, pod.key):
            return "waiting for minCount pods from a gang to appear in scheduling queue"
        return ""

    def forget(self, key: str) -> None:
        """The pod is deleted, or is to be read anew."""
        group = self._group_of.pop(key, None)
        if group is not None:
            del self._kept[group][key]
            if not self._kept[group]:
                del self._kept[group]

    def changed(self, group: str, prepare: Callable[[Pod], PodInfo | None]) -> None:
        """The gang became larger: members that were kept waiting may be ready now."""
        if group in self._kept and group in self._snapshot.groups and self._enough(group):
            self._complete.add(group)
            try:
                self._prepare(group, prepare)
            finally:
                self._complete.discard(group)

    def group_added(self, group: str, prepare: Callable[[Pod], PodInfo | None]) -> None:
        """The PodGroup itself came or changed: its members wait for something else now."""
        self._prepare(group, prepare)

    def _prepare(self, group: str, prepare: Callable[[Pod], PodInfo | None]) -> None:
        for key in list(self._kept.get(group, ())):
            queued = self._queue.pods.get(key)
            if queued is not None and queued.info is None:
                self._queue.update(queued.pod, prepare(queued.pod))

    def _enough(self, group: str, key: str = "") -> bool:
        """Whether as many pods of the gang as have to run at once are there, the pod of this key
        among them."""
        least = self._least(group)
        queued = self._queue.groups.get(group, set[str]())
        arriving = int(bool(key) and key not in queued)
        pending, placed = len(queued) + arriving, self._snapshot.ledger.members[group]
        # Those that are being bound are both: only between these bounds do they have to be told
        # apart.
        if max(pending, placed) >= least:
            return True
        if pending + placed < least:
            return False
        return len(self._waiting(group)) + arriving + placed >= least

    def _waiting(self, group: str) -> set[str]:
        """Keys of the group's pods that have no node yet."""
        pods = self._queue.pods
        keys = self._queue.groups.get(group, ())
        return {k for k in keys if not self._snapshot.holds(k, pods[k].pod.metadata.uid)}

    def members(self, first: QueuedPod) -> list[QueuedPod]:
        """The pod and every other one of its gang that waits, taken out of their queues."""
        members = [first]
        for key in sorted(self._waiting(first.pod.group) - {first.key}):
            queued = self._queue.pods[key]
            if queued.info is not None and self._queue.take(queued):
                members.append(queued)
        return members

    def decide(
        self,
        attempts: Sequence[SchedulingAttempt],
        decide: Callable[[SchedulingAttempt], Decision],
        members: list[GangMember],
    ) -> Iterator[None]:
        """Decide and assume pod after pod, each into `members`, with a stop after each: there
        events may apply, and pods be deleted. Nothing stays assumed where `decide` raises."""
        try:
            for attempt in attempts:
                queued = attempt.queued
                if queued.info is None or self._queue.pods.get(queued.key) is not queued:
                    continue
                now = replace(attempt, info=queued.info)
                members.append(self._member(now, decide(now)))
                yield
        except Exception:
            self._give_back(members)
            raise

    def _member(self, attempt: SchedulingAttempt, decision: Decision) -> GangMember:
        """Assumed and reserved where it has a node."""
        if isinstance(decision, FitError):
            return RefusedMember(attempt, decision.diagnosis)
        framework, info, pod = attempt.framework, attempt.info, attempt.pod
        self._snapshot.assume(pod, info.needs, decision.row)
        try:
            held = reserve(framework, decision.trial, info, self._snapshot, decision.row)
        except PluginRefused as refusal:
            self._snapshot.forget(attempt.key, pod.metadata.uid)
            refused = Diagnosis(1, {str(refusal): 1}, frozenset((refusal.plugin,)))
            return RefusedMember(attempt, refused)
        return PlacedMember(attempt, decision.row, held)

    def settle(self, first: SchedulingAttempt, members: Sequence[GangMember]) -> bool:
        """Whether enough of the gang have a node; where too few have, nothing stays assumed."""
        enough = self._snapshot.ledger.members[first.pod.group] >= self.least(first.pod)
        if not enough:
            self._give_back(members)
        return enough

    def _give_back(self, members: Sequence[GangMember]) -> None:
        for member in members:
            if isinstance(member, PlacedMember):
                member.reservation.unreserve(self._snapshot)
                self._snapshot.forget(member.attempt.key, member.attempt.pod.metadata.uid)

    def message(self, first: SchedulingAttempt, members: Sequence[GangMember]) -> str:
        """Why the gang waits: how many of it fit, and what keeps the first other one."""
        refused = [member for member in members if isinstance(member, RefusedMember)]
        fit = len(members) - len(refused)
        least = self.least(first.pod)
        head = f"gang {first.pod.group} needs {least} pods at once and {fit} fit"
        return f"{head}: {refused[0].diagnosis.message}" if refused else head
