"""Messages that nobody can read: set aside, counted and shown."""

from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, func, insert, select
from store.schema import poison
from store.transactions import Transactions

from federation.bus import Delivery

log = structlog.get_logger(__name__)


async def set_aside(
    transactions: Transactions, delivery: Delivery, problem: str, now: float
) -> None:
    """Keep a message, instead of meeting it again and again."""
    log.error("message set aside", topic=delivery.topic, key=delivery.key, problem=problem)
    row = {"topic": delivery.topic, "at": now, "problem": problem, "body": delivery.body}
    await transactions.run(lambda connection: connection.execute(insert(poison).values(row)))


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message that nobody could read."""

    id: int
    topic: str
    at: float
    problem: str
    body: bytes


def newest(connection: Connection, limit: int) -> list[SetAside]:
    """The newest first."""
    query = select(poison).order_by(poison.c.id.desc()).limit(limit)
    return [
        SetAside(row.id, row.topic, row.at, row.problem, row.body)
        for row in connection.execute(query)
    ]


def count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(poison)).scalar_one())
