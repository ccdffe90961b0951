"""What the round trips to one peer say: least, median, 99th percentile, jitter and loss."""

from collections import deque
from itertools import pairwise

WINDOW = 30
"""Probes that an estimate looks back on."""


class Estimate:
    """The last WINDOW probes of one peer, all of one kind: times of an ICMP echo, a TCP handshake
    and an HTTP request are not comparable. Times are milliseconds; None until there is one."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._answered: deque[bool] = deque(maxlen=WINDOW)
        self.measured_at: float | None = None

    def add(self, rtt_ms: float, now: float) -> None:
        """A reply came. `now` is any one clock, in seconds."""
        self._times.append(rtt_ms)
        self._answered.append(True)
        self.measured_at = now

    def lost(self) -> None:
        """No reply came in time."""
        self._answered.append(False)

    @property
    def loss(self) -> float:
        """The share of probes without a reply, 0..1."""
        return self._answered.count(False) / len(self._answered) if self._answered else 0.0

    @property
    def median(self) -> float | None:
        """What is told as the round-trip time: outliers do not move it."""
        return self.quantile(0.5)

    @property
    def jitter(self) -> float:
        """The mean difference between one time and the next, as of RFC 3550; 0 with fewer than
        two."""
        if len(self._times) < 2:
            return 0.0
        return sum(abs(b - a) for a, b in pairwise(self._times)) / (len(self._times) - 1)

    @property
    def silent(self) -> bool:
        """Whether not one probe of the window was answered."""
        return bool(self._answered) and not any(self._answered)

    def quantile(self, share: float) -> float | None:
        """The nearest-rank quantile of the window's times; 0 is the least."""
        if not self._times:
            return None
        ordered = sorted(self._times)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
