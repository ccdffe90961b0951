"""Round trips as pictures: a heat map that stays readable, and a map of who is near whom."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from console.readings import RoundTrip
from latency.coordinates import fit

MAX_CELLS = 60
"""Rows and columns of a heat map; with more nodes, neighbours by name share one."""
_DIGITS = re.compile(r"(\d{1,18})")
EDGES = 2
"""Lines from every node to so many of its nearest."""

Floats = NDArray[np.float64]


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts edge-2 before edge-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name)]


def heat(pairs: Sequence[RoundTrip]) -> dict[str, object]:
    """{labels, cells, members}: medians in ms by groups of nodes; None where nothing is known."""
    names = sorted({p.source for p in pairs} | {p.target for p in pairs}, key=natural)
    size = -(-len(names) // MAX_CELLS) or 1
    groups = [names[start : start + size] for start in range(0, len(names), size)]
    group_index = {name: index for index, group in enumerate(groups) for name in group}
    rtts_by_cell: dict[tuple[int, int], list[float]] = {}
    for pair in pairs:
        rtts_by_cell.setdefault((group_index[pair.source], group_index[pair.target]), []).append(
            pair.rtt_ms
        )
    cells = [
        [
            round(float(np.median(rtts_by_cell[row, column])), 3)
            if (row, column) in rtts_by_cell
            else None
            for column in range(len(groups))
        ]
        for row in range(len(groups))
    ]
    labels = [g[0] if len(g) == 1 else f"{g[0]} … {g[-1]}" for g in groups]
    return {"labels": labels, "cells": cells, "members": size}


def layout(pairs: Sequence[RoundTrip]) -> dict[str, object]:
    """{names, x, y, edges}: nodes in a plane, as far apart as their round trips say, in ms."""
    if not pairs:
        return {"names": [], "x": [], "y": [], "edges": []}
    times = np.array([p.rtt_ms for p in pairs])
    coordinates = fit([p.source for p in pairs], [p.target for p in pairs], times)
    centred = coordinates.points - coordinates.points.mean(axis=0)
    # The two directions in which they differ most.
    flat: Floats = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    names = list(coordinates.rows)
    return {
        "names": names,
        "x": [round(float(x), 3) for x in flat[:, 0]],
        "y": [round(float(y), 3) for y in flat[:, 1]],
        "edges": _edges(pairs, coordinates.rows) if len(names) <= MAX_CELLS * 2 else [],
    }


def _edges(pairs: Sequence[RoundTrip], rows: dict[str, int]) -> list[tuple[int, int]]:
    nearest: dict[str, list[RoundTrip]] = {}
    for pair in sorted(pairs, key=lambda p: p.rtt_ms):
        nearest_pairs = nearest.setdefault(pair.source, [])
        if len(nearest_pairs) < EDGES and pair.source != pair.target:
            nearest_pairs.append(pair)
    ends = {
        (min(rows[p.source], rows[p.target]), max(rows[p.source], rows[p.target]))
        for nearest_pairs in nearest.values()
        for p in nearest_pairs
    }
    return sorted(ends)
