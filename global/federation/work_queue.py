"""The queue of requests, in the database: rounds of First, Fast and Base into one FIFO, from which
workers take. Every function works in the caller's transaction."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    false,
    func,
    insert,
    or_,
    select,
    text,
    true,
    update,
)
from store.schema import policies, requests

from federation import repository
from federation.request import Queue, State

QUEUE_ORDER = (Queue.FIRST, Queue.FAST, Queue.BASE)
EXTERNAL_FOR_S = 30.0
"""Seconds for which a policy is left to a worker that is not ours after it asked."""
DISPATCH_LOCK = 0x67736469
"""PostgreSQL's advisory lock of the one who dispatches."""


def dispatch_round(connection: Connection, now: float, each: int, at_most: int) -> int:
    """One round: up to `each` from First, Fast and Base, in that order, to the end of the FIFO, as
    long as no more than `at_most` of a policy wait in it: workers of one that is not served keep no
    other waiting. How many were dispatched."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": DISPATCH_LOCK})
    waiting = Counter[str]()
    for row in connection.execute(
        select(requests.c.policy, func.count().label("waiting"))
        .where(requests.c.state == State.DISPATCHED)
        .group_by(requests.c.policy)
    ):
        waiting[row.policy] = row.waiting
    of_open_policy = _open_policies(
        connection, [policy for policy, count in waiting.items() if count >= at_most]
    )
    order = connection.execute(select(func.max(requests.c.dispatch_order))).scalar() or 0
    taken = 0
    for queue in QUEUE_ORDER:
        rows = connection.execute(
            select(requests.c.id, requests.c.policy, requests.c.body)
            .where(
                requests.c.state == State.QUEUED,
                requests.c.queue == queue,
                of_open_policy,
                or_(requests.c.wake_at.is_(None), requests.c.wake_at <= now),
            )
            .order_by(requests.c.sequence)
            .limit(each)
        ).all()
        for row in rows:
            if waiting[row.policy] >= at_most:
                continue
            taken += 1
            waiting[row.policy] += 1
            request = repository.request_of(row.body)
            request.state, request.wake_at = State.DISPATCHED, None
            connection.execute(
                update(requests)
                .where(requests.c.id == row.id)
                .values(dispatch_order=order + taken, **repository.columns(request))
            )
    return taken


def _open_policies(connection: Connection, full: list[str]) -> ColumnElement[bool]:
    """The condition that a request may be dispatched though these policies have no room."""
    if not full:
        return true()
    queued = select(requests.c.policy).where(requests.c.state == State.QUEUED).distinct()
    policies_left = {str(row.policy) for row in connection.execute(queued)} - set(full)
    return requests.c.policy.in_(sorted(policies_left)) if policies_left else false()


def take_dispatched(connection: Connection, policies: Iterable[str], limit: int) -> list[str]:
    """The next dispatched requests of these policies, in order."""
    query = (
        select(requests.c.id)
        .where(requests.c.state == State.DISPATCHED, requests.c.policy.in_(sorted(policies)))
        .order_by(requests.c.dispatch_order)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [str(row.id) for row in connection.execute(query)]


def external_policies(connection: Connection, now: float) -> set[str]:
    """Policies for whose requests a worker that is not ours has asked lately."""
    query = select(policies.c.name).where(policies.c.asked_at >= now - EXTERNAL_FOR_S)
    return {str(row.name) for row in connection.execute(query)}


def ask_externally(connection: Connection, policy: str, now: float) -> None:
    """A worker that is not ours asks for the policy's requests."""
    changed = connection.execute(
        update(policies).where(policies.c.name == policy).values(asked_at=now)
    )
    if not changed.rowcount:
        connection.execute(insert(policies).values(name=policy, asked_at=now))


def due(connection: Connection, now: float, limit: int) -> list[str]:
    """Requests that somebody has to look at by now, in whatever state but waiting."""
    query = (
        select(requests.c.id)
        .where(
            and_(
                requests.c.wake_at <= now,
                requests.c.state.not_in((State.QUEUED, State.DISPATCHED)),
            )
        )
        .order_by(requests.c.wake_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [str(row.id) for row in connection.execute(query)]
