"""Takes requests from the queue and moves them on, as agents answer and deadlines pass.

A worker keeps nothing of its own: all that it knows of a request is in the database, and what it
does is decided by `dispatch.advance` within one transaction. Any number of workers may run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection
from store.transactions import DatabaseUnavailable, Transactions

from federation import dispatch, outbox, poison, repository, wire, work_queue
from federation.bus import Bus, Delivery
from federation.exchange import Send
from federation.fleet import Fleet
from federation.live import QUEUE, Live
from federation.messages import REPLY_TOPIC, MalformedMessage, decode
from federation.progress import Effects, Progress
from federation.relay import Relay
from federation.reports import Reports
from federation.request import AttemptState, Case, ClusterLost, State
from federation.step import Limits

log = structlog.get_logger(__name__)

POLL_INTERVAL_S = 0.5
"""Seconds after which the queue and the deadlines are looked at, whatever happens."""
GATHER_S = 0.03
LOST_INTERVAL_S = 1.0
EXPIRE_INTERVAL_S = 60.0
MAX_DUE = 200
MAX_EXPIRED = 500
"""Requests that are forgotten in one transaction."""
IN_LOST_CLUSTER = (AttemptState.SUCCEEDED, AttemptState.APPLYING, AttemptState.REVOKING)


@dataclass(frozen=True, slots=True)
class QueueRule:
    """`n` requests from each queue in a round, at most `dispatched` of a policy waiting for a
    worker; more than `k` failures go first, more than `z` end it. `scheduling` bounds what is under
    way at once."""

    n: int = 50
    k: int = 2
    z: int = 5
    dispatched: int = 200
    scheduling: int = 1000

    @property
    def limits(self) -> Limits:
        return Limits(self.k, self.z)


class Worker:
    """Of these policies."""

    def __init__(
        self,
        transactions: Transactions,
        bus: Bus,
        fleet: Fleet,
        relay: Relay,
        progress: Progress,
        live: Live,
        *,
        policies: Sequence[str],
        rule: QueueRule = QueueRule(),
        keep_finished_s: float = 30 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transactions, self._bus, self._fleet = transactions, bus, fleet
        self._relay, self._progress, self._live = relay, progress, live
        self._policies, self._rule, self._clock = policies, rule, clock
        self._keep_finished_s = keep_finished_s
        self._woken = asyncio.Event()
        self._handled_lost: set[tuple[str, ClusterLost]] = set()
        self._reports = Reports(transactions, fleet, live, self._woken.set, clock)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bus.consume([REPLY_TOPIC], "gsch-workers", self._on_reply))
            group.create_task(self._reports.consume(self._bus))
            group.create_task(self._reports.refresh())
            group.create_task(self._every(LOST_INTERVAL_S, self._look_for_lost))
            group.create_task(self._every(EXPIRE_INTERVAL_S, self._expire))
            group.create_task(self._wake_for_new())
            group.create_task(self._dispatch())

    # -- the queue -------------------------------------------------------------------------

    async def _wake_for_new(self) -> None:
        while True:
            await self._live.wait(QUEUE, POLL_INTERVAL_S)
            self._woken.set()

    async def _dispatch(self) -> None:
        while True:
            await self._woken.wait()
            # What comes within a moment is looked at together.
            await asyncio.sleep(GATHER_S)
            self._woken.clear()
            try:
                while await self._turn():
                    pass
            except DatabaseUnavailable as error:
                log.warning("queue not read", error=str(error))

    async def _turn(self) -> bool:
        """One round of the queue, and what is due; whether there may be more at once.

        Each request moves on in a transaction of its own, which others are grouped with: nobody
        waits for a whole round.
        """
        moved, new, due = await self._transactions.run(self._round)
        begun = (self._progress.change(one, dispatch.begin) for one in new)
        await asyncio.gather(*begun, *(self._progress.change(one, _as_it_is) for one in due))
        return moved > 0

    def _round(self, connection: Connection) -> tuple[int, list[str], list[str]]:
        """(how many were dispatched, those that we begin, those that are due)."""
        now, rule = self._clock(), self._rule
        due = work_queue.due(connection, now, MAX_DUE)
        if not self._fleet.any_there(now):
            # Nobody could be asked: requests wait in their queues.
            return 0, [], due
        moved = work_queue.dispatch_round(connection, now, rule.n, rule.dispatched)
        free = rule.scheduling - repository.count(connection, State.SCHEDULING)
        # Where a worker of somebody else asks for a policy's requests, they are its.
        ours = set(self._policies) - work_queue.external_policies(connection, now)
        return moved, work_queue.take_dispatched(connection, ours, max(free, 0)), due

    # -- messages --------------------------------------------------------------------------

    async def _on_reply(self, delivery: Delivery) -> None:
        """A reply is written to its request before it counts as taken."""
        try:
            reply = decode(delivery.body)
            if reply.attempt is None:
                raise MalformedMessage("msg.attempt is missing")
            answer = wire.answer_of(reply)
        except ValueError as error:
            await poison.set_aside(self._transactions, delivery, str(error), self._clock())
            return
        number = reply.attempt

        def change(case: Case, now: float) -> list[Send] | None:
            return [] if dispatch.take_answer(case, number, answer, now) else None

        effects = await self._progress.change(reply.request_id, change)
        if effects.ended:
            # There is room for what waits.
            self._woken.set()

    # -- now and then ----------------------------------------------------------------------

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except DatabaseUnavailable as error:
                log.warning("database", error=str(error))
            await asyncio.sleep(seconds)

    async def _look_for_lost(self) -> None:
        """Requests that may move on because their cluster is lost, once for each loss."""
        now = self._clock()
        lost = {
            (name, mode)
            for mode in (ClusterLost.MOVE, ClusterLost.STOP_AND_MOVE)
            for name in self._fleet.clusters
            if self._fleet.lost(name, now, dispatch.MOVES_AFTER_S[mode])
        }
        for cluster, mode in lost - self._handled_lost:
            log.warning("cluster lost", cluster=cluster, requests=mode)
            await self._progress.run(self._on_lost(cluster, mode))
        self._handled_lost = lost

    def _on_lost(self, cluster: str, mode: ClusterLost) -> Callable[[Connection], Effects]:
        def change(case: Case, now: float) -> list[Send] | None:
            return dispatch.lost(case, cluster, mode, now) or None

        def work(connection: Connection) -> Effects:
            effects = Effects()
            for request_id in repository.in_cluster(connection, cluster, IN_LOST_CLUSTER):
                effects |= self._progress.move_on(connection, request_id, change)
            return effects

        return work

    async def _expire(self) -> None:
        """Forget what finished long ago, here and in the clusters."""
        before = self._clock() - self._keep_finished_s

        def work(connection: Connection) -> set[str]:
            topics: set[str] = set()
            for request_id, clusters in repository.expire(connection, before, MAX_EXPIRED).items():
                messages = [(c, request_id, wire.close(request_id, c)) for c in sorted(clusters)]
                outbox.enqueue(connection, messages, self._clock(), self._relay.identity)
                topics |= clusters
            return topics

        while topics := await self._transactions.run(work):
            self._relay.wake(topics)


def _as_it_is(case: Case, now: float) -> list[Send]:
    """Something is due, by time alone."""
    return []
