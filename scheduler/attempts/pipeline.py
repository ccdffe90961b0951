"""The attempt of a pipeline: nodes for all its waiting pods together, then each pod on its own."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from scheduler.attempt import SchedulingAttempt
from scheduler.attempts.pod import PodAttempts
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.cycle.trial import Trial
from scheduler.joint.pipelines import RETRY_DELAY_S, Pipelines
from scheduler.joint.problem import Placed, Plan
from scheduler.joint.solver import solve, solve_forest
from scheduler.outcomes import Outcomes
from scheduler.queue.nominator import Nominator
from scheduler.queue.scheduling_queue import SchedulingQueue

log = structlog.get_logger(__name__)

MAX_SEARCHES = 16
"""Placements that are being searched for, or wait for it with their arrays in memory; beyond, every
pipeline waits in the queue."""


class PipelineAttempts:
    """What dynamic programming cannot place is searched for in a thread, beside the attempts of
    others; each pod is then decided like any, on its node of the plan where it still fits there."""

    def __init__(
        self,
        queue: SchedulingQueue,
        *,
        pipelines: Pipelines,
        cycle: Cycle,
        nominator: Nominator,
        pods: PodAttempts,
        outcomes: Outcomes,
    ) -> None:
        self._queue, self._pipelines, self._cycle = queue, pipelines, cycle
        self._nominator, self._pods, self._outcomes = nominator, pods, outcomes
        self._solver = ThreadPoolExecutor(1, "joint-placement")
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, first: SchedulingAttempt) -> None:
        """Begin, and where it takes no search end, the attempt of all waiting pods of the pod's
        pipeline."""
        wait = self._pipelines.wait(first.queued)
        if not wait and len(self._tasks) >= MAX_SEARCHES:
            wait = RETRY_DELAY_S
        if wait:
            self._queue.postpone(first.queued, wait)
            return
        attempts = [
            SchedulingAttempt(queued, queued.info, first.framework, first.started)
            for queued in self._pipelines.members(first.queued)
            if queued.info is not None
        ]
        try:
            plan = self._pipelines.plan(attempts, self._trial)
            nodes = solve_forest(plan.problem) if plan is not None else []
        except Exception as error:
            self._failed(attempts, error)
            return
        if plan is None or nodes is not None:
            self._place(attempts, plan, nodes)
            return
        task = asyncio.create_task(self._search(attempts, plan))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up what is being searched for."""
        for task in self._tasks:
            task.cancel()
        self._solver.shutdown(wait=False, cancel_futures=True)

    def _trial(self, attempt: SchedulingAttempt) -> Trial:
        nominated = self._nominator.ahead_of(attempt.info)
        return self._cycle.trial(attempt.framework, attempt.info, nominated)

    async def _search(self, attempts: Sequence[SchedulingAttempt], plan: Plan) -> None:
        loop = asyncio.get_running_loop()
        try:
            nodes = await loop.run_in_executor(self._solver, solve, plan.problem)
        except Exception as error:
            self._failed(attempts, error)
            return
        self._place(attempts, plan, nodes)

    def _place(
        self, attempts: Sequence[SchedulingAttempt], plan: Plan | None, nodes: list[int] | None
    ) -> None:
        """Decide for each pod that is still there, as it is by now."""
        try:
            placed: dict[str, Placed] = plan.placed(nodes) if plan is not None and nodes else {}
        except Exception as error:
            self._failed(attempts, error)
            return
        for attempt in attempts:
            queued = attempt.queued
            if not self._outcomes.waits(attempt):
                continue
            if queued.info is None:
                self._queue.back_off(queued)
                continue
            now = SchedulingAttempt(queued, queued.info, attempt.framework, attempt.started)
            self._pods.run(now, placed.get(attempt.key))

    def _failed(self, attempts: Sequence[SchedulingAttempt], error: Exception) -> None:
        log.error("joint placement failed", pod=attempts[0].key, exc_info=error)
        for attempt in attempts:
            self._outcomes.failed(attempt, f"internal error in joint placement: {error!r}")
