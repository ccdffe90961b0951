"""Round-trip times between nodes (or between clusters), behind the one interface of all sources.

A source (file, ConfigMap, agents, Prometheus) replaces the whole matrix at once; readers get
arrays. Times are milliseconds; pairs may be asymmetric. Every entry has the time at which it was
measured: entries older than `max_age` seconds are not given out any more. Pairs that nobody
measured are predicted from network coordinates, where the source brought some.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latency.coordinates import Coordinates
from latency.pairs import Pair

Milliseconds = NDArray[np.float64]
Ints = NDArray[np.int64]

FOREVER = math.inf
"""The time of measurement of what is written down and does not age."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Pairs as columns: names, times in ms, and when each was measured (seconds, any one clock)."""

    sources: Sequence[str] = ()
    targets: Sequence[str] = ()
    times: Milliseconds = field(default_factory=lambda: np.zeros(0))
    stamps: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, pairs: Iterable[Pair], stamp: float = FOREVER) -> "Readings":
        pairs = list(pairs)
        times = np.array([pair.rtt_ms for pair in pairs], np.float64)
        return cls(
            [pair.source for pair in pairs],
            [pair.target for pair in pairs],
            times,
            np.full(len(pairs), stamp),
        )

    def __len__(self) -> int:
        return len(self.sources)


class Matrix:
    """Times by source and target. `version` grows with every change that a reader could see."""

    def __init__(self, max_age: float = FOREVER) -> None:
        self.version = 0
        self.max_age = max_age
        self._ids: dict[str, int] = {}
        self._coordinates: Coordinates | None = None
        self._set(Readings())

    def __len__(self) -> int:
        """How many pairs are fresh."""
        return int(self._fresh.sum())

    def replace(self, readings: Readings, coordinates: Coordinates | None = None) -> None:
        """Put these in the place of all that was known; of a pair given twice the last counts.

        What is too old already shows at the next `tick`.
        """
        self._coordinates = coordinates
        self._set(readings)
        self.version += 1

    def _set(self, readings: Readings) -> None:
        names = dict.fromkeys((*readings.sources, *readings.targets))
        self._ids = {name: index for index, name in enumerate(names)}
        count = len(readings)
        source = np.fromiter(map(self._ids.__getitem__, readings.sources), np.int64, count)
        target = np.fromiter(map(self._ids.__getitem__, readings.targets), np.int64, count)
        self._times, self._stamps = readings.times, readings.stamps
        self._source, self._target = source, target
        self._fresh = np.ones(count, np.bool_)
        self._heard = self._heard_of()
        self._forward = _Index(source, target, len(self._ids))
        self._back = _Index(target, source, len(self._ids))

    def tick(self, now: float) -> None:
        """Let entries that are older than `max_age` at `now` go, and younger ones stay."""
        if self.max_age == FOREVER:
            return
        fresh = self._stamps >= now - self.max_age
        if not np.array_equal(fresh, self._fresh):
            self._fresh = fresh
            self._heard = self._heard_of()
            self.version += 1

    def _heard_of(self) -> NDArray[np.bool_]:
        """Which nodes are an end of a fresh entry."""
        heard = np.zeros(len(self._ids), np.bool_)
        heard[self._source[self._fresh]] = True
        heard[self._target[self._fresh]] = True
        return heard

    def pairs(self) -> Iterator[tuple[str, str, float, float]]:
        """(source, target, ms, when it was measured) of every fresh entry."""
        names = list(self._ids)
        for entry in np.flatnonzero(self._fresh).tolist():
            ends = names[self._source[entry]], names[self._target[entry]]
            yield *ends, float(self._times[entry]), float(self._stamps[entry])

    def ids(self, names: Sequence[str]) -> Ints:
        """Where each name stands in this version of the matrix; -1 where it is unknown."""
        get = self._ids.get
        return np.fromiter((get(name, -1) for name in names), np.int64, len(names))

    def row(self, source: str, ids: Ints) -> Milliseconds:
        """Times from `source` to each of `ids` (from `ids`), NaN where unknown.

        A pair measured only the other way round is taken from there: over one route the round
        trip is the same from both ends. A node is at 0 ms from itself.
        """
        times = np.full(len(self._ids) + 1, np.nan)
        known = self._ids.get(source)
        if known is None:
            return times[ids]
        if self._coordinates is not None and self._heard[known]:
            # Of a node that nobody has heard of for long, coordinates tell nothing either.
            found = self._coordinates.times(source, list(self._ids))
            times[:-1] = np.where(self._heard, found, np.nan)
        for index in (self._back, self._forward):
            entries = index.entries(known)
            entries = entries[self._fresh[entries]]
            times[index.others[entries]] = self._times[entries]
        times[known] = 0.0
        times[-1] = np.nan
        return times[ids]

    def measured_row(self, source: str, ids: Ints) -> NDArray[np.bool_]:
        """Which of `row`'s times were measured, and are not predicted by coordinates."""
        measured = np.zeros(len(self._ids) + 1, np.bool_)
        known = self._ids.get(source)
        if known is not None:
            for index in (self._back, self._forward):
                entries = index.entries(known)
                measured[index.others[entries[self._fresh[entries]]]] = True
            measured[known] = True
        measured[-1] = False
        return measured[ids]

    def from_source(self, source: str, names: Sequence[str]) -> Milliseconds:
        """Times from `source` to each of `names`, shape (len(names),); NaN where unknown."""
        row = self.row(source, self.ids(names))
        return np.where(np.array([name == source for name in names], np.bool_), 0.0, row)

    def measured(self, source: str, target: str) -> bool:
        """Whether the pair itself was measured, either way round, and not only predicted."""
        return bool(self.measured_row(source, self.ids([target]))[0])


class _Index:
    """Which entries belong to each node, and which node is at their other end."""

    def __init__(self, mine: Ints, others: Ints, size: int) -> None:
        self._order = np.argsort(mine, kind="stable")
        self._starts = np.searchsorted(mine[self._order], np.arange(size + 1))
        self.others = others

    def entries(self, node: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self._order[self._starts[node] : self._starts[node + 1]]
        return found
