"""Messages that were decided on and are still to be sent: rows of the transaction that decided.

Each row has a sender, the process that wrote it, which sends it at once. Processes renew a claim;
what one leaves that died is taken over by any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, func, insert, select, update
from store.schema import outbox, processes


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message that is still to be sent; `id` is its place in the order."""

    id: int
    topic: str
    key: str
    body: bytes


def enqueue(
    connection: Connection, topic: str, key: str, body: bytes, now: float, sender: str
) -> None:
    """The message goes out once the transaction is committed."""
    connection.execute(
        insert(outbox).values(
            topic=topic, key=key, body=body.decode(), created_at=now, sender=sender
        )
    )


def unsent_topics(connection: Connection, sender: str) -> list[str]:
    """Topics for which something of this sender waits."""
    query = select(outbox.c.topic).where(outbox.c.sender == sender).distinct()
    return [str(row.topic) for row in connection.execute(query)]


def unsent(
    connection: Connection, sender: str, topic: str, after: int, limit: int
) -> list[OutboxMessage]:
    """The topic's messages of this sender beyond the one of number `after`, in order."""
    query = (
        select(outbox)
        .where(outbox.c.sender == sender, outbox.c.topic == topic, outbox.c.id > after)
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
        enqueue(connection, row.topic, row.key, row.body.encode(), row.created_at, sender)
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
