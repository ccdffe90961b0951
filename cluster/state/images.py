"""Which node holds which container image already, as `Node.status.images` says.

A kubelet names its fifty largest images by tag and digest: a hundred long texts a node. They are
kept once for all nodes; of a node only their numbers are kept, and of an image which nodes have it:
as a set while these are few, else as one bit a row."""

from array import array
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cluster.objects.core import ContainerImage
from cluster.state.columns import CountedInterner

Sizes = NDArray[np.int64]

FEW = 64
"""Nodes up to which an image's rows are a set."""
MAX_KEPT_BYTES = 16 * 1024 * 1024
"""Of arrays of sizes that were asked for."""

Image = tuple[str, int]
"""(name, size in bytes)."""


class _RowSet:
    """Rows, compact whether they are few or many."""

    __slots__ = ("_bits", "_few", "count")

    def __init__(self) -> None:
        self._few: set[int] | None = set()
        self._bits = np.zeros(0, np.uint8)
        self.count = 0

    def add(self, row: int) -> None:
        self.count += 1
        if self._few is not None:
            self._few.add(row)
            if len(self._few) > FEW:
                rows, self._few = self._few, None
                for added in rows:
                    self._set(added)
            return
        self._set(row)

    def discard(self, row: int) -> None:
        self.count -= 1
        if self._few is not None:
            self._few.discard(row)
        else:
            self._bits[row >> 3] &= 0xFF ^ (1 << (row & 7))

    def _set(self, row: int) -> None:
        at = row >> 3
        if at >= len(self._bits):
            self._bits = np.pad(self._bits, (0, max(at + 1 - len(self._bits), len(self._bits))))
        self._bits[at] |= 1 << (row & 7)

    def rows(self) -> NDArray[np.intp]:
        if self._few is not None:
            return np.fromiter(self._few, np.intp, len(self._few))
        return np.flatnonzero(np.unpackbits(self._bits, bitorder="little"))


class ImageIndex:
    """Sizes in bytes by image name and row; an array is made only for images that are asked for."""

    def __init__(self) -> None:
        self._images: CountedInterner[Image] = CountedInterner()
        self._rows: list[_RowSet | None] = [None]
        self._of_name: dict[str, list[int]] = {}
        self._of_row: dict[int, array[int]] = {}
        self._dense: OrderedDict[str, Sizes] = OrderedDict()

    def set(self, row: int, images: Iterable[ContainerImage] | None) -> None:
        """The row's node has these images now."""
        new = {(name, i.size_bytes) for i in images or () for name in i.names or ()}
        old = {self._image(id_) for id_ in self._of_row.get(row, ())}
        if new == old:
            return
        for image in old - new:
            self._remove(image, row)
        for image in new - old:
            self._add(image, row)
        if new:
            self._of_row[row] = array("i", sorted(self._images.find(image) for image in new))
        else:
            self._of_row.pop(row, None)

    def _image(self, id_: int) -> Image:
        image = self._images.values[id_]
        assert image is not None  # noqa: S101 - a number in use has a value
        return image

    def _rows_of(self, id_: int) -> _RowSet:
        rows = self._rows[id_]
        assert rows is not None  # noqa: S101
        return rows

    def _add(self, image: Image, row: int) -> None:
        id_ = self._images.acquire(image)
        if id_ >= len(self._rows):
            self._rows.append(None)
        rows = self._rows[id_]
        if rows is None:
            rows = self._rows[id_] = _RowSet()
            self._of_name.setdefault(image[0], []).append(id_)
        rows.add(row)
        self._dense.pop(image[0], None)

    def _remove(self, image: Image, row: int) -> None:
        id_ = self._images.find(image)
        rows = self._rows_of(id_)
        rows.discard(row)
        self._dense.pop(image[0], None)
        if not rows.count:
            self._rows[id_] = None
            self._of_name[image[0]].remove(id_)
            if not self._of_name[image[0]]:
                del self._of_name[image[0]]
        self._images.release(id_)
        del self._rows[len(self._images) :]

    def nodes_with(self, name: str) -> int:
        """How many nodes hold the image."""
        return sum(self._rows_of(id_).count for id_ in self._of_name.get(name, ()))

    def sizes(self, name: str, rows: int) -> Sizes | None:
        """The image's size on each of `rows` rows, 0 where it is not; None where nowhere."""
        ids = self._of_name.get(name)
        if ids is None:
            return None
        dense = self._dense.get(name)
        if dense is None or len(dense) != rows:
            dense = self._dense[name] = np.zeros(rows, np.int64)
            for id_ in ids:
                dense[self._rows_of(id_).rows()] = self._image(id_)[1]
            while len(self._dense) > 1 and len(self._dense) * rows * 8 > MAX_KEPT_BYTES:
                self._dense.popitem(last=False)
        self._dense.move_to_end(name)
        return dense
