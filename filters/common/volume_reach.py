"""From which nodes a volume can be used, as masks over all rows."""

from collections.abc import Callable

import msgspec
import numpy as np

from cluster.objects.api_objects import PersistentVolume
from cluster.objects.core import LabelSelector, NodeSelector, NodeSelectorTerm, Requirement
from cluster.objects.in_tree_volumes import plugin_of, translated_affinity
from cluster.objects.label_selectors import selector_of
from cluster.state.available_volumes import HOSTNAME, affinity_key, hostname_of
from cluster.state.snapshot import Bools, Snapshot, View
from filters.common.node_selectors import matches_selector

MAX_MASKS = 128

_encode = msgspec.json.Encoder(order="deterministic").encode


class SelectorMasks:
    """Which nodes a selector means, kept for as long as nodes and labels stay as they are."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Bools] = {}
        self._topology = (-1, -1)
        self._snapshot: Snapshot | None = None

    def of(self, snapshot: Snapshot, key: bytes, compute: Callable[[], Bools]) -> Bools:
        if snapshot.topology != self._topology or self._snapshot is not snapshot:
            self._snapshot, self._topology = snapshot, snapshot.topology
            self._kept.clear()
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MAX_MASKS:
                self._kept.clear()
            kept = self._kept[key] = compute()
        return kept


class VolumeReach:
    """Of one snapshot as it is; `kept` outlives it."""

    def __init__(self, snapshot: Snapshot, kept: SelectorMasks) -> None:
        self._snapshot, self._kept = snapshot, kept
        self._view = snapshot.view()

    def of_bound(self, volume: PersistentVolume) -> Bools:
        """As `of`; of an in-tree volume, by the labels of the CSI driver on the nodes where
        that has taken over."""
        own, plugin = self.of(volume), plugin_of(volume)
        if plugin is None:
            return own
        affinity = translated_affinity(volume, plugin)
        translated = self.selected(affinity, affinity_key(affinity))
        return np.where(self._migrated(plugin.name), translated, own)

    def _migrated(self, plugin: str) -> Bools:
        def compute() -> Bools:
            rows = map(self._snapshot.row, self._snapshot.storage.migrated.get(plugin, ()))
            migrated = np.zeros(len(self._view), np.bool_)
            migrated[[row for row in rows if row is not None]] = True
            return migrated

        key = f"{plugin} {self._snapshot.storage.migrated_version}".encode()
        return self._kept.of(self._snapshot, key, compute)

    def of(self, volume: PersistentVolume) -> Bools:
        """Nodes from which the volume can be used."""
        hostname = hostname_of(volume)
        if hostname:
            reached = np.zeros(len(self._view), np.bool_)
            reached[list(self._snapshot.with_label(HOSTNAME, hostname))] = True
            return reached
        affinity = volume.spec.node_affinity
        required = affinity.required if affinity else None
        return self.selected(required, affinity_key(required))

    def selected(self, selector: NodeSelector | None, key: bytes) -> Bools:
        if selector is None:
            return np.ones(len(self._view), np.bool_)
        return self._kept.of(
            self._snapshot, key, lambda: matches_selector(selector, self._view, self._snapshot)
        )

    def of_topology(self, topology: LabelSelector) -> Bools:
        return self._kept.of(
            self._snapshot,
            _encode(topology),
            lambda: _labelled(topology, self._view, self._snapshot),
        )


def _labelled(selector: LabelSelector, view: View, snapshot: Snapshot) -> Bools:
    """Nodes whose labels a LabelSelector matches."""
    requirements = [
        Requirement(key, operator, sorted(values))
        for key, operator, values in selector_of(selector).requirements
    ]
    if not requirements:
        return np.ones(len(view), np.bool_)
    return matches_selector(NodeSelector([NodeSelectorTerm(requirements)]), view, snapshot)
