"""Messages that were decided on and are still to be sent: rows of the transaction that decided.

Each row has a sender, the process that wrote it, which sends it at once. Processes renew a claim;
what one leaves that died is taken over by any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update
from store.schema import outbox, processes


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message that is still to be sent; `id` is its place in the order."""

    id: int
    topic: str
    key: str
    body: bytes


_INSERT = insert(outbox)
_DELETE = delete(outbox).where(outbox.c.id == bindparam("of_id"))
_UNSENT = (
    select(outbox.c.id, outbox.c.topic, outbox.c.key, outbox.c.body)
    .where(
        outbox.c.sender == bindparam("of_sender"),
        outbox.c.topic == bindparam("of_topic"),
        outbox.c.id > bindparam("after"),
    )
    .order_by(outbox.c.id)
    .limit(bindparam("most"))
)


def enqueue(
    connection: Connection, messages: Sequence[tuple[str, str, bytes]], now: float, sender: str
) -> None:
    """These messages (topic, key, body) go out once the transaction is committed."""
    if messages:
        rows = [
            {"topic": topic, "key": key, "body": body.decode(), "created_at": now, "sender": sender}
            for topic, key, body in messages
        ]
        connection.execute(_INSERT, rows)


def unsent_topics(connection: Connection, sender: str) -> list[str]:
    """Topics for which something of this sender waits."""
    query = select(outbox.c.topic).where(outbox.c.sender == sender).distinct()
    return [str(row.topic) for row in connection.execute(query)]


def unsent(
    connection: Connection, sender: str, topic: str, after: int, limit: int
) -> list[OutboxMessage]:
    """The topic's messages of this sender beyond the one of number `after`, in order."""
    given = {"of_sender": sender, "of_topic": topic, "after": after, "most": limit}
    return [
        OutboxMessage(row.id, row.topic, row.key, row.body.encode())
        for row in connection.execute(_UNSENT, given)
    ]


def mark_sent(connection: Connection, ids: Sequence[int]) -> None:
    """Delivered: nothing is kept of them."""
    if ids:
        connection.execute(_DELETE, [{"of_id": one} for one in ids])


def lag(connection: Connection, now: float) -> float:
    """Seconds for which the oldest unsent message has waited."""
    oldest = connection.execute(select(func.min(outbox.c.created_at))).scalar()
    return 0.0 if oldest is None else max(now - float(oldest), 0.0)


# -- senders -------------------------------------------------------------------------------------


def claim(connection: Connection, sender: str, role: str, now: float, until: float) -> None:
    """This process is there until then, unless it says so again."""
    changed = connection.execute(
        update(processes)
        .where(processes.c.identity == sender)
        .values(claimed_at=now, claim_until=until)
    )
    if not changed.rowcount:
        connection.execute(
            insert(processes).values(identity=sender, role=role, claimed_at=now, claim_until=until)
        )


def release(connection: Connection, sender: str) -> None:
    """This process goes; what it leaves is taken over at once."""
    connection.execute(delete(processes).where(processes.c.identity == sender))


def adopt(connection: Connection, sender: str, now: float, *, alone: bool) -> list[str]:
    """Take over what processes left that are no more (all others, where `alone`); the topics of it.

    The messages get new places in the order, since this process may have passed their old ones.
    """
    dead = processes.c.identity != sender
    if not alone:
        dead = and_(dead, processes.c.claim_until < now)
    connection.execute(delete(processes).where(dead))
    rows = connection.execute(
        select(outbox)
        .where(outbox.c.sender.not_in(select(processes.c.identity)))
        .order_by(outbox.c.id)
        .with_for_update(skip_locked=True)
    ).all()
    mark_sent(connection, [row.id for row in rows])
    for row in rows:
        message = (row.topic, row.key, row.body.encode())
        enqueue(connection, [message], row.created_at, sender)
    return sorted({str(row.topic) for row in rows})


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the layer, and when it was last heard of (Unix time)."""

    identity: str
    role: str
    claimed_at: float


def living(connection: Connection, now: float) -> list[Process]:
    query = select(processes).where(processes.c.claim_until >= now)
    return [Process(r.identity, r.role, r.claimed_at) for r in connection.execute(query)]
