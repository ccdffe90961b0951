"""The attempt of a gang: nodes for as many of its members as it needs at once, or for none."""

import time
from collections.abc import Iterator

import structlog

from cluster.state.snapshot import Snapshot
from filters.common.plugin import Event
from scheduler.attempt import SchedulingAttempt
from scheduler.attempts.pod import PodAttempts
from scheduler.cycle.scheduling_cycle import Cycle, Decision
from scheduler.joint.gangs import GangMember, Gangs, PlacedMember, RefusedMember
from scheduler.observe.reporter import Reporter
from scheduler.outcomes import UNSCHEDULABLE, Outcomes
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import SchedulingQueue

log = structlog.get_logger(__name__)

TURN_S = 0.02
"""Seconds of the event loop that an attempt takes at once."""


class GangAttempts:
    """An attempt pauses between members: events may apply there, and members be deleted."""

    def __init__(
        self,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        *,
        gangs: Gangs,
        cycle: Cycle,
        nominator: Nominator,
        pods: PodAttempts,
        outcomes: Outcomes,
        reporter: Reporter,
    ) -> None:
        self._snapshot, self._queue, self._gangs = snapshot, queue, gangs
        self._cycle, self._nominator, self._pods = cycle, nominator, pods
        self._outcomes, self._reporter = outcomes, reporter

    def run(self, first: SchedulingAttempt) -> Iterator[None]:
        """One scheduling cycle for all waiting members of the pod's gang."""
        attempts = [
            SchedulingAttempt(queued, queued.info, first.framework, first.started)
            for queued in self._gangs.members(first.queued)
            if queued.info is not None
        ]
        members: list[GangMember] = []
        try:
            yield from _in_turns(self._gangs.decide(attempts, self._decide, members))
            enough = self._gangs.settle(first, members)
        except Exception as error:
            log.exception("scheduling cycle failed", pod=first.key, gang=first.pod.group)
            for attempt in attempts:
                self._snapshot.forget(attempt.key, attempt.pod.metadata.uid)
                why = f"internal error in the scheduling cycle: {error!r}"
                self._outcomes.failed(attempt, why)
            return
        decided = {member.attempt.key for member in members}
        for attempt in attempts:
            if attempt.key not in decided:
                # Gated or deleted during a pause.
                self._queue.unschedulable(attempt.queued, ~Event.NONE, frozenset())
        why = "" if enough or not members else self._gangs.message(first, members)
        yield from _in_turns(self._settle(members, enough, why))

    def _decide(self, attempt: SchedulingAttempt) -> Decision:
        nominated = self._nominator.ahead_of(attempt.info)
        return self._cycle.decide(attempt.framework, attempt.info, nominated)

    def _settle(self, members: list[GangMember], enough: bool, why: str) -> Iterator[None]:
        """Bind the members that have a node, where enough of the gang have one; let the others
        wait."""
        for member in members:
            yield
            attempt = member.attempt
            if enough and isinstance(member, PlacedMember):
                self._pods.bind(attempt, member.row, member.reservation)
                continue
            diagnosis = member.diagnosis if isinstance(member, RefusedMember) else None
            plugins = diagnosis.plugins if diagnosis is not None else frozenset[str]()
            # A member that fits waits for whatever the others wait for.
            self._queue.unschedulable(attempt.queued, ~Event.NONE, plugins)
            text = why or (diagnosis.message if diagnosis is not None else "")
            self._reporter.unschedulable(attempt.pod, text)
            self._outcomes.count(attempt, UNSCHEDULABLE)


def _in_turns(steps: Iterator[None]) -> Iterator[None]:
    """Only those stops at which the event loop has waited for TURN_S."""
    ends = time.perf_counter() + TURN_S
    for _ in steps:
        if time.perf_counter() >= ends:
            yield
            ends = time.perf_counter() + TURN_S
