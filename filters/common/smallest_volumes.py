"""Of volumes offered for many rows at once, the smallest by row."""

import numpy as np

from cluster.state.view import Ints

LARGEST = np.iinfo(np.int64).max


class SmallestVolumes:
    """By row the smallest volume so far, by its number; -1 with none."""

    def __init__(self, rows: int, ranks: Ints) -> None:
        self.ids = np.full(rows, -1, np.int64)
        self._sizes = np.full(rows, LARGEST)
        self._best_ranks = np.full(rows, LARGEST)
        self._ranks = ranks

    def offer(self, rows: Ints, sizes: Ints, ids: Ints) -> None:
        """Volumes of these sizes on these rows; several for a row are fine."""
        before = self._sizes[rows]
        np.minimum.at(self._sizes, rows, sizes)
        self._best_ranks[rows[sizes < before]] = LARGEST
        smallest = sizes == self._sizes[rows]
        rows, ids = rows[smallest], ids[smallest]
        ranks = self._ranks[ids]
        np.minimum.at(self._best_ranks, rows, ranks)
        first = ranks == self._best_ranks[rows]
        self.ids[rows[first]] = ids[first]
