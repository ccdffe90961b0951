"""What storage needs to know of the snapshot's rows."""

from collections.abc import Sequence
from typing import Protocol


class Rows(Protocol):
    """Rows of nodes by name and by label."""

    @property
    def capacity(self) -> int:
        """The length of every column."""

    @property
    def topology(self) -> tuple[int, int]:
        """Changes with every node that comes or goes, and with every label of one."""

    def row(self, node: str) -> int | None:
        """The node's row; None where there is no such node."""

    def with_label(self, key: str, value: str) -> Sequence[int]:
        """Rows of the nodes that carry the label."""
