"""Numbers for values that recur, so that columns can hold them."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Interner(Generic[T]):
    """Small dense numbers for values that recur. 0 is kept for "absent"."""

    def __init__(self) -> None:
        self.values: list[T | None] = [None]
        self._ids: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self.values)

    def id(self, value: T) -> int:
        """The number of `value`, given now if it has none."""
        known = self._ids.get(value)
        if known is None:
            known = self._ids[value] = len(self.values)
            self.values.append(value)
        return known

    def find(self, value: T) -> int:
        """The number of `value`, or -1, which no row holds."""
        return self._ids.get(value, -1)
