"""What a row will be like once more pods of a class run on it, worked out many at a time.

Identical pods that come in a row change one row each. To compute one row by arrays costs nearly as
much as to compute thousands, so the next states are computed in bulk: of all rows one pod ahead
where placements spread, of one row many pods ahead where they pack."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cluster.state.records import PodAmounts
from cluster.state.snapshot import Bools, Ints, Snapshot, View
from cluster.state.view import PlacedView

LEVELS = 8
"""Pods ahead that are computed for all rows at once."""
DEPTH = 16
"""Pods ahead that are computed for one row on which pod after pod is placed."""

_NONE_USED = np.zeros(0, np.uint8)
_NONE_FIT, _NO_SCORES = np.zeros((LEVELS, 0), np.bool_), np.zeros((LEVELS, 0), np.int32)

Judge = Callable[[View], tuple[Bools, Ints | int]]
"""Which rows of a view fit, and their scores."""


class Ahead:
    """The next states of rows for pods that ask for `needs`, as `judge` will have them."""

    def __init__(self, needs: PodAmounts, judge: Judge) -> None:
        self._needs, self._judge = needs, judge
        self._used = _NONE_USED
        """By row how many of the states below have come; LEVELS where they are not known."""
        self._fits, self._scores = _NONE_FIT, _NO_SCORES
        self._unknown: set[int] = set()
        """The rows whose states are not known, as long as they are few."""
        self._deep: dict[int, tuple[list[bool], list[int]]] = {}
        """By row, the states that come next, the nearest last."""

    def forget(self) -> None:
        """Everything changed."""
        self._used = _NONE_USED
        self._unknown.clear()
        self._deep.clear()

    def changed(self, rows: NDArray[np.intp]) -> None:
        """These rows are not as they were."""
        if len(self._used):
            self._used[rows] = LEVELS
            self._unknown.update(rows.tolist())
        for row in rows.tolist():
            self._deep.pop(row, None)

    def next(self, row: int, snapshot: Snapshot) -> tuple[bool, int]:
        """(whether the row fits one more, its score) now that one more of these pods was placed on
        it.

        The snapshot counts that pod already.
        """
        deep = self._deep.get(row)
        if deep is not None:
            fits, scores = deep
            state = fits.pop(), scores.pop()
            if not fits:
                del self._deep[row]
                if len(self._used):
                    self._used[row] = LEVELS
                    self._unknown.add(row)
            return state
        level = int(self._used[row]) if len(self._used) == len(snapshot) else LEVELS
        if level == LEVELS:
            return self._compute(row, snapshot)
        self._used[row] = level + 1
        if level + 1 == LEVELS:
            self._unknown.add(row)
        return bool(self._fits[level, row]), int(self._scores[level, row])

    def _compute(self, row: int, snapshot: Snapshot) -> tuple[bool, int]:
        """The row as it is and with up to DEPTH more pods; and, since that costs little more, every
        other row whose states are not known with up to LEVELS more."""
        if len(self._used) != len(snapshot):
            self._used = np.zeros(len(snapshot), np.uint8)
            self._fits = np.zeros((LEVELS, len(snapshot)), np.bool_)
            self._scores = np.zeros((LEVELS, len(snapshot)), np.int32)
            others = np.arange(len(snapshot))
        else:
            others = np.fromiter(self._unknown, np.intp, len(self._unknown))
        rows = np.concatenate([np.full(DEPTH + 1, row), np.tile(others, LEVELS)])
        levels = np.repeat(np.arange(1, LEVELS + 1), len(others))
        times = np.concatenate([np.arange(DEPTH + 1), levels])
        fits, scores = self._judge(PlacedView(snapshot, rows, times, self._needs))
        if isinstance(scores, int):
            scores = np.full(len(rows), scores)
        self._fits[:, others] = fits[DEPTH + 1 :].reshape(LEVELS, -1)
        self._scores[:, others] = scores[DEPTH + 1 :].reshape(LEVELS, -1)
        self._used[others] = 0
        # That row's next states are the deep ones.
        self._used[row] = LEVELS
        self._unknown = {row}
        self._deep[row] = fits[DEPTH:0:-1].tolist(), scores[DEPTH:0:-1].tolist()
        return bool(fits[0]), int(scores[0])
