"""What the round trips to one peer say: least, smoothed, median and 99th percentile, and loss."""

from collections import deque

WINDOW = 30
"""Probes that an estimate looks back on."""
SMOOTHING = 0.25
OUTLIER = 3.0
"""A time so many medians long moves the smoothed value by no more than that much would."""


class Estimate:
    """The last WINDOW probes of one peer. Times are milliseconds; None until there is one."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._answered: deque[bool] = deque(maxlen=WINDOW)
        self.smoothed: float | None = None
        self.measured_at: float | None = None

    def add(self, rtt_ms: float, now: float) -> None:
        """A reply came. `now` is any one clock, in seconds."""
        median = self.quantile(0.5)
        self._times.append(rtt_ms)
        self._answered.append(True)
        self.measured_at = now
        if self.smoothed is None or median is None:
            self.smoothed = rtt_ms
        else:
            # A lasting change reaches the median within half a window, and then the rest.
            bounded = min(rtt_ms, OUTLIER * max(median, self.smoothed))
            self.smoothed += SMOOTHING * (bounded - self.smoothed)

    def lost(self) -> None:
        """No reply came in time."""
        self._answered.append(False)

    @property
    def loss(self) -> float:
        """The share of probes without a reply, 0..1."""
        return self._answered.count(False) / len(self._answered) if self._answered else 0.0

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
