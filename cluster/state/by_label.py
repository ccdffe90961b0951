"""Numbers that belong to one value of a node label (a local volume's size, a node's free
storage)."""

from dataclasses import dataclass, field

import numpy as np

from cluster.state.topology import Rows
from cluster.state.view import Ints

NO_ROW = -1

Label = tuple[str, str]
"""(key, value) of a node label."""
NO_LABEL: Label = ("", "")


@dataclass(slots=True)
class ByLabel:
    """Entries by key, each with the (label, value) that it is pinned to and a number.

    Entries come and go in constant time; which rows they concern is worked out again only when
    nodes or their labels change."""

    _rows: Rows
    _slots: dict[str, int] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)
    _labels: list[Label] = field(default_factory=list)
    _numbers: Ints = field(default_factory=lambda: np.zeros(16, np.int64))
    _row_of: Ints = field(default_factory=lambda: np.full(16, NO_ROW, np.int64))
    _ids: Ints = field(default_factory=lambda: np.zeros(16, np.int64))
    _more: dict[int, list[int]] = field(default_factory=dict)
    """By slot the further rows, where several nodes carry the same value."""
    _topology: tuple[int, int] = (-1, -1)

    def __len__(self) -> int:
        return len(self._slots)

    def set(self, key: str, label: Label, number: int, id_: int = 0) -> None:
        """Add or update an entry; `id_` is handed back by `entries`."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._free.pop() if self._free else self._append()
        self._labels[slot] = label
        self._numbers[slot], self._ids[slot] = number, id_
        self._resolve(slot)

    def discard(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._labels[slot] = NO_LABEL
            self._row_of[slot] = NO_ROW
            self._more.pop(slot, None)
            self._free.append(slot)

    def entries(self) -> tuple[Ints, Ints, Ints]:
        """(rows, numbers, ids) of all entries that are pinned to a node that is there."""
        if self._topology != self._rows.topology:
            self._topology = self._rows.topology
            for slot in self._slots.values():
                self._resolve(slot)
        used = np.flatnonzero(self._row_of[: len(self._labels)] != NO_ROW)
        rows, numbers, ids = self._row_of[used], self._numbers[used], self._ids[used]
        if self._more:
            slots = [slot for slot, more in self._more.items() for _ in more]
            further = np.array([row for more in self._more.values() for row in more], np.int64)
            rows = np.concatenate([rows, further])
            numbers = np.concatenate([numbers, self._numbers[slots]])
            ids = np.concatenate([ids, self._ids[slots]])
        return rows, numbers, ids

    def _append(self) -> int:
        slot = len(self._labels)
        self._labels.append(NO_LABEL)
        if slot == len(self._numbers):
            self._numbers = np.pad(self._numbers, (0, slot))
            self._ids = np.pad(self._ids, (0, slot))
            self._row_of = np.pad(self._row_of, (0, slot), constant_values=NO_ROW)
        return slot

    def _resolve(self, slot: int) -> None:
        rows = list(self._rows.with_label(*self._labels[slot]))
        self._row_of[slot] = rows[0] if rows else NO_ROW
        self._more.pop(slot, None)
        if len(rows) > 1:
            self._more[slot] = rows[1:]
