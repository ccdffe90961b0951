"""A heap of queued pods that keeps nothing of those that left."""

import heapq
from typing import Any, Generic, Protocol, TypeVar

MIN_DEAD = 64
"""Dead entries that are left without a sweep."""


class HeapEntry(Protocol):
    """What a heap reads and sets of its entries: one whose `stamp` changed has left."""

    stamp: int
    heap: "PodHeap[Any] | None"


T = TypeVar("T", bound=HeapEntry)


class PodHeap(Generic[T]):
    """Pods by a sort key. Those that left stay as dead entries until they are swept, which happens
    before they outnumber the living: memory follows the pods that are there."""

    def __init__(self) -> None:
        self._entries: list[tuple[tuple[float, ...], int, T]] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._entries) - self._dead

    def push(self, key: tuple[float, ...], queued: T) -> None:
        queued.heap = self
        heapq.heappush(self._entries, (key, queued.stamp, queued))

    def first(self) -> float | None:
        """The first sort key's first number; None when empty."""
        while self._entries:
            key, stamp, queued = self._entries[0]
            if queued.stamp == stamp:
                return key[0]
            heapq.heappop(self._entries)
            self._dead -= 1
        return None

    def pop(self) -> T:
        """The first pod. Raises IndexError when empty."""
        self.first()
        queued = heapq.heappop(self._entries)[2]
        queued.heap = None
        return queued

    def leave(self, queued: T) -> None:
        """The pod's entry is dead: its stamp is no longer that of the entry."""
        queued.heap = None
        self._dead += 1
        if self._dead > len(self) + MIN_DEAD:
            self._entries = [entry for entry in self._entries if entry[2].stamp == entry[1]]
            heapq.heapify(self._entries)
            self._dead = 0
