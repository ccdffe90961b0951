"""What the agents measured, asked of the agents themselves: for clusters without Prometheus."""

import asyncio
import ssl
import time
from typing import Any

import msgspec
import numpy as np
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from latency.agent.peers import Peer
from latency.effective import JITTER_WEIGHT, effective_rtt
from latency.matrix import Readings
from latency.pairs import MAX_RTT_MS, LatencyError

log = structlog.get_logger(__name__)

AT_ONCE = 32
TIMEOUT = 5.0
MAX_BODY = 4 * 1024 * 1024


class _Row(msgspec.Struct, frozen=True):
    node: str
    latency: float | None
    age_s: float | None
    loss: float | None = None
    jitter: float | None = None


_decode = msgspec.json.Decoder(list[_Row]).decode
_Measurements = list[tuple[str, str, float, float, float, float]]
"""(source, target, median ms, stamp, jitter ms, loss)."""


class Agents:
    """Asks every known agent what it measured. `peers` may be replaced at any time."""

    def __init__(
        self, token: str = "", ca_file: str = "", jitter_weight: float = JITTER_WEIGHT
    ) -> None:
        self.peers: list[Peer] = []
        self._jitter_weight = jitter_weight
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._scheme = "https" if ca_file else "http"
        self._tls: Any = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._room = asyncio.Semaphore(AT_ONCE)

    async def readings(self) -> Readings:
        """All that answered. Raises LatencyError where there are agents and none does."""
        peers = self.peers
        connector = TCPConnector(ssl=self._tls, limit=AT_ONCE)
        async with ClientSession(
            headers=self._headers, timeout=ClientTimeout(total=TIMEOUT), connector=connector
        ) as session:
            answers = await asyncio.gather(*(self._ask(session, peer) for peer in peers))
        problems = [answer for answer in answers if isinstance(answer, str)]
        if problems:
            log.warning("agents did not answer", of=len(peers), number=len(problems))
        if peers and len(problems) == len(peers):
            raise LatencyError(f"no agent answers: {problems[0]}")
        rows = [row for answer in answers if isinstance(answer, list) for row in answer]
        median, stamps, jitter, loss = (
            np.array([row[column] for row in rows], np.float64) for column in (2, 3, 4, 5)
        )
        times = effective_rtt(median, jitter, loss, self._jitter_weight)
        return Readings(
            [row[0] for row in rows], [row[1] for row in rows], times, stamps
        ).without_nan()

    async def _ask(self, session: ClientSession, peer: Peer) -> _Measurements | str:
        """What one agent measured, or why it cannot be told."""
        host = f"[{peer.address}]" if ":" in peer.address else peer.address
        url = f"{self._scheme}://{host}:{peer.port}/monitoring/near-nodes/latency"
        try:
            async with self._room, session.get(url) as answer:
                if answer.status != 200:
                    return f"{peer.name}: HTTP {answer.status}"
                body = b""
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > MAX_BODY:
                        return f"{peer.name}: more than {MAX_BODY} bytes"
            rows = _decode(body)
        except (ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            return f"{peer.name}: {type(error).__name__} {error}"
        now = time.time()
        return [
            (
                peer.name,
                row.node,
                row.latency,
                # The agent tells an age, not a time: its clock may be wrong.
                now - max(row.age_s or 0.0, 0.0),
                row.jitter or 0.0,
                row.loss or 0.0,
            )
            for row in rows
            if row.latency is not None and 0 <= row.latency <= MAX_RTT_MS
        ]
