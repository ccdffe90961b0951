"""Columns of the snapshot that come and go with what is in them: labels, resources, sets."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float64]

T = TypeVar("T")


class CountedInterner(Generic[T]):
    """Small dense numbers for values that recur, given back when the last user has gone.

    0 is kept for "absent". `generation` grows whenever a number comes to mean another value, so
    that what is kept by number can be told to be out of date."""

    def __init__(self) -> None:
        self.values: list[T | None] = [None]
        self.generation = 0
        self._ids: dict[T, int] = {}
        self._users: list[int] = [0]
        self._free: list[int] = []

    def __len__(self) -> int:
        """One more than the greatest number in use: the size of a table by number."""
        return len(self.values)

    @property
    def in_use(self) -> int:
        """How many values have a number."""
        return len(self._ids)

    def acquire(self, value: T) -> int:
        """The number of `value`, for one more user."""
        number = self._ids.get(value)
        if number is None:
            if self._free:
                number = self._free.pop()
                self.values[number] = value
                self.generation += 1
            else:
                number = len(self.values)
                self.values.append(value)
                self._users.append(0)
            self._ids[value] = number
        self._users[number] += 1
        return number

    def release(self, number: int) -> None:
        """One user less; 0 is nobody's."""
        if not number:
            return
        self._users[number] -= 1
        if self._users[number]:
            return
        value = self.values[number]
        assert value is not None  # noqa: S101 - a number in use has a value
        del self._ids[value]
        self.values[number] = None
        self._free.append(number)
        if len(self._free) > len(self._ids) + 64:
            self._trim()

    def find(self, value: T) -> int:
        """The number of `value`, or -1, which no row holds."""
        return self._ids.get(value, -1)

    def _trim(self) -> None:
        """Shorten tables by number to the numbers that are in use."""
        size = max(self._ids.values(), default=0) + 1
        del self.values[size:], self._users[size:]
        self.generation += 1
        self._free = [number for number in self._free if number < size]


@dataclass(slots=True, eq=False)
class LabelColumn:
    """One label key: by row the number of the node's value, 0 without."""

    rows: Ids
    values: CountedInterner[str] = field(default_factory=CountedInterner)

    def set(self, row: int, value: str | None) -> None:
        old = int(self.rows[row])
        self.rows[row] = self.values.acquire(value) if value is not None else 0
        self.values.release(old)

    @property
    def empty(self) -> bool:
        return not self.values.in_use


@dataclass(slots=True, eq=False)
class ResourceColumn:
    """One resource by row, in milli-CPU, bytes or counts.

    `free` is what is left of `allocatable`; `scored` is what pods ask for with upstream's defaults
    for containers that ask for nothing (`requested` itself but for cpu and memory). Scores are
    computed from `real`: allocatable, requested and scored once more as floating point numbers,
    rows of one array, which are exact below 2^53. `users` are the nodes that offer the resource and
    the pods that ask for it, `offering` the nodes alone."""

    allocatable: Ints
    requested: Ints
    free: Ints
    scored: Ints
    real: Floats
    users: int = 0
    offering: int = 0
    largest: int = 0
    """No node ever offered more."""
    _least_free: tuple[int, int] = (-1, 0)
    """(version of the set of nodes, an amount that every row has free as long as that holds)."""

    @classmethod
    def zeros(cls, capacity: int, has_defaults: bool) -> "ResourceColumn":
        requested = np.zeros(capacity, np.int64)
        scored = np.zeros(capacity, np.int64) if has_defaults else requested
        allocatable, free = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
        return cls(allocatable, requested, free, scored, np.zeros((3, capacity)))

    def grow(self, capacity: int) -> None:
        own = self.scored is not self.requested
        more = capacity - len(self.allocatable)
        self.allocatable = np.pad(self.allocatable, (0, more))
        self.requested = np.pad(self.requested, (0, more))
        self.free = np.pad(self.free, (0, more))
        self.scored = np.pad(self.scored, (0, more)) if own else self.requested
        self.real = np.pad(self.real, ((0, 0), (0, more)))

    def offer(self, row: int, amount: int) -> None:
        """The node offers so much."""
        change = int(amount > 0) - int(self.allocatable[row] > 0)
        self.users += change
        self.offering += change
        self.free[row] += amount - self.allocatable[row]
        self._least_free = -1, 0
        self.allocatable[row] = self.real[0, row] = amount
        self.largest = max(self.largest, amount)

    def take(self, row: int, amount: int) -> None:
        """A pod takes so much; less than 0 is given back."""
        self.requested[row] += amount
        self.free[row] -= amount
        if amount > 0 and self.free[row] < self._least_free[1]:
            self._least_free = self._least_free[0], int(self.free[row])
        # Taken over, not added to: what does not fit a float must not add up.
        self.real[1, row] = self.requested[row]
        if self.scored is self.requested:
            self.real[2, row] = self.requested[row]
        self.users += 1 if amount > 0 else -1

    def short_nowhere(self, amount: int, rows: int, nodes_version: int) -> bool:
        """Whether each of the first `rows` rows has so much free; mostly known without a look at
        them."""
        version, least = self._least_free
        if version != nodes_version or least < amount:
            least = int(self.free[:rows].min()) if rows else 0
            self._least_free = nodes_version, least
        return least >= amount

    def score_as(self, row: int, amount: int) -> None:
        """A pod is scored as taking so much, where that is kept by itself."""
        self.scored[row] += amount
        self.real[2, row] = self.scored[row]


@dataclass(slots=True)
class RowJournal:
    """Which rows changed last, so that the newest changes are told without a look at every row."""

    size: int = 2048
    _rows: list[int] = field(default_factory=lambda: [0] * 2048)
    _floor: int = 0
    """Changes up to this version are not to be had."""
    _top: int = 0

    def add(self, version: int, row: int) -> None:
        self._rows[version % self.size] = row
        self._top = max(self._top, version)

    def restored(self, version: int) -> None:
        """Versions after this one never were; their entries may have taken the place of older
        ones."""
        self._floor = max(self._floor, self._top - self.size)
        self._top = version

    def since(self, version: int, now: int) -> set[int] | None:
        """Rows of the changes after `version`; None where that is too long ago."""
        if version < self._floor or now - version > self.size // 2:
            return None
        size, rows = self.size, self._rows
        return {rows[n % size] for n in range(version + 1, now + 1)}
