"""How many volumes of each CSI driver every node has, and how many it can attach.

A volume counts on a node once, whether pods mount it there, it is still attached without any, or
both. Kept by the events that change it: nothing is counted when a pod is decided."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cluster.objects.api_objects import CsiNode, VolumeAttachment
from cluster.state.topology import Rows
from cluster.state.view import Ints

NO_LIMIT = 2**62


class Attached(NamedTuple):
    """A volume on a row: by its claim's `namespace/name`, or `/name` without a claim."""

    driver: str
    volume: str
    row: int


@dataclass(frozen=True, slots=True)
class Lingering:
    """An attachment as the API server has it: which volume, by which driver, on which node."""

    volume: str
    driver: str
    node: str


class AttachedVolumes:
    """`users` are the pods that mount each claim, by row (of `PodIndex`); `driver_of` is the driver
    of a claim, empty where it is not known; `volume_of` names an attachment's volume, None where it
    is no CSI volume."""

    def __init__(
        self,
        rows: Rows,
        users: Mapping[str, Mapping[int, int]],
        driver_of: Callable[[str], str],
        volume_of: Callable[[str], str | None],
    ) -> None:
        self._rows, self._users = rows, users
        self._driver_of, self._volume_of = driver_of, volume_of
        self._counts: dict[str, Ints] = {}
        self._limits: dict[str, Ints] = {}
        self._reasons: dict[Attached, int] = {}
        self._attached: Counter[str] = Counter()
        """Volumes that are counted, and below nodes that tell a limit, by driver: with the last of
        them its column goes."""
        self._limiting: Counter[str] = Counter()
        self._drivers: dict[str, str] = {}
        """The driver under which a claim's users are counted."""
        self._limits_of: dict[str, dict[str, int]] = {}
        """By node name, whether or not there is such a node."""
        self._lingering: dict[str, Lingering] = {}
        self._counted: dict[str, Attached] = {}
        self._by_node: dict[str, set[str]] = {}
        self._by_volume: dict[str, set[str]] = {}
        """Attachments by node and by volume name."""

    # -- asking ----------------------------------------------------------------------------

    def limited(self, driver: str) -> bool:
        """Whether any node tells how many of the driver's volumes it can attach."""
        return driver in self._limits

    def free(self, driver: str, count: int) -> Ints:
        """How many more of the driver's volumes each of the first `count` rows can attach."""
        attached = self._counts.get(driver)
        limits = self._limits[driver][:count]
        return limits if attached is None else limits - attached[:count]

    # -- events ----------------------------------------------------------------------------

    def grow(self, capacity: int) -> None:
        for name, column in self._counts.items():
            self._counts[name] = np.pad(column, (0, capacity - len(column)))
        for name, column in self._limits.items():
            more = capacity - len(column)
            self._limits[name] = np.pad(column, (0, more), constant_values=NO_LIMIT)

    def used(self, claim: str, row: int, change: int) -> None:
        """The row got its first pod that mounts the claim (+1), or lost its last one (-1)."""
        driver = self._drivers.get(claim)
        if driver is None:
            driver = self._driver_of(claim)
            if driver:
                self._drivers[claim] = driver
        if driver:
            self._count(Attached(driver, claim, row), change)
        if change < 0 and claim not in self._users:
            self._drivers.pop(claim, None)

    def claims_changed(self, claims: Iterable[str]) -> None:
        """The driver of these claims may be another one by now."""
        for claim in claims:
            users = self._users.get(claim)
            if users is None:
                continue
            old, new = self._drivers.get(claim, ""), self._driver_of(claim)
            if old == new:
                continue
            self._drivers[claim] = new
            for row in users:
                if old:
                    self._count(Attached(old, claim, row), -1)
                if new:
                    self._count(Attached(new, claim, row), +1)

    def volume_changed(self, name: str) -> None:
        """Attachments of the volume may be of another claim."""
        for attachment in self._by_volume.get(name, ()):
            self._recount(attachment)

    def set_attachment(self, name: str, item: VolumeAttachment | None) -> None:
        old = self._lingering.pop(name, None)
        if old is not None:
            _discard(self._by_node, old.node, name)
            _discard(self._by_volume, old.volume, name)
        if item is not None:
            spec = item.spec
            volume = spec.source.persistent_volume_name
            new = self._lingering[name] = Lingering(volume, spec.attacher, spec.node_name)
            self._by_node.setdefault(new.node, set()).add(name)
            self._by_volume.setdefault(new.volume, set()).add(name)
        self._recount(name)

    def set_node(self, name: str, item: CsiNode | None) -> None:
        """A node's CSINode."""
        row = self._rows.row(name)
        for limited in self._limits_of.pop(name, {}):
            self._limit(limited, row, NO_LIMIT)
            self._limiting[limited] -= 1
            if not self._limiting[limited]:
                del self._limiting[limited]
                self._limits.pop(limited, None)
        for driver in (item.spec.drivers or ()) if item is not None else ():
            limit = driver.allocatable
            if limit is not None and limit.count is not None:
                of_node = self._limits_of.setdefault(name, {})
                self._limiting[driver.name] += driver.name not in of_node
                of_node[driver.name] = limit.count
                self._limit(driver.name, row, limit.count)

    def node_added(self, name: str, row: int) -> None:
        for driver, limit in self._limits_of.get(name, {}).items():
            self._limit(driver, row, limit)
        for attachment in self._by_node.get(name, ()):
            self._recount(attachment)

    def node_removed(self, name: str, row: int) -> None:
        """Called when the node's row no longer answers to its name."""
        for column in self._limits.values():
            column[row] = NO_LIMIT
        for attachment in self._by_node.get(name, ()):
            self._recount(attachment)

    # -- inside ----------------------------------------------------------------------------

    def _recount(self, attachment: str) -> None:
        """Count an attachment as what it is now."""
        old = self._counted.pop(attachment, None)
        if old is not None:
            self._count(old, -1)
        lingering = self._lingering.get(attachment)
        if lingering is None:
            return
        volume, row = self._volume_of(lingering.volume), self._rows.row(lingering.node)
        if volume is not None and row is not None:
            new = self._counted[attachment] = Attached(lingering.driver, volume, row)
            self._count(new, +1)

    def _count(self, attached: Attached, change: int) -> None:
        driver, _, row = attached
        before = self._reasons.get(attached, 0)
        after = before + change
        if after:
            self._reasons[attached] = after
        else:
            self._reasons.pop(attached, None)
        if bool(before) is not bool(after):
            column = self._counts.get(driver)
            if column is None:
                column = self._counts[driver] = np.zeros(self._rows.capacity, np.int64)
            column[row] += 1 if after else -1
            self._attached[driver] += 1 if after else -1
            if not self._attached[driver]:
                del self._attached[driver], self._counts[driver]

    def _limit(self, driver: str, row: int | None, limit: int) -> None:
        if row is None:
            return
        column = self._limits.get(driver)
        if column is None:
            column = self._limits[driver] = np.full(self._rows.capacity, NO_LIMIT, np.int64)
        column[row] = limit


def _discard(sets: dict[str, set[str]], key: str, item: str) -> None:
    sets[key].discard(item)
    if not sets[key]:
        del sets[key]
