"""Which node holds which container image already, as `Node.status.images` says."""

import numpy as np
from numpy.typing import NDArray

from cluster.objects import ContainerImage

Sizes = NDArray[np.int64]


class ImageIndex:
    """Sizes in bytes by image name and row; an array is made only for images that are asked for."""

    def __init__(self) -> None:
        self._sizes: dict[str, dict[int, int]] = {}
        self._dense: dict[str, Sizes] = {}

    def set(
        self, row: int, old: list[ContainerImage] | None, new: list[ContainerImage] | None
    ) -> None:
        """The row's images were `old` and are `new` now."""
        for image in old or ():
            for name in image.names or ():
                rows = self._sizes.get(name)
                if rows is not None:
                    rows.pop(row, None)
                    self._dense.pop(name, None)
                    if not rows:
                        del self._sizes[name]
        for image in new or ():
            for name in image.names or ():
                self._sizes.setdefault(name, {})[row] = image.size_bytes
                self._dense.pop(name, None)

    def nodes_with(self, name: str) -> int:
        """How many nodes hold the image."""
        return len(self._sizes.get(name, ()))

    def sizes(self, name: str, rows: int) -> Sizes | None:
        """The image's size on each of `rows` rows, 0 where it is not; None where nowhere."""
        sparse = self._sizes.get(name)
        if sparse is None:
            return None
        dense = self._dense.get(name)
        if dense is None or len(dense) != rows:
            dense = self._dense[name] = np.zeros(rows, np.int64)
            dense[list(sparse)] = list(sparse.values())
        return dense
