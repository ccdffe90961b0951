"""The attempt of one pod: decide, assume and begin to bind; or, where no node fits, make room."""

import logging
import time
from dataclasses import replace

import structlog

from cluster.state.snapshot import Snapshot
from filters.common.plugin import Event
from scheduler.attempt import SchedulingAttempt
from scheduler.binding.binding_cycle import BindingCycle
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.placement_reasons import latency_warning, why_in_short
from scheduler.cycle.placement_reasons import why as reasons_of
from scheduler.cycle.reservation import PluginRefused, Reservation, reserve
from scheduler.cycle.scheduling_cycle import Cycle, ScheduleResult
from scheduler.cycle.trial import Trial
from scheduler.joint.problem import GUESSED, Placed
from scheduler.observe.metrics import Metrics
from scheduler.observe.recent_decisions import RecentDecisions
from scheduler.observe.reporter import Reporter
from scheduler.outcomes import UNSCHEDULABLE, Outcomes
from scheduler.preemption.candidates import TERMINATING, Candidate
from scheduler.preemption.executor import Preemptor
from scheduler.queue.events import ASSIGNED_POD_DELETE
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import SchedulingQueue

log = structlog.get_logger(__name__)


class PodAttempts:
    """A bug of a plugin costs the pod a backoff, never the process."""

    def __init__(
        self,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        *,
        cycle: Cycle,
        nominator: Nominator,
        binding: BindingCycle,
        preemptor: Preemptor,
        outcomes: Outcomes,
        reporter: Reporter,
        metrics: Metrics,
        recent: RecentDecisions,
    ) -> None:
        self._snapshot, self._queue, self._cycle = snapshot, queue, cycle
        self._nominator, self._binding, self._preemptor = nominator, binding, preemptor
        self._outcomes, self._reporter = outcomes, reporter
        self._metrics, self._recent = metrics, recent

    def run(self, attempt: SchedulingAttempt, placed: Placed | None = None) -> None:
        """One scheduling cycle; `placed` is what was decided for the pod jointly with others."""
        prefer = self._nominator.row(attempt.key)
        if prefer is None and placed is not None:
            prefer = self._snapshot.row(placed.node)
        nominated = self._nominator.ahead_of(attempt.info)
        try:
            decision = self._cycle.decide(attempt.framework, attempt.info, nominated, prefer)
            if isinstance(decision, ScheduleResult):
                self._explain(attempt, decision, placed)
        except Exception as error:
            log.exception("scheduling cycle failed", pod=attempt.key)
            why = f"internal error in the scheduling cycle: {error!r}"
            self._outcomes.failed(attempt, why)
            return
        status = "Success" if isinstance(decision, ScheduleResult) else "Unschedulable"
        seconds = time.perf_counter() - attempt.started
        self._metrics.point("Filter", status, attempt.pod.spec.scheduler_name, seconds)
        if isinstance(decision, ScheduleResult):
            self._assume(attempt, decision)
            return
        try:
            self._post_filter(attempt, decision.trial, decision.diagnosis)
        except Exception as error:
            log.exception("post-filter failed", pod=attempt.key)
            why = f"internal error after no node was found: {error!r}"
            self._outcomes.failed(attempt, why)

    # -- a node was found ------------------------------------------------------------------

    def _explain(
        self, attempt: SchedulingAttempt, decision: ScheduleResult, placed: Placed | None
    ) -> None:
        """Why the pod goes where it goes, for its owner and for people who look on."""
        framework, info, pod = attempt.framework, attempt.info, attempt.pod
        node = self._snapshot.names[decision.row]
        why = why_in_short(framework, info, decision.trial, self._snapshot, decision.row)
        if placed is not None and node == placed.node:
            why = placed.message
            self._reporter.normal(pod, "PlacedJointly", why)
            if placed.guessed:
                self._reporter.warning(pod, "LatencyUnknown", GUESSED)
        self._recent.placed(attempt.key, node, info.policy, why)
        warning = latency_warning(framework, info, self._snapshot, decision.row)
        if warning:
            self._reporter.warning(pod, "LatencyUnknown", warning)
        if log.is_enabled_for(logging.DEBUG):
            why = reasons_of(framework, info, decision.trial, self._snapshot, decision.row)
            log.debug("decided", pod=attempt.key, node=node, why=why)

    def _assume(self, attempt: SchedulingAttempt, decision: ScheduleResult) -> None:
        """Count the pod on its node, have plugins reserve what it needs, and begin to bind it."""
        pod, info, row = attempt.pod, attempt.info, decision.row
        self._snapshot.assume(pod, info.needs, row)
        try:
            reservation = reserve(attempt.framework, decision.trial, info, self._snapshot, row)
        except PluginRefused as refusal:
            self._snapshot.forget(attempt.key, pod.metadata.uid)
            self._outcomes.refused(attempt, refusal)
        except Exception as error:
            log.exception("reserve or permit failed", pod=attempt.key)
            self._snapshot.forget(attempt.key, pod.metadata.uid)
            self._outcomes.failed(attempt, f"internal error in reserve or permit: {error!r}")
        else:
            self.bind(attempt, row, reservation)

    def bind(self, attempt: SchedulingAttempt, row: int, reservation: Reservation) -> None:
        """Begin to bind a pod that is assumed on the row."""
        try:
            self._binding.begin(attempt, row, reservation)
        except Exception as error:
            log.exception("binding cycle failed", pod=attempt.key)
            self._binding.give_back(attempt, reservation)
            why = f"internal error at the start of the binding cycle: {error!r}"
            self._outcomes.failed(attempt, why)

    # -- no node was found -----------------------------------------------------------------

    def _post_filter(self, attempt: SchedulingAttempt, trial: Trial, diagnosis: Diagnosis) -> None:
        """Make room by a plugin or by preemption where that helps, else wait for a change."""
        framework, info = attempt.framework, attempt.info
        refusing = diagnosis.plugins or frozenset(p.NAME for p in framework.filters)
        waits_for = framework.events(refusing) | Event.NODE_ADD
        self._queue.unschedulable(attempt.queued, waits_for, diagnosis.plugins)
        for plugin in framework.post_filters:
            result = plugin.post_filter(info, self._snapshot)
            if result is not None and result.nominated:
                self._nominator.add(info, result.nominated)
                self._reporter.unschedulable(attempt.pod, diagnosis.message, result.nominated)
                self._outcomes.count(attempt, UNSCHEDULABLE)
                return
            if result is not None and result.message:
                diagnosis = replace(diagnosis, post_filter_message=result.message)

        def done(result: Candidate | str) -> None:
            try:
                self._conclude(attempt, diagnosis, result)
            except Exception as error:
                log.exception("preemption failed", pod=attempt.key)
                self._outcomes.failed(attempt, f"internal error in preemption: {error!r}")

        self._preemptor.start(attempt, trial, diagnosis, done)

    def _conclude(
        self, attempt: SchedulingAttempt, diagnosis: Diagnosis, result: Candidate | str
    ) -> None:
        """Report why no node fits, and what preemption came to."""
        if isinstance(result, Candidate):
            node = self._preemptor.carry_out(attempt, result)
            self._reporter.unschedulable(attempt.pod, diagnosis.message, node)
        else:
            if TERMINATING not in result and self._nominator.give_up(attempt.key):
                self._reporter.clear_nomination(attempt.pod)
                self._queue.move(ASSIGNED_POD_DELETE)
            message = replace(diagnosis, post_filter_message=result).message
            self._reporter.unschedulable(attempt.pod, message)
        self._recent.refused(attempt.key, attempt.info.policy, diagnosis.message)
        self._outcomes.count(attempt, UNSCHEDULABLE)
