"""Numbers summed over the nodes that share the value of a label."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.state.snapshot import Bools, Ints, Snapshot

HOSTNAME = "kubernetes.io/hostname"


def sums(snapshot: Snapshot, key: str, numbers: Ints, among: Bools | None = None) -> Ints:
    """By value of the node label `key` (its number in `snapshot.label_values(key)`), the sum of
    `numbers`, which has one element a row, over the nodes `among` (all that have the label).

    Index 0, "label absent", is 0.
    """
    size = len(snapshot.label_values(key))
    column = snapshot.view().label(key)
    if column is None:
        return np.zeros(size, np.int64)
    numbers = numbers[: len(column)]
    if among is not None:
        column, numbers = column[among], numbers[among]
    busy = np.flatnonzero(numbers)
    if len(busy) * 4 < len(numbers):
        column, numbers = column[busy], numbers[busy]
    table = np.bincount(column, weights=numbers, minlength=size).astype(np.int64)
    table[0] = 0
    return table


def values(snapshot: Snapshot, key: str, among: Bools) -> NDArray[np.int64]:
    """The distinct values that the label has on these nodes; 0 stands for nodes without it."""
    column = snapshot.view().label(key)
    if column is None:
        return np.zeros(min(1, int(among.any())), np.int64)
    return np.flatnonzero(np.bincount(column[among], minlength=1))


MAX_KEPT_BYTES = 32 * 1024 * 1024
MIN_KEPT = 8


@dataclass(slots=True)
class _Kept:
    """A table of sums, and the numbers by row of which it is the sum, as of `version`."""

    table: Ints
    numbers: Ints
    version: int


class KeptSums:
    """Tables of `sums` that follow the snapshot: after a placement one row's number has changed, so
    one entry of the table does. Not for tables over part of the nodes that changes with pods."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._snapshot: Snapshot | None = None

    def of(
        self,
        snapshot: Snapshot,
        key: str,
        source: Hashable,
        numbers: Ints,
        among: Bools | None = None,
    ) -> Ints:
        """`sums(snapshot, key, numbers, among)`, to be read before the snapshot changes again.

        `source` stands for what is counted and, where given, for `among`.
        """
        if snapshot.asking:
            return sums(snapshot, key, numbers, among)
        if self._snapshot is not snapshot:
            self._snapshot = snapshot
            self._kept.clear()
        kept = self._kept.get((key, source))
        if kept is None or kept.version < snapshot.nodes_touched:
            count = len(snapshot)
            table = sums(snapshot, key, numbers, among)
            kept = _Kept(table, numbers[:count].copy(), snapshot.version)
            self._kept[key, source] = kept
            while len(self._kept) > max(MAX_KEPT_BYTES // (8 * count + 1), MIN_KEPT):
                self._kept.popitem(last=False)
        elif kept.version < snapshot.version:
            self._follow(kept, snapshot, key, numbers, among)
        self._kept.move_to_end((key, source))
        return kept.table

    @staticmethod
    def _follow(
        kept: _Kept, snapshot: Snapshot, key: str, numbers: Ints, among: Bools | None
    ) -> None:
        rows = snapshot.changed_since(kept.version)
        column = snapshot.view(rows).label(key)
        if column is not None:
            change = numbers[rows] - kept.numbers[rows]
            kept.numbers[rows] = numbers[rows]
            if among is not None:
                change = change * among[rows]
            np.add.at(kept.table, column, change)
            kept.table[0] = 0
        kept.version = snapshot.version
