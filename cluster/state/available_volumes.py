"""Volumes that claims may be bound to, grouped so that a claim is matched without a look at each.

Volumes of one group differ only in size and in the node that they are on: local volumes are columns
by hostname; those that several nodes reach are few groups of one reach each."""

import bisect
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np

from cluster.objects.api_objects import PersistentVolume, PersistentVolumeClaim
from cluster.objects.core import NodeSelector
from cluster.objects.label_selectors import selector_of
from cluster.objects.quantity import value
from cluster.state.by_label import ByLabel
from cluster.state.columns import CountedInterner
from cluster.state.topology import Rows
from cluster.state.view import Ints

HOSTNAME = "kubernetes.io/hostname"

_encode = msgspec.json.Encoder(order="deterministic").encode


class Offer(NamedTuple):
    """What counts of a volume beside its size and its place."""

    storage_class: str
    volume_mode: str
    attributes_class: str
    access_modes: frozenset[str]


def hostname_of(volume: PersistentVolume) -> str:
    """The one hostname that the volume's affinity asks for; empty where it asks for more, or
    less."""
    affinity = volume.spec.node_affinity
    required = affinity.required if affinity else None
    terms = required.node_selector_terms if required else []
    if len(terms) != 1 or terms[0].match_fields:
        return ""
    expressions = terms[0].match_expressions or []
    if len(expressions) != 1 or expressions[0].key != HOSTNAME or expressions[0].operator != "In":
        return ""
    values = expressions[0].values or []
    return values[0] if len(values) == 1 else ""


@dataclass(slots=True)
class Reach:
    """Volumes with one node affinity, by size."""

    affinity: NodeSelector | None
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    """(size, rank, id), ascending."""


@dataclass(slots=True)
class Group:
    """Volumes with the same offer: `pinned` ones by hostname, the others by their affinity."""

    pinned: ByLabel
    reaches: dict[bytes, Reach] = field(default_factory=dict)


@dataclass(slots=True)
class AvailableVolumes:
    """All volumes that are Available and promised to nobody. `ids` number every volume ever
    offered, until it is gone."""

    rows: Rows
    numbers: CountedInterner[str] = field(default_factory=CountedInterner)
    """Of the volumes' names."""
    ranks: Ints = field(default_factory=lambda: np.zeros(16, np.int64))
    """By id a number worked out from the name: which of two equal volumes is taken depends neither
    on the order of their events nor on the process."""
    _groups: dict[str, dict[Offer, Group]] = field(default_factory=dict)
    """By class."""
    _offered: dict[str, tuple[PersistentVolume, str, Offer, int]] = field(default_factory=dict)

    def id(self, name: str) -> int:
        """The volume's number, given now if it has none; valid until `forget`."""
        number = self.numbers.find(name)
        if number < 0:
            number = self.numbers.acquire(name)
            if number >= len(self.ranks):
                self.ranks = np.pad(self.ranks, (0, number))
            self.ranks[number] = _rank(name)
        return number

    def name(self, id_: int) -> str:
        """The name of a volume that has the number."""
        name = self.numbers.values[id_]
        assert name is not None  # noqa: S101 - a number in use has a value
        return name

    def set(self, volume: PersistentVolume, storage_class: str) -> None:
        """Offer the volume."""
        name = volume.metadata.name
        self.discard(name)
        spec = volume.spec
        modes = frozenset(spec.access_modes or ())
        offer = Offer(storage_class, spec.volume_mode, spec.volume_attributes_class_name, modes)
        size = value((spec.capacity or {}).get("storage", 0))
        self._offered[name] = volume, storage_class, offer, size
        groups = self._groups.setdefault(storage_class, {})
        group = groups.get(offer)
        if group is None:
            group = groups[offer] = Group(ByLabel(self.rows))
        hostname = hostname_of(volume)
        if hostname:
            group.pinned.set(name, (HOSTNAME, hostname), size, self.id(name))
            return
        affinity = _affinity(volume)
        key = affinity_key(affinity)
        reach = group.reaches.get(key)
        if reach is None:
            reach = group.reaches[key] = Reach(affinity)
        bisect.insort(reach.sizes, self._entry(size, name))

    def discard(self, name: str) -> None:
        """Offer it no more."""
        entry = self._offered.pop(name, None)
        if entry is None:
            return
        volume, storage_class, offer, size = entry
        groups = self._groups[storage_class]
        group = groups[offer]
        if hostname_of(volume):
            group.pinned.discard(name)
        else:
            affinity = affinity_key(_affinity(volume))
            reach = group.reaches[affinity]
            del reach.sizes[bisect.bisect_left(reach.sizes, self._entry(size, name))]
            if not reach.sizes:
                del group.reaches[affinity]
        if not len(group.pinned) and not group.reaches:
            del groups[offer]
            if not groups:
                del self._groups[storage_class]

    def forget(self, name: str) -> None:
        """The volume is deleted: its number may be another's."""
        self.discard(name)
        number = self.numbers.find(name)
        if number < 0:
            return
        self.numbers.release(number)
        if len(self.ranks) > 4 * (len(self.numbers) + 16):
            self.ranks = self.ranks[: len(self.numbers)].copy()

    def groups(self, claim: PersistentVolumeClaim, storage_class: str) -> Iterator[Group]:
        """The groups whose volumes suit the claim, but for size and selector."""
        spec = claim.spec
        wanted = set(spec.access_modes or ())
        asked = spec.volume_mode, spec.volume_attributes_class_name
        for (_, mode, attributes, modes), group in self._groups.get(storage_class, {}).items():
            if (mode, attributes) == asked and wanted <= modes:
                yield group

    def selected(self, claim: PersistentVolumeClaim, storage_class: str) -> frozenset[int] | None:
        """Numbers of the class's volumes that the claim's selector means; None without one."""
        if claim.spec.selector is None:
            return None
        selector = selector_of(claim.spec.selector)
        return frozenset(
            self.numbers.find(name)
            for name, (volume, of, _, _) in self._offered.items()
            if of == storage_class and selector.matches(volume.metadata.labels or {})
        )

    def _entry(self, size: int, name: str) -> tuple[int, int, int]:
        id_ = self.id(name)
        return size, int(self.ranks[id_]), id_


def _rank(name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def affinity_key(affinity: NodeSelector | None) -> bytes:
    """Equal for equal node selectors; empty for none."""
    return b"" if affinity is None else _encode(affinity)


def _affinity(volume: PersistentVolume) -> NodeSelector | None:
    return volume.spec.node_affinity.required if volume.spec.node_affinity else None
