"""Moves requests on: a change, what follows from it, and what is sent for it, in one transaction.

Nothing of a request is kept outside the database, so that any process can go on where another
died.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from store.transactions import Transactions

from federation import callbacks, cluster_reports, dispatch, outbox, repository, wire
from federation.exchange import Revoke, Send
from federation.fleet import Fleet
from federation.live import Live
from federation.relay import Relay
from federation.request import AttemptState, Case, PodNeeds, State
from federation.step import Limits

Change = Callable[[Case, float], Sequence[Send] | None]
"""Changes a case and returns what that sends; None where everything is as it was."""


@dataclass(frozen=True, slots=True)
class Promise:
    """Of the cluster's room, this share of the pods (negative: given back)."""

    cluster: str
    pods: list[PodNeeds]
    share: float


@dataclass(slots=True)
class Effects:
    """What is to be published once a transaction is committed."""

    topics: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    """Requests that changed."""
    ended: list[str] = field(default_factory=list)
    """How each request ended that did."""
    promises: list[Promise] = field(default_factory=list)
    """Room that clusters hold now, or hold no more."""

    def __ior__(self, other: "Effects") -> "Effects":
        self.topics |= other.topics
        self.changed |= other.changed
        self.ended += other.ended
        self.promises += other.promises
        return self


class Progress:
    """Of all requests, for the front and for workers."""

    def __init__(
        self,
        transactions: Transactions,
        fleet: Fleet,
        relay: Relay,
        live: Live,
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transactions, self._fleet, self._relay, self._live = transactions, fleet, relay, live
        self.limits, self._clock = limits, clock
        self.ended: dict[str, int] = {}
        """Requests that ended since the process began, by state."""

    async def run(self, work: Callable[[Connection], Effects]) -> Effects:
        """Carry a transaction out, and tell its effects."""
        effects = await self._transactions.run(work)
        self._relay.wake(effects.topics)
        for state in effects.ended:
            self.ended[state] = self.ended.get(state, 0) + 1
        for promise in effects.promises:
            self._fleet.promise(promise.cluster, promise.pods, promise.share)
        if effects.changed:
            await self._live.publish(effects.changed)
        return effects

    async def change(self, request_id: str, change: Change) -> Effects:
        """Change one request, in a transaction of its own."""
        return await self.run(lambda connection: self.move_on(connection, request_id, change))

    def move_on(
        self, connection: Connection, request_id: str, change: Change = lambda case, now: []
    ) -> Effects:
        """Change a case, let it go as far as it goes, and write it with what is to be sent."""
        effects = Effects()
        case = repository.case(connection, request_id)
        if case is None:
            return effects
        now, before = self._clock(), repository.snapshot(case)
        attempts = [(attempt.state, attempt.held) for attempt in case.attempts]
        state = case.request.state
        sends = change(case, now)
        if sends is None:
            return effects
        sends = [*sends, *dispatch.advance(case, self._fleet, now, self.limits)]
        repository.save(connection, case, before)
        messages = []
        for send in sends:
            topic, body = wire.message(case.request, send)
            # What revokes must not wait behind what it revokes.
            key = f"{request_id}/revoke" if isinstance(send, Revoke) else request_id
            messages.append((topic, key, body))
            effects.topics.add(topic)
        outbox.enqueue(connection, messages, now, self._relay.identity)
        effects.promises += promises_of(case, attempts)
        lines = _history(case, state, [of_attempt for of_attempt, _ in attempts])
        repository.add_history(connection, request_id, lines, now)
        if lines:
            effects.changed.add(request_id)
        if case.request.finished_at is not None and case.request.state != state:
            effects.ended.append(case.request.state)
            callbacks.enqueue(connection, case.request, now)
        return effects

    async def cancel(self, request_id: str) -> None:
        """Undo the request, wherever it is."""
        await self.change(request_id, _cancel)

    async def abandon(self, cluster: str) -> int:
        """A person says that nothing runs in the cluster any more; how many requests that frees."""
        ids: list[str] = []

        def work(connection: Connection) -> Effects:
            cluster_reports.abandon(connection, cluster)
            effects = Effects()
            ids[:] = repository.in_cluster(connection, cluster, repository.LEFT_IN_CLUSTER)
            for request_id in ids:
                effects |= self.move_on(connection, request_id, _abandoned(cluster))
            return effects

        reported = self._fleet.clusters.get(cluster)
        if reported is not None:
            reported.abandoned = True
        await self.run(work)
        return len(ids)


def _cancel(case: Case, now: float) -> list[Send]:
    case.request.cancel = True
    return []


def _abandoned(cluster: str) -> Change:
    return lambda case, now: dispatch.abandon(case, cluster, now)


def promises_of(case: Case, before: Sequence[tuple[AttemptState, int]]) -> list[Promise]:
    """What agents hold more, or less, since the attempts were so (states, and pods held)."""
    request, promises = case.request, list[Promise]()
    for attempt, (_, held) in zip(case.attempts, before, strict=False):
        change = attempt.held - held
        if change and request.total_pods:
            promises.append(Promise(attempt.cluster, request.pods, change / request.total_pods))
    return promises


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
