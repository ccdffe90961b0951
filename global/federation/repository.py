"""Requests, attempts, outbox and history in the database. Every method works in the caller's
transaction, so that a decision and what it sends are written together or not at all."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, text, update
from store.schema import attempts, clusters, documents, history, outbox, poison, requests

from federation.fleet import Report
from federation.request import (
    FINAL,
    Attempt,
    AttemptState,
    Case,
    Queue,
    Request,
    State,
)

LEFT_IN_CLUSTER = (
    AttemptState.SUCCEEDED,
    AttemptState.ASKED,
    AttemptState.OFFERED,
    AttemptState.APPLYING,
    AttemptState.REVOKING,
)
QUEUE_ORDER = (Queue.FIRST, Queue.FAST, Queue.BASE)
DISPATCH_LOCK = 0x67736469
"""PostgreSQL's advisory lock of the one who dispatches."""

_encode = msgspec.json.Encoder().encode
_request = msgspec.json.Decoder(Request, strict=False).decode
_attempt = msgspec.json.Decoder(Attempt, strict=False).decode
_report = msgspec.json.Decoder(Report).decode


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message that is still to be sent; `id` is its place in the order."""

    id: int
    topic: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A line of a request's history."""

    at: float
    text: str


class Conflict(Exception):
    """The idempotency key was used for another body."""


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# -- requests ------------------------------------------------------------------------------------


def create(
    connection: Connection,
    request: Request,
    sealed: bytes,
    body_digest: str,
    idempotency_key: str | None = None,
) -> str:
    """Write a new request with its YAML; its id, or that of the one which was made for the same key
    before. Raises Conflict."""
    if idempotency_key is not None:
        query = select(requests.c.id, requests.c.body_digest).where(
            requests.c.user == request.owner.user,
            requests.c.idempotency_key == idempotency_key,
        )
        existing = connection.execute(query).first()
        if existing is not None:
            if existing.body_digest != body_digest:
                raise Conflict
            return str(existing.id)
    connection.execute(insert(documents).values(file_id=request.file_id, sealed=sealed))
    connection.execute(
        insert(requests).values(
            id=request.id,
            user=request.owner.user,
            workspace=request.owner.workspace,
            project=request.owner.project,
            idempotency_key=idempotency_key,
            body_digest=body_digest,
            file_id=request.file_id,
            created_at=request.created_at,
            **_columns(request),
        )
    )
    return request.id


def case(connection: Connection, request_id: str) -> Case | None:
    """The request with its attempts, locked until the transaction ends."""
    row = connection.execute(
        select(requests.c.body).where(requests.c.id == request_id).with_for_update()
    ).first()
    if row is None:
        return None
    found = connection.execute(
        select(attempts.c.body)
        .where(attempts.c.request_id == request_id)
        .order_by(attempts.c.number)
    )
    return Case(_request(row.body), [_attempt(one.body) for one in found])


def save(connection: Connection, changed: Case, before: Sequence[bytes]) -> None:
    """Write the request and those of its attempts that differ from `before` (`snapshot`)."""
    request = changed.request
    connection.execute(
        update(requests).where(requests.c.id == request.id).values(**_columns(request))
    )
    for index, attempt in enumerate(changed.attempts):
        body = _encode(attempt)
        if index >= len(before):
            connection.execute(
                insert(attempts).values(
                    request_id=request.id,
                    number=attempt.number,
                    cluster=attempt.cluster,
                    state=attempt.state,
                    body=body.decode(),
                )
            )
        elif body != before[index]:
            connection.execute(
                update(attempts)
                .where(attempts.c.request_id == request.id, attempts.c.number == attempt.number)
                .values(state=attempt.state, body=body.decode())
            )


def snapshot(unchanged: Case) -> list[bytes]:
    """The attempts as they are, for `save` to compare with."""
    return [_encode(attempt) for attempt in unchanged.attempts]


def sealed(connection: Connection, file_id: str) -> bytes | None:
    row = connection.execute(
        select(documents.c.sealed).where(documents.c.file_id == file_id)
    ).first()
    return None if row is None else bytes(row.sealed)


@dataclass(frozen=True, slots=True)
class Page:
    """Some requests, newest first, and from where to go on; None at the end."""

    requests: list[Request]
    next: int | None


def page(
    connection: Connection,
    *,
    user: str | None = None,
    state: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Page:
    """Requests, newest first, those made earlier than the one of number `before`."""
    query = select(requests.c.sequence, requests.c.body).order_by(requests.c.sequence.desc())
    if user is not None:
        query = query.where(requests.c.user == user)
    if state is not None:
        query = query.where(requests.c.state == state)
    if before is not None:
        query = query.where(requests.c.sequence < before)
    rows = connection.execute(query.limit(limit + 1)).all()
    more = rows[limit - 1].sequence if len(rows) > limit else None
    return Page([_request(row.body) for row in rows[:limit]], more)


def counts(connection: Connection) -> dict[str, int]:
    """How many requests there are in each state."""
    query = select(requests.c.state, func.count()).group_by(requests.c.state)
    return {str(state): int(number) for state, number in connection.execute(query)}


def state(connection: Connection, request_id: str) -> State | None:
    found = connection.execute(select(requests.c.state).where(requests.c.id == request_id)).scalar()
    return None if found is None else State(found)


def count(connection: Connection, state: State) -> int:
    return int(
        connection.execute(select(func.count()).where(requests.c.state == state)).scalar_one()
    )


def oldest_queued(connection: Connection) -> float | None:
    """When the request that waits longest was made."""
    query = select(func.min(requests.c.created_at)).where(
        requests.c.state.in_((State.QUEUED, State.DISPATCHED))
    )
    found = connection.execute(query).scalar()
    return None if found is None else float(found)


# -- the queue -----------------------------------------------------------------------------------


def dispatch_round(connection: Connection, now: float, each: int, at_most: int) -> int:
    """One round: up to `each` from First, Fast and Base, in that order, to the end of the FIFO, as
    long as no more than `at_most` wait in it; how many were dispatched."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": DISPATCH_LOCK})
    waiting = connection.execute(
        select(func.count()).where(requests.c.state == State.DISPATCHED)
    ).scalar_one()
    order = connection.execute(select(func.max(requests.c.dispatch_order))).scalar() or 0
    room, taken = at_most - waiting, 0
    for queue in QUEUE_ORDER:
        rows = connection.execute(
            select(requests.c.id, requests.c.body)
            .where(
                requests.c.state == State.QUEUED,
                requests.c.queue == queue,
                or_(requests.c.wake_at.is_(None), requests.c.wake_at <= now),
            )
            .order_by(requests.c.sequence)
            .limit(max(min(each, room - taken), 0))
        ).all()
        for row in rows:
            taken += 1
            request = _request(row.body)
            request.state, request.wake_at = State.DISPATCHED, None
            connection.execute(
                update(requests)
                .where(requests.c.id == row.id)
                .values(dispatch_order=order + taken, **_columns(request))
            )
    return taken


def take_dispatched(connection: Connection, policies: Sequence[str], limit: int) -> list[str]:
    """The next dispatched requests of these policies, in order."""
    query = (
        select(requests.c.id)
        .where(requests.c.state == State.DISPATCHED, requests.c.policy.in_(policies))
        .order_by(requests.c.dispatch_order)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [str(row.id) for row in connection.execute(query)]


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


def in_cluster(connection: Connection, cluster: str, states: Sequence[AttemptState]) -> list[str]:
    """Requests with an attempt in one of these states in the cluster."""
    query = select(attempts.c.request_id).where(
        attempts.c.cluster == cluster, attempts.c.state.in_(states)
    )
    return [str(row.request_id) for row in connection.execute(query.distinct())]


# -- messages ------------------------------------------------------------------------------------


def enqueue(connection: Connection, topic: str, key: str, body: bytes, now: float) -> None:
    """A message goes out once the transaction is committed."""
    connection.execute(
        insert(outbox).values(topic=topic, key=key, body=body.decode(), created_at=now)
    )


def unsent_topics(connection: Connection) -> list[str]:
    """Topics for which something waits."""
    return [str(row.topic) for row in connection.execute(select(outbox.c.topic).distinct())]


def unsent(connection: Connection, topic: str, after: int, limit: int) -> list[OutboxMessage]:
    """The topic's messages beyond the one of number `after`, in order."""
    query = (
        select(outbox)
        .where(outbox.c.topic == topic, outbox.c.id > after)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [
        OutboxMessage(row.id, row.topic, row.key, row.body.encode())
        for row in connection.execute(query)
    ]


def mark_sent(connection: Connection, ids: Sequence[int]) -> None:
    """Delivered: nothing is kept of them."""
    connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))


def outbox_lag(connection: Connection, now: float) -> float:
    """Seconds for which the oldest unsent message has waited."""
    oldest = connection.execute(select(func.min(outbox.c.created_at))).scalar()
    return 0.0 if oldest is None else max(now - float(oldest), 0.0)


def set_aside(connection: Connection, topic: str, body: bytes, problem: str, now: float) -> None:
    """A message that nobody can read is kept, and shown, instead of being met again and again."""
    connection.execute(insert(poison).values(topic=topic, at=now, problem=problem, body=body))


# -- history and clusters ------------------------------------------------------------------------


def note(connection: Connection, request_id: str, line: str, now: float) -> None:
    connection.execute(insert(history).values(request_id=request_id, at=now, text=line))


def notes(connection: Connection, request_id: str) -> list[Note]:
    query = (
        select(history.c.at, history.c.text)
        .where(history.c.request_id == request_id)
        .order_by(history.c.id)
    )
    return [Note(row.at, row.text) for row in connection.execute(query)]


def set_report(connection: Connection, report: Report, now: float) -> None:
    body = _encode(report).decode()
    changed = connection.execute(
        update(clusters)
        .where(clusters.c.name == report.cluster)
        .values(heard_at=now, report=body, abandoned=False)
    )
    if not changed.rowcount:
        connection.execute(
            insert(clusters).values(name=report.cluster, heard_at=now, report=body, abandoned=False)
        )


@dataclass(frozen=True, slots=True)
class KnownCluster:
    report: Report
    heard_at: float
    abandoned: bool


def reports(connection: Connection) -> list[KnownCluster]:
    return [
        KnownCluster(_report(row.report), row.heard_at, row.abandoned)
        for row in connection.execute(select(clusters))
    ]


def abandon(connection: Connection, cluster: str) -> bool:
    """A person knows that the cluster will not come back; whether it was known."""
    changed = connection.execute(
        update(clusters).where(clusters.c.name == cluster).values(abandoned=True)
    )
    return bool(changed.rowcount)


# -- the end -------------------------------------------------------------------------------------


def expire(connection: Connection, before: float, limit: int = 1000) -> int:
    """Forget what finished before this moment; how many requests."""
    rows = connection.execute(
        select(requests.c.id, requests.c.file_id)
        .where(requests.c.finished_at < before, requests.c.state.in_(FINAL))
        .limit(limit)
    ).all()
    ids, files = [row.id for row in rows], [row.file_id for row in rows]
    connection.execute(delete(attempts).where(attempts.c.request_id.in_(ids)))
    connection.execute(delete(history).where(history.c.request_id.in_(ids)))
    connection.execute(delete(requests).where(requests.c.id.in_(ids)))
    connection.execute(delete(documents).where(documents.c.file_id.in_(files)))
    return len(ids)


def _columns(request: Request) -> dict[str, Any]:
    """What the table has of a request beside what never changes."""
    return {
        "state": request.state,
        "queue": request.queue,
        "policy": request.policy,
        "wake_at": request.wake_at,
        "finished_at": request.finished_at,
        "body": _encode(request).decode(),
    }


def now() -> float:
    """Unix time, as everything in the database."""
    return time.time()
