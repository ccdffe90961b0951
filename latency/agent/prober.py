"""The agent's work: probes its peers in the background, each in its own time."""

import asyncio
import heapq
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from latency.agent.estimate import Estimate
from latency.agent.peers import Peer
from latency.agent.probes import WAYS, NoReply, NotAllowed, Probe, measure

log = structlog.get_logger(__name__)

LOST_IN_A_ROW = 3
"""Lost probes after which the next way is tried."""
FORGET_AFTER = 6
"""Intervals without a reading after which a peer's old ones are no longer told."""
STARVED_IN_A_ROW = 3
"""Probes that are sent one after another while each meets a busy machine."""
AT_ONCE = 64
BEST_AGAIN = 60
"""Probes after which a peer on a lesser way is tried by the best one again."""


@dataclass(slots=True, eq=False)
class Tracked:
    """A peer with what was measured by the probe that it answers, `probe` (empty before any)."""

    peer: Peer
    estimate: Estimate = field(default_factory=Estimate)
    probe: str = ""
    way: int = 0
    lost: int = 0
    probes: int = 0

    def use(self, probe_index: int, probe: str) -> None:
        """From now on this probe is sent: what another one measured is not mixed with its times."""
        if probe != self.probe:
            self.estimate, self.probe = Estimate(), probe
        self.way, self.lost = probe_index, 0


class Prober:
    """Keeps an estimate for every peer."""

    def __init__(
        self,
        interval: float,
        ways: Mapping[str, Probe] = WAYS,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._interval, self._clock = interval, clock
        self._ways = list(ways.items())
        self._random = random.Random(seed)
        self._tracked: dict[tuple[str, str], Tracked] = {}
        self._due: list[tuple[float, int, Tracked]] = []
        self._numbers = itertools.count()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._changed = asyncio.Event()
        self.counts: Counter[tuple[str, str]] = Counter()
        """Probes by (way, result), result being ok, lost or starved."""

    def follow(self, peers: Iterable[Peer]) -> None:
        """Probe exactly these; what is known of those that stay is kept."""
        wanted = {peer.key: peer for peer in peers}
        for key in self._tracked.keys() - wanted.keys():
            del self._tracked[key]
        for key, peer in wanted.items():
            tracked = self._tracked.get(key)
            if tracked is not None and tracked.peer == peer:
                continue
            fresh = self._tracked[key] = Tracked(peer)
            # The first round is spread over an interval, and every later one drifts apart.
            self._push(fresh, self._random.uniform(0, min(self._interval, 2.0)))
        self._changed.set()

    @property
    def tracked(self) -> list[Tracked]:
        return list(self._tracked.values())

    def fresh(self, tracked: Tracked) -> bool:
        """Whether there is a reading that is young enough to be told."""
        return self.age(tracked) <= FORGET_AFTER * self._interval

    def age(self, tracked: Tracked) -> float:
        """Seconds since the last reply; infinite before the first."""
        at = tracked.estimate.measured_at
        return math.inf if at is None else max(self._clock() - at, 0.0)

    async def run(self) -> None:
        """Probe, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wait()
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    tracked = heapq.heappop(self._due)[2]
                    if self._tracked.get(tracked.peer.key) is tracked:
                        group.create_task(self._probe(tracked))

    async def _wait(self) -> None:
        """Until the next probe is due, or the peers change."""
        self._changed.clear()
        timeout = max(self._due[0][0] - time.monotonic(), 0) if self._due else None
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _probe(self, tracked: Tracked) -> None:
        async with self._room:
            try:
                await self.probe(tracked)
            except Exception:
                log.exception("probe failed", peer=tracked.peer.name)
        self._push(tracked, self._interval * self._random.uniform(0.8, 1.2))

    def _push(self, tracked: Tracked, delay: float) -> None:
        due = time.monotonic() + delay
        heapq.heappush(self._due, (due, next(self._numbers), tracked))
        if self._due[0][2] is tracked:
            self._changed.set()

    async def probe(self, tracked: Tracked) -> None:
        """One probe, of the kind that the peer answered last; now and then of the best kind
        again."""
        tracked.probes += 1
        probe_index = tracked.way % len(self._ways)
        again = probe_index > 0 and tracked.probes % BEST_AGAIN == 0
        if again:
            probe_index = 0
        name, send = self._ways[probe_index]
        if not tracked.probe:
            tracked.use(probe_index, name)
        try:
            rtt_ms = await self._reading(name, send, tracked)
        except NotAllowed as error:
            self._without(name, str(error))
            tracked.use(0, self._ways[0][0])
            return
        except NoReply:
            self.counts[name, "lost"] += 1
            if not again:
                self._lost(tracked, probe_index)
            return
        if rtt_ms is not None:
            tracked.use(probe_index, name)
            tracked.estimate.add(rtt_ms, self._clock())

    async def _reading(self, name: str, send: Probe, tracked: Tracked) -> float | None:
        """A round trip in ms. Raises NotAllowed, NoReply.

        Where this process waited for a CPU meanwhile the time is its own, not the network's: asked
        again at once, and left out where that helps nothing; but without any fresh reading of the
        peer the least is taken, since on a machine that is always busy nothing better comes."""
        least = math.inf
        for _ in range(STARVED_IN_A_ROW):
            reading = await measure(send, tracked.peer)
            if not reading.starved:
                self.counts[name, "ok"] += 1
                return reading.rtt_ms
            self.counts[name, "starved"] += 1
            least = min(least, reading.rtt_ms)
        return None if self.fresh(tracked) else least

    def _lost(self, tracked: Tracked, probe_index: int) -> None:
        tracked.estimate.lost()
        tracked.lost += 1
        if tracked.lost >= LOST_IN_A_ROW:
            # Only an answer makes it the peer's probe: until then what is known stays told.
            tracked.way, tracked.lost = (probe_index + 1) % len(self._ways), 0

    def _without(self, name: str, why: str) -> None:
        """A way that this process may not go is not tried again."""
        left = [pair for pair in self._ways if pair[0] != name]
        if left and len(left) < len(self._ways):
            log.warning("no such probes from here", way=name, why=why)
            self._ways = left
