"""Requests, attempts, outbox and history in the database. Every method works in the caller's
transaction, so that a decision and what it sends are written together or not at all."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from store.schema import attempts, documents, history, pods, requests

from federation.request import (
    FINAL,
    Attempt,
    AttemptState,
    Case,
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

_encode = msgspec.json.Encoder().encode
request_of = msgspec.json.Decoder(Request, strict=False).decode
_attempt = msgspec.json.Decoder(Attempt, strict=False).decode


# Statements of every step of a request are built once: building them anew takes longer than running
# them.
_REQUEST = select(requests.c.body).where(requests.c.id == bindparam("id")).with_for_update()
_ATTEMPTS = (
    select(attempts.c.body)
    .where(attempts.c.request_id == bindparam("id"))
    .order_by(attempts.c.number)
)
_SAVE_REQUEST = (
    update(requests)
    .where(requests.c.id == bindparam("of_id"))
    .values(
        {
            name: bindparam(name)
            for name in ("state", "queue", "policy", "wake_at", "finished_at", "body")
        }
    )
)
_INSERT_ATTEMPTS = insert(attempts)
_SAVE_ATTEMPTS = (
    update(attempts)
    .where(
        attempts.c.request_id == bindparam("of_request"),
        attempts.c.number == bindparam("of_number"),
    )
    .values(state=bindparam("state"), body=bindparam("body"))
)
_INSERT_HISTORY = insert(history)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A line of a request's history; its number grows."""

    id: int
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
            **columns(request),
        )
    )
    return request.id


def id_of_key(connection: Connection, user: str, idempotency_key: str) -> str | None:
    """The request that this user made with the key."""
    query = select(requests.c.id).where(
        requests.c.user == user, requests.c.idempotency_key == idempotency_key
    )
    row = connection.execute(query).first()
    return None if row is None else str(row.id)


def case(connection: Connection, request_id: str) -> Case | None:
    """The request with its attempts, locked until the transaction ends."""
    row = connection.execute(_REQUEST, {"id": request_id}).first()
    if row is None:
        return None
    # Only once the lock is held: PostgreSQL reads a locked row as it is by then, and all others as
    # they were when the statement began.
    rows = connection.execute(_ATTEMPTS, {"id": request_id})
    return Case(request_of(row.body), [_attempt(one.body) for one in rows])


def save(connection: Connection, changed: Case, before: Sequence[bytes]) -> None:
    """Write the request and those of its attempts that differ from `before` (`snapshot`)."""
    request = changed.request
    connection.execute(_SAVE_REQUEST, {"of_id": request.id, **columns(request)})
    new, old = [], []
    for index, attempt in enumerate(changed.attempts):
        body = _encode(attempt)
        row = {"state": attempt.state, "body": body.decode()}
        if index >= len(before):
            new.append(
                row
                | {
                    "request_id": request.id,
                    "number": attempt.number,
                    "cluster": attempt.cluster,
                }
            )
        elif body != before[index]:
            old.append(row | {"of_request": request.id, "of_number": attempt.number})
    if new:
        connection.execute(_INSERT_ATTEMPTS, new)
    if old:
        connection.execute(_SAVE_ATTEMPTS, old)


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
    return Page([request_of(row.body) for row in rows[:limit]], more)


def counts(connection: Connection) -> dict[str, int]:
    """How many requests there are in each state."""
    query = select(requests.c.state, func.count()).group_by(requests.c.state)
    return {str(state): int(number) for state, number in connection.execute(query)}


def attempt_counts(connection: Connection) -> dict[str, int]:
    """How many attempts there are in each state."""
    query = select(attempts.c.state, func.count()).group_by(attempts.c.state)
    return {str(state): int(number) for state, number in connection.execute(query)}


def state(connection: Connection, request_id: str) -> State | None:
    value = connection.execute(select(requests.c.state).where(requests.c.id == request_id)).scalar()
    return None if value is None else State(value)


def count(connection: Connection, state: State) -> int:
    return int(
        connection.execute(select(func.count()).where(requests.c.state == state)).scalar_one()
    )


def oldest_queued(connection: Connection) -> float | None:
    """When the request that waits longest was made."""
    query = select(func.min(requests.c.created_at)).where(
        requests.c.state.in_((State.QUEUED, State.DISPATCHED))
    )
    created_at = connection.execute(query).scalar()
    return None if created_at is None else float(created_at)


# -- history and attempts ------------------------------------------------------------------------


def add_history(connection: Connection, request_id: str, lines: Sequence[str], now: float) -> None:
    if lines:
        rows = [{"request_id": request_id, "at": now, "text": line} for line in lines]
        connection.execute(_INSERT_HISTORY, rows)


def history_entries(connection: Connection, request_id: str, after: int = 0) -> list[HistoryEntry]:
    """The lines beyond the one of number `after`."""
    query = (
        select(history.c.id, history.c.at, history.c.text)
        .where(history.c.request_id == request_id, history.c.id > after)
        .order_by(history.c.id)
    )
    return [HistoryEntry(row.id, row.at, row.text) for row in connection.execute(query)]


def in_cluster(connection: Connection, cluster: str, states: Sequence[AttemptState]) -> list[str]:
    """Requests with an attempt in one of these states in the cluster."""
    query = select(attempts.c.request_id).where(
        attempts.c.cluster == cluster, attempts.c.state.in_(states)
    )
    return [str(row.request_id) for row in connection.execute(query.distinct())]


# -- the end -------------------------------------------------------------------------------------


def expire(connection: Connection, before: float, limit: int) -> dict[str, set[str]]:
    """Forget what finished before this moment; the clusters that each request was tried in."""
    rows = connection.execute(
        select(requests.c.id, requests.c.file_id)
        .where(requests.c.finished_at < before, requests.c.state.in_(FINAL))
        .limit(limit)
    ).all()
    ids, files = [row.id for row in rows], [row.file_id for row in rows]
    clusters_of: dict[str, set[str]] = {request_id: set() for request_id in ids}
    tried = select(attempts.c.request_id, attempts.c.cluster).where(attempts.c.request_id.in_(ids))
    for row in connection.execute(tried):
        clusters_of[row.request_id].add(row.cluster)
    connection.execute(delete(attempts).where(attempts.c.request_id.in_(ids)))
    connection.execute(delete(history).where(history.c.request_id.in_(ids)))
    connection.execute(delete(pods).where(pods.c.request_id.in_(ids)))
    connection.execute(delete(requests).where(requests.c.id.in_(ids)))
    connection.execute(delete(documents).where(documents.c.file_id.in_(files)))
    return clusters_of


def columns(request: Request) -> dict[str, Any]:
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
