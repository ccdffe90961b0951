"""What a row will be like once more pods of a class run on it, worked out many at a time.

Identical pods that come in a row change one row each. To compute one row by arrays costs nearly as
much as to compute thousands, so the next states are computed in bulk: of all rows one pod ahead
where placements spread, of one row many pods ahead where they pack."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cluster.records import PodAmounts
from cluster.snapshot import Bools, Ints, Snapshot, View
from cluster.view import PlacedView

DEPTH = 16
"""Pods ahead that are computed for a row on which one is placed after another."""
MIN_BEHIND, BEHIND_SHARE = 32, 64
"""Rows, and share of them, without a next state after which it is computed for all of them."""

Judge = Callable[[View], tuple[Bools, Ints | int]]
"""Which rows of a view fit, and their scores."""


class Ahead:
    """The next states of rows for pods that ask for `needs`, as `judge` will have them."""

    def __init__(self, needs: PodAmounts, judge: Judge) -> None:
        self._needs, self._judge = needs, judge
        self._known = np.zeros(0, np.bool_)
        """Rows whose state with one more pod is in the next two."""
        self._fits = np.zeros(0, np.bool_)
        self._scores = np.zeros(0, np.int64)
        self._deep: dict[int, tuple[list[bool], list[int]]] = {}
        """By row, states with two and more pods than there are now, the nearest last."""
        self._behind = 0

    def forget(self) -> None:
        """Everything changed."""
        self._known = np.zeros(0, np.bool_)
        self._deep.clear()

    def changed(self, rows: NDArray[np.intp]) -> None:
        """These rows are not as they were."""
        if len(self._known):
            self._known[rows] = False
            self._behind += len(rows)
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
            return state
        if len(self._known) != len(snapshot):
            self._compute_all(snapshot, np.arange(len(snapshot)))
        elif self._behind > max(MIN_BEHIND, len(snapshot) // BEHIND_SHARE):
            self._compute_all(snapshot, np.flatnonzero(~self._known))
        elif self._known[row]:
            self._known[row] = False
            self._behind += 1
            return bool(self._fits[row]), int(self._scores[row])
        return self._compute_deep(snapshot, row)

    def _compute_all(self, snapshot: Snapshot, rows: NDArray[np.intp]) -> None:
        if len(self._known) != len(snapshot):
            self._known = np.zeros(len(snapshot), np.bool_)
            self._fits = np.zeros(len(snapshot), np.bool_)
            self._scores = np.zeros(len(snapshot), np.int64)
        fits, scores = self._judge(PlacedView(snapshot, rows, 1, self._needs))
        self._fits[rows], self._scores[rows], self._known[rows] = fits, scores, True
        self._behind = 0

    def _compute_deep(self, snapshot: Snapshot, row: int) -> tuple[bool, int]:
        """The row as it is, and with up to DEPTH more pods."""
        times = np.arange(DEPTH + 1)
        rows = np.full(DEPTH + 1, row)
        fits, scores = self._judge(PlacedView(snapshot, rows, times, self._needs))
        if isinstance(scores, int):
            scores = np.full(DEPTH + 1, scores)
        self._deep[row] = fits[:0:-1].tolist(), scores[:0:-1].tolist()
        if len(self._known):
            # That of one more pod is in the deep ones.
            self._behind += int(self._known[row])
            self._known[row] = False
        return bool(fits[0]), int(scores[0])
