"""Where the two ends of a stream meet. Both come by a connection of their own, so an agent needs no
address that others reach."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from cluster.errors import ClusterError
from federation.streams.duplex import HEARTBEAT_S, MAX_MESSAGE, Duplex, WebSocketDuplex, memory_pair

MEET_WITHIN_S = 15.0
"""Seconds for which the first end waits for the second."""
MAX_STREAMS = 1000
KNOCK_FOR_S, KNOCK_PAUSE_S = 10.0, 0.02


class NotMet(ClusterError):
    """There is nobody at the other end."""


class Rendezvous(Protocol):
    """Of one cluster's agent."""

    async def offer(self, stream: str, target: str) -> Duplex:
        """The end of the cluster of the proxy. Nothing is read from it before the other one has
        come. Raises ClusterError."""

    async def accept(self, stream: str) -> tuple[str, Duplex]:
        """The other end, and the cluster that has offered it. Raises NotMet, ClusterError."""


@dataclass(slots=True)
class _Waiting:
    source: str
    target: str
    end: Duplex
    giving_up: asyncio.Task[None] | None = None


class MeetingPoint:
    """Streams inside this process, by id: of all clusters."""

    def __init__(self, meet_within: float = MEET_WITHIN_S) -> None:
        self._meet_within = meet_within
        self._waiting: dict[str, _Waiting] = {}

    def offer(self, stream: str, source: str, target: str) -> Duplex:
        """Raises NotMet where there are too many. The stream is closed where nobody comes."""
        if len(self._waiting) >= MAX_STREAMS:
            raise NotMet(f"{MAX_STREAMS:,} streams wait for their other end already")
        if stream in self._waiting:
            raise NotMet("this stream was offered already")
        own, other = memory_pair()
        waiting = self._waiting[stream] = _Waiting(source, target, other)
        waiting.giving_up = asyncio.create_task(self._give_up(stream))
        return own

    def accept(self, stream: str, cluster: str | None) -> tuple[str, Duplex]:
        """The cluster that has offered it, and its other end. `cluster` is that of the agent that
        has come; None for any. Raises NotMet."""
        waiting = self._waiting.get(stream)
        if waiting is None or cluster not in (None, waiting.target):
            raise NotMet("there is no such stream, or it is not for this cluster")
        del self._waiting[stream]
        if waiting.giving_up is not None:
            waiting.giving_up.cancel()
        return waiting.source, waiting.end

    async def _give_up(self, stream: str) -> None:
        await asyncio.sleep(self._meet_within)
        await self._waiting.pop(stream).end.close()

    def of(self, cluster: str) -> "RendezvousHere":
        """For the agent of one cluster in this process."""
        return RendezvousHere(self, cluster)


class RendezvousHere:
    """Rendezvous without a front in between."""

    def __init__(self, point: MeetingPoint, cluster: str) -> None:
        self._point, self._cluster = point, cluster

    async def offer(self, stream: str, target: str) -> Duplex:
        return self._point.offer(stream, self._cluster, target)

    async def accept(self, stream: str) -> tuple[str, Duplex]:
        return self._point.accept(stream, self._cluster)


class FrontRendezvous:
    """At the front's `/api/v1/streams`, by WebSockets."""

    def __init__(self, session: aiohttp.ClientSession, base: str, cluster: str) -> None:
        """`base` is the front's URL; the session carries TLS and the agent's token, and makes a new
        connection each time."""
        self._session, self._cluster = session, cluster
        self._base = f"{base.rstrip('/')}/api/v1/streams"

    async def offer(self, stream: str, target: str) -> Duplex:
        return WebSocketDuplex(
            await self._connect(f"{stream}/offer?source={self._cluster}&target={target}")
        )

    async def accept(self, stream: str) -> tuple[str, Duplex]:
        """Of several fronts only one has the other end: we knock until we are there."""
        knocking_until = time.monotonic() + KNOCK_FOR_S
        pause = KNOCK_PAUSE_S
        while True:
            try:
                return await self._accept(stream)
            except NotMet:
                if time.monotonic() > knocking_until:
                    raise
            await asyncio.sleep(pause)
            pause *= 1.2

    async def _accept(self, stream: str) -> tuple[str, Duplex]:
        socket = await self._connect(f"{stream}/accept")
        try:
            # The front says first whom it has at the other end.
            source = await socket.receive_str(timeout=MEET_WITHIN_S)
        except (aiohttp.ClientError, TypeError, TimeoutError) as error:
            await socket.close()
            raise NotMet("the front closed the stream") from error
        return source, WebSocketDuplex(socket)

    async def _connect(self, path: str) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self._session.ws_connect(
                f"{self._base}/{path}", heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE, compress=0
            )
        except aiohttp.WSServerHandshakeError as error:
            raise NotMet(f"the front answered {error.status}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ClusterError(f"no answer from the front at {self._base}: {error}") from error
