"""Network coordinates: round-trip times that nobody measured, predicted from those that were.

Vivaldi with height (Dabek, Cox, Kaashoek, Morris: "Vivaldi: A Decentralized Network Coordinate
System", SIGCOMM 2004). Every node has a point in a plane-like space and a height above it, the
share of its own access link; the time between two nodes is the distance of their points plus both
heights. The paper moves one node a sample; here all measured pairs pull at once, as arrays, which
costs O(n·k) a round for n nodes that measure k peers each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DIMENSIONS = 4
ROUNDS = 300
FIRST_STEP, LAST_STEP = 0.7, 0.05
STIFFNESS = 1.5
LEAST_TIME = 0.01
"""Milliseconds; shorter times count as so long, or their relative errors are all that counts."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Points, shape (n, DIMENSIONS), and heights, shape (n,), both in ms."""

    rows: dict[str, int]
    points: Floats
    heights: Floats

    def times(self, source: str, names: Sequence[str]) -> Floats:
        """Predicted round-trip times in ms from `source` to each name; NaN for unknown nodes."""
        rows = np.fromiter((self.rows.get(name, -1) for name in names), np.int64, len(names))
        return self.between(self.rows.get(source, -1), rows)

    def between(self, source: int, rows: Ints) -> Floats:
        """As `times`, by rows; -1 is an unknown node."""
        if source < 0:
            return np.full(len(rows), np.nan)
        distances = np.linalg.norm(self.points[rows] - self.points[source], axis=1)
        result: Floats = distances + self.heights[rows] + self.heights[source]
        result[rows == source] = 0.0
        result[rows < 0] = np.nan
        return result


def fit(
    sources: Sequence[str], targets: Sequence[str], times: Floats, seed: int = 0
) -> Coordinates:
    """Coordinates that explain these measured times (ms) as well as they can.

    The three are columns of equal length. The result depends on nothing but them and `seed`.
    """
    rows = {name: row for row, name in enumerate(dict.fromkeys((*sources, *targets)))}
    source_rows = np.fromiter(map(rows.__getitem__, sources), np.int64, len(sources))
    target_rows = np.fromiter(map(rows.__getitem__, targets), np.int64, len(targets))
    distinct = source_rows != target_rows
    source_rows, target_rows, times = (
        source_rows[distinct],
        target_rows[distinct],
        np.maximum(times[distinct], LEAST_TIME),
    )
    size = len(rows)
    typical = float(np.median(times)) if len(times) else 1.0
    rng = np.random.default_rng(seed)
    points = rng.normal(scale=typical / 4, size=(size, DIMENSIONS))
    heights = np.full(size, typical / 10)
    # Springs of near pairs are stiffer: what counts is to tell near from far.
    stiff = times**-STIFFNESS
    total = np.bincount(source_rows, stiff, size) + np.bincount(target_rows, stiff, size)
    total[total == 0] = 1.0
    for step in np.geomspace(FIRST_STEP, LAST_STEP, ROUNDS):
        _relax(points, heights, source_rows, target_rows, times, stiff, step / total)
    return Coordinates(rows, points, heights)


def _relax(
    points: Floats,
    heights: Floats,
    source_rows: Ints,
    target_rows: Ints,
    times: Floats,
    stiff: Floats,
    gain: Floats,
) -> None:
    """One round: every spring pulls both of its ends, along the points and along the heights."""
    size = len(points)
    between = points[source_rows] - points[target_rows]
    length = np.maximum(np.linalg.norm(between, axis=1), 1e-9)
    pull = stiff * (times - (length + heights[source_rows] + heights[target_rows]))
    along = (pull / length)[:, None] * between
    for axis in range(DIMENSIONS):
        force = along[:, axis]
        points[:, axis] += gain * (
            np.bincount(source_rows, force, size) - np.bincount(target_rows, force, size)
        )
    raised = np.bincount(source_rows, pull, size) + np.bincount(target_rows, pull, size)
    np.maximum(heights + 0.5 * gain * raised, 0.0, out=heights)


def relative_errors(coordinates: Coordinates, times: Floats, names: Sequence[str]) -> Floats:
    """|predicted - measured| / measured of every pair of a full matrix of ms, as a flat array."""
    predicted = np.array([coordinates.times(name, names) for name in names])
    upper = np.triu_indices(len(names), 1)
    errors: Floats = np.abs(predicted[upper] - times[upper]) / times[upper]
    return errors
