"""Round-trip times between nodes (or between clusters), behind the one interface of all sources.

A source (file, ConfigMap, agents, Prometheus) replaces the whole matrix at once; readers get
arrays. Times are milliseconds; pairs may be asymmetric. Every entry has the time at which it was
measured: entries older than `max_age` seconds are not given out any more. Pairs that nobody
measured are predicted from network coordinates, where the source brought some.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress

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

    def without_nan(self) -> "Readings":
        """Without pairs whose time is NaN: nothing got through to tell it."""
        keep = ~np.isnan(self.times)
        if keep.all():
            return self
        return Readings(
            list(compress(self.sources, keep)),
            list(compress(self.targets, keep)),
            self.times[keep],
            self.stamps[keep],
        )

    def __len__(self) -> int:
        return len(self.sources)


class Indexed:
    """Readings, ready to be asked by node. Made beside the event loop: of 160,000 pairs it takes a
    third of a second."""

    def __init__(
        self, readings: Readings = Readings(), coordinates: Coordinates | None = None
    ) -> None:
        names = dict.fromkeys((*readings.sources, *readings.targets))
        self.ids = {name: index for index, name in enumerate(names)}
        count = len(readings)
        self.source = np.fromiter(map(self.ids.__getitem__, readings.sources), np.int64, count)
        self.target = np.fromiter(map(self.ids.__getitem__, readings.targets), np.int64, count)
        self.times, self.stamps = readings.times, readings.stamps
        self.forward = _Index(self.source, self.target, len(self.ids))
        self.back = _Index(self.target, self.source, len(self.ids))
        self.coordinates = coordinates
        self.placed = np.zeros(0, np.int64)
        """By id, the row of the node's coordinates; -1 without."""
        if coordinates is not None:
            rows = coordinates.rows
            self.placed = np.fromiter((rows.get(n, -1) for n in names), np.int64, len(names))


class Matrix:
    """Times by source and target. `version` grows with every change that a reader could see."""

    def __init__(self, max_age: float = FOREVER) -> None:
        self.version = 0
        self.max_age = max_age
        self._set(Indexed())

    def __len__(self) -> int:
        """How many pairs are fresh."""
        return int(self._fresh.sum())

    def replace(self, readings: Readings | Indexed, coordinates: Coordinates | None = None) -> None:
        """Put these in the place of all that was known; of a pair given twice the last counts.

        What is too old already shows at the next `expire`.
        """
        made = readings if isinstance(readings, Indexed) else Indexed(readings, coordinates)
        self._set(made)
        self.version += 1

    def _set(self, indexed: Indexed) -> None:
        self._indexed = indexed
        self._ids, self._source, self._target = indexed.ids, indexed.source, indexed.target
        self._times, self._stamps = indexed.times, indexed.stamps
        self._forward, self._back = indexed.forward, indexed.back
        self._fresh = np.ones(len(self._source), np.bool_)
        self._heard = self._heard_of()

    def expire(self, now: float) -> None:
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
        source_id = self._ids.get(source)
        if source_id is None:
            return times[ids]
        coordinates = self._indexed.coordinates
        if coordinates is not None and self._heard[source_id]:
            # Of a node that nobody has heard of for long, coordinates tell nothing either.
            placed = self._indexed.placed
            predicted = coordinates.between(int(placed[source_id]), placed)
            times[:-1] = np.where(self._heard, predicted, np.nan)
        for index in (self._back, self._forward):
            entries = index.entries(source_id)
            entries = entries[self._fresh[entries]]
            times[index.others[entries]] = self._times[entries]
        times[source_id] = 0.0
        times[-1] = np.nan
        return times[ids]

    def measured_row(self, source: str, ids: Ints) -> NDArray[np.bool_]:
        """Which of `row`'s times were measured, and are not predicted by coordinates."""
        measured = np.zeros(len(self._ids) + 1, np.bool_)
        source_id = self._ids.get(source)
        if source_id is not None:
            for index in (self._back, self._forward):
                entries = index.entries(source_id)
                measured[index.others[entries[self._fresh[entries]]]] = True
            measured[source_id] = True
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

    def __init__(self, nodes: Ints, others: Ints, size: int) -> None:
        self._order = np.argsort(nodes, kind="stable")
        self._starts = np.searchsorted(nodes[self._order], np.arange(size + 1))
        self.others = others

    def entries(self, node: int) -> NDArray[np.int64]:
        entries: NDArray[np.int64] = self._order[self._starts[node] : self._starts[node + 1]]
        return entries
