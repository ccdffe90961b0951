"""Transport of messages: inside one process, or by Kafka. Both deliver at least once.

A bus loses nothing that it was given and keeps the order of one key on one topic, but may deliver
twice: what must happen once is made sure of where it happens.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.errors import ClusterError


class BusError(ClusterError):
    """A message may not have arrived: it is to be sent again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as a consumer gets it."""

    topic: str
    key: str
    body: bytes


Handler = Callable[[Delivery], Awaitable[None]]
"""Called once for every message, side by side for different keys; again where it raises."""


class Bus(Protocol):
    """What carries messages."""

    async def publish(self, topic: str, key: str, body: bytes) -> None:
        """Return once the message cannot be lost any more: it was handled here, or Kafka has it."""

    async def consume(self, topics: Sequence[str], group: str, handle: Handler) -> None:
        """Hand over the topics' messages, for ever. Of the members of one group each message
        reaches one. A message counts as taken once its handler returned."""
