"""Takes requests from the queue and moves them on, as agents answer and deadlines pass.

A worker keeps nothing of its own: all that it knows of a request is in the database, and what it
does is decided by `dispatch.advance` within one transaction. Any number of workers may run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from sqlalchemy import Connection
from store.transactions import DatabaseUnavailable, Transactions

from federation import dispatch, repository, wire
from federation.bus import Bus, Delivery
from federation.fleet import Fleet, Report
from federation.messages import REPLY_TOPIC, REPORT_TOPIC, MalformedMessage, decode
from federation.relay import Relay
from federation.request import POLICIES, AttemptState, Case, State

log = structlog.get_logger(__name__)

POLL_INTERVAL_S = 0.5
"""Seconds after which the queue and the deadlines are looked at, whatever happens."""
LOST_INTERVAL_S = 1.0
REFRESH_INTERVAL_S = 2.0
"""Seconds between two looks at the reports that other processes took."""
EXPIRE_INTERVAL_S = 60.0
MAX_DUE = 200


@dataclass(frozen=True, slots=True)
class QueueRule:
    """`n` requests from each queue in a round, at most `dispatched` waiting for a worker; more than
    `k` failures go first, more than `z` end it. `scheduling` bounds what is under way at once."""

    n: int = 50
    k: int = 2
    z: int = 5
    dispatched: int = 200
    scheduling: int = 1000

    @property
    def limits(self) -> dispatch.Limits:
        return dispatch.Limits(self.k, self.z)


@dataclass(slots=True)
class Stats:
    """Since the process began."""

    ended: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)


class Worker:
    """Of these policies."""

    def __init__(
        self,
        transactions: Transactions,
        bus: Bus,
        fleet: Fleet,
        relay: Relay,
        *,
        policies: Sequence[str] = POLICIES,
        rule: QueueRule = QueueRule(),
        keep_finished_s: float = 30 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transactions, self._bus, self._fleet, self._relay = transactions, bus, fleet, relay
        self._policies, self._rule, self._clock = policies, rule, clock
        self._keep_finished_s = keep_finished_s
        self._woken = asyncio.Event()
        self._handled_lost: set[str] = set()
        self.stats = Stats()

    def wake(self) -> None:
        """There may be something in the queue."""
        self._woken.set()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bus.consume([REPLY_TOPIC], "gsch-workers", self._on_reply))
            group.create_task(self._bus.consume([REPORT_TOPIC], "gsch-layer", self._on_report))
            group.create_task(self._every(REFRESH_INTERVAL_S, self._refresh))
            group.create_task(self._every(LOST_INTERVAL_S, self._look_for_lost))
            group.create_task(self._every(EXPIRE_INTERVAL_S, self._expire))
            group.create_task(self._dispatch())

    # -- the queue -------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            try:
                more = await self._turn()
            except DatabaseUnavailable as error:
                log.warning("queue not read", error=str(error))
                more = False
            if not more:
                try:
                    async with asyncio.timeout(POLL_INTERVAL_S):
                        await self._woken.wait()
                except TimeoutError:
                    pass
            self._woken.clear()

    async def _turn(self) -> bool:
        """One round of the queue, and what is due; whether there may be more at once."""

        def work(connection: Connection) -> tuple[int, set[str]]:
            now, rule = self._clock(), self._rule
            moved = repository.dispatch_round(connection, now, rule.n, rule.dispatched)
            free = rule.scheduling - repository.count(connection, State.SCHEDULING)
            topics: set[str] = set()
            for request_id in repository.take_dispatched(connection, self._policies, max(free, 0)):
                topics |= self._move_on(connection, request_id, _begin)
            for request_id in repository.due(connection, now, MAX_DUE):
                topics |= self._move_on(connection, request_id)
            return moved, topics

        moved, topics = await self._transactions.run(work)
        self._relay.wake(topics)
        return moved > 0

    def _move_on(
        self,
        connection: Connection,
        request_id: str,
        change: Callable[[Case, float], Sequence[dispatch.Send] | None] = lambda case, now: [],
    ) -> set[str]:
        """Change a case, let it go as far as it goes, and write it with what is to be sent; the
        topics of that. A `change` of None leaves everything as it is."""
        case = repository.case(connection, request_id)
        if case is None:
            return set()
        now, before = self._clock(), repository.snapshot(case)
        states = [attempt.state for attempt in case.attempts]
        state = case.request.state
        sends = change(case, now)
        if sends is None:
            return set()
        sends = [*sends, *dispatch.advance(case, self._fleet, now, self._rule.limits)]
        repository.save(connection, case, before)
        topics = set()
        for send in sends:
            topic, body = wire.message(case.request, send)
            repository.enqueue(connection, topic, case.request.id, body, now)
            topics.add(topic)
        for line in _history(case, state, states):
            repository.note(connection, request_id, line, now)
        if case.request.finished_at is not None and case.request.state != state:
            ended = self.stats.ended
            ended[case.request.state] = ended.get(case.request.state, 0) + 1
        return topics

    async def cancel(self, request_id: str) -> bool:
        """Undo the request, wherever it is; whether there is such a request."""

        def work(connection: Connection) -> set[str] | None:
            if repository.case(connection, request_id) is None:
                return None
            return self._move_on(connection, request_id, _cancel)

        topics = await self._transactions.run(work)
        self._relay.wake(topics or set())
        return topics is not None

    async def abandon(self, cluster: str) -> int:
        """A person says that nothing runs in the cluster any more; how many requests that frees."""

        def work(connection: Connection) -> tuple[int, set[str]]:
            repository.abandon(connection, cluster)
            known = self._fleet.clusters.get(cluster)
            if known is not None:
                known.abandoned = True
            topics: set[str] = set()
            ids = repository.in_cluster(connection, cluster, repository.LEFT_IN_CLUSTER)
            for request_id in ids:
                topics |= self._move_on(connection, request_id, _abandoned(cluster))
            return len(ids), topics

        number, topics = await self._transactions.run(work)
        self._relay.wake(topics)
        return number

    # -- messages --------------------------------------------------------------------------

    async def _on_reply(self, delivery: Delivery) -> None:
        """A reply is written to its request before it counts as taken."""
        try:
            reply = decode(delivery.body)
            if reply.attempt is None:
                raise MalformedMessage("msg.attempt is missing")
            answer = wire.answer_of(reply)
        except ValueError as error:
            await self._set_aside(delivery, str(error))
            return
        number = reply.attempt

        def change(case: Case, now: float) -> list[dispatch.Send] | None:
            return [] if dispatch.take_answer(case, number, answer, now) else None

        topics = await self._transactions.run(
            lambda connection: self._move_on(connection, reply.request_id, change)
        )
        self._relay.wake(topics)
        # Something may have ended, and made room for what waits.
        self._woken.set()

    async def _on_report(self, delivery: Delivery) -> None:
        try:
            report = wire.report_of(decode(delivery.body))
        except ValueError as error:
            await self._set_aside(delivery, str(error))
            return
        now = self._clock()
        await self._transactions.run(lambda c: repository.set_report(c, report, now))
        self._take_report(report, now)

    def _take_report(self, report: Report, heard_at: float, abandoned: bool = False) -> None:
        new = report.cluster not in self._fleet.clusters
        self._fleet.set(report, heard_at, abandoned)
        if new:
            self._woken.set()

    async def _set_aside(self, delivery: Delivery, problem: str) -> None:
        log.error("message set aside", topic=delivery.topic, key=delivery.key, problem=problem)
        now = self._clock()
        await self._transactions.run(
            lambda c: repository.set_aside(c, delivery.topic, delivery.body, problem, now)
        )

    # -- now and then ----------------------------------------------------------------------

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except DatabaseUnavailable as error:
                log.warning("database", error=str(error))
            await asyncio.sleep(seconds)

    async def _refresh(self) -> None:
        """Reports that other processes took."""
        for known in await self._transactions.run(repository.reports):
            mine = self._fleet.clusters.get(known.report.cluster)
            if mine is None or known.heard_at > mine.heard_at or known.abandoned != mine.abandoned:
                self._take_report(known.report, known.heard_at, known.abandoned)

    async def _look_for_lost(self) -> None:
        """Requests that may move on because their cluster is lost, once for each loss."""
        now = self._clock()
        lost = {name for name in self._fleet.clusters if self._fleet.lost(name, now)}
        for cluster in lost - self._handled_lost:
            topics = await self._transactions.run(partial(self._on_lost, cluster=cluster))
            self._relay.wake(topics)
        self._handled_lost = lost

    def _on_lost(self, connection: Connection, cluster: str) -> set[str]:
        states = (AttemptState.SUCCEEDED, AttemptState.APPLYING)
        topics: set[str] = set()
        for request_id in repository.in_cluster(connection, cluster, states):
            topics |= self._move_on(
                connection, request_id, lambda case, now: dispatch.lost(case, cluster, now) or None
            )
        return topics

    async def _expire(self) -> None:
        before = self._clock() - self._keep_finished_s
        while await self._transactions.run(lambda c: repository.expire(c, before)):
            pass


def _begin(case: Case, now: float) -> list[dispatch.Send] | None:
    if case.request.state is not State.DISPATCHED:
        return None
    case.request.state = State.SCHEDULING
    case.request.excluded = {}
    return []


def _cancel(case: Case, now: float) -> list[dispatch.Send]:
    case.request.cancel = True
    return []


def _abandoned(cluster: str) -> Callable[[Case, float], list[dispatch.Send]]:
    def change(case: Case, now: float) -> list[dispatch.Send]:
        return dispatch.abandon(case, cluster, now)

    return change


def _history(case: Case, state: State, before: Sequence[AttemptState]) -> list[str]:
    """What changed, in a line each."""
    lines = []
    for index, attempt in enumerate(case.attempts):
        if index < len(before) and attempt.state == before[index]:
            continue
        where = f"attempt {attempt.number}, {attempt.cluster}: {attempt.state}"
        node = f" on {attempt.node}" if attempt.node and attempt.state != "refused" else ""
        why = f": {attempt.message}" if attempt.message else ""
        lines.append(f"{where}{node}{why}")
    if case.request.state != state:
        why = f": {case.request.message}" if case.request.message else ""
        lines.append(f"{case.request.state}{why}")
    return lines
