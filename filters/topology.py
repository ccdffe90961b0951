"""Numbers summed over the nodes that share the value of a label."""

import numpy as np
from numpy.typing import NDArray

from cluster.snapshot import Bools, Ints, Snapshot

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
