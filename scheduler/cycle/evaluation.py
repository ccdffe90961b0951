"""The LOCAL plugins over all nodes for one class of pods, kept and brought up to date row by row.

Pods that sign alike (`Plugin.sign`) share one Evaluation. After a placement a single row of the
snapshot has changed, so the next pod of the class costs the work of that one row; for identical
pods in a row not even that (`scheduler.cycle.ahead`, KEP-5598)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.state.snapshot import Bools, Ints, Snapshot, View
from filters.common.plugin import (
    FilterPlugin,
    NamedNode,
    Plugin,
    PodInfo,
    PreferPlugin,
    Prepared,
    Rejected,
    ScorePlugin,
)
from scheduler.cycle.ahead import Ahead
from scheduler.cycle.diagnosis import Diagnosis

NOT_FEASIBLE = -1
DEFAULT = Plugin.named_node
# Past this share of changed rows, computing all of them is cheaper than picking them out.
PATCH_SHARE = 8
# With fewer than this share of the nodes left, these are computed alone.
FEW_SHARE = 4
MIN_IN_A_ROW, ROWS_A_POD = 4, 1000
"""Pods of a class, one after another, after which the states to come are worked out ahead: at least
so many, and one for so many rows."""


class PluginSet:
    """The plugins of one profile under one policy; each score with its weight.

    LOCAL plugins are of two kinds: those that read the node alone (`node_*`), whose answers change
    with nodes only, and those that read what runs on it too (`row_*`), whose answers change with
    every placement. The others (`pod_*`) are asked for every pod."""

    def __init__(
        self,
        filters: Sequence[FilterPlugin],
        scores: Sequence[tuple[ScorePlugin, int]],
        prefers: Sequence[PreferPlugin] = (),
    ) -> None:
        self.filters, self.scores, self.prefers = filters, scores, prefers
        self.naming = [p for p in filters if getattr(type(p), "named_node", None) is not DEFAULT]
        """Those that may leave a pod one node by its name."""
        self.node_filters = [p for p in filters if p.LOCAL and not p.LOOKS_AT_PODS]
        self.row_filters = [p for p in filters if p.LOCAL and p.LOOKS_AT_PODS]
        self.pod_filters = [p for p in filters if not p.LOCAL]
        self.node_scores = [s for s in scores if s[0].LOCAL and not s[0].LOOKS_AT_PODS]
        self.row_scores = [s for s in scores if s[0].LOCAL and s[0].LOOKS_AT_PODS]
        self.pod_scores = [s for s in scores if not s[0].LOCAL]

    def named_node(self, info: PodInfo) -> tuple[FilterPlugin, NamedNode] | None:
        """The plugin that leaves the pod one node, and that node."""
        for plugin in self.naming:
            named = plugin.named_node(info)
            if named is not None:
                return plugin, named
        return None


@dataclass(slots=True)
class Prefiltered:
    """What `pre_filter` of some plugins came to.

    `rejection` is (plugin, reason) where one found that no node can do, `resolvable` whether
    removing pods could help. `only`, where some plugin named the nodes, says by row which are
    left, and `narrowed_by` by whom.
    """

    engaged: list[tuple[FilterPlugin, Prepared[Any]]] = field(default_factory=list)
    rejection: tuple[str, str] | None = None
    resolvable: bool = False
    only: Bools | None = None
    narrowed_by: list[str] = field(default_factory=list)


def prefilter(plugins: Iterable[FilterPlugin], info: PodInfo, snapshot: Snapshot) -> Prefiltered:
    """Ask each plugin about the pod as a whole; the first that rejects it for good ends it."""
    result = Prefiltered()
    names: frozenset[str] | None = None
    for plugin in plugins:
        prepared = plugin.pre_filter(info, snapshot)
        if prepared is None:
            continue
        if isinstance(prepared, Rejected):
            result.rejection = plugin.NAME, prepared.reason
            result.resolvable = prepared.resolvable
            if not prepared.resolvable:
                return result
            continue
        result.engaged.append((plugin, prepared))
        if prepared.only is not None:
            names = prepared.only if names is None else names & prepared.only
            result.narrowed_by.append(plugin.NAME)
    if names is not None:
        result.only = np.zeros(len(snapshot), np.bool_)
        for name in names:
            if (row := snapshot.row(name)) is not None:
                result.only[row] = True
    return result


@dataclass(slots=True)
class _Scores:
    """Scores with what they prepared for a pod."""

    entries: list[tuple[ScorePlugin, int, Any]]

    @classmethod
    def of(
        cls, scores: Iterable[tuple[ScorePlugin, int]], info: PodInfo, snapshot: Snapshot
    ) -> "_Scores":
        states = ((plugin, weight, plugin.pre_score(info, snapshot)) for plugin, weight in scores)
        return cls([entry for entry in states if entry[2] is not None])

    def fixed(self, view: View) -> Ints | int:
        """The sum of those that stand by themselves."""
        total: Ints | int = 0
        for plugin, weight, state in self.entries:
            if not plugin.RELATIVE:
                own = plugin.score(state, view)
                own = own if weight == 1 else weight * own
                total = own if isinstance(total, int) and not total else total + own
        return total

    def relative(self, view: View) -> list[tuple[ScorePlugin, int, Ints]]:
        """(plugin, weight, raw scores) of those that the feasible nodes share out."""
        return [
            (plugin, weight, plugin.score(state, view))
            for plugin, weight, state in self.entries
            if plugin.RELATIVE
        ]


class NodePart:
    """What the plugins that read nodes alone say, for all pods that sign alike to them.

    `relative` are the raw scores that the feasible nodes share out; those that are 0 everywhere, as
    without soft taints or preferences, are left out.
    """

    def __init__(self, plugins: PluginSet, info: PodInfo, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.prefiltered = prefilter(plugins.node_filters, info, snapshot)
        self._scores = _Scores.of(plugins.node_scores, info, snapshot)
        self.feasible: Bools = np.zeros(0, np.bool_)
        self.fixed: Ints | int = 0
        self.relative: list[tuple[ScorePlugin, int, Ints]] = []
        self._version, self._nodes_version = -1, snapshot.nodes_version

    @property
    def stale(self) -> bool:
        """Whether nodes came or went since: what was prepared may not hold any more."""
        return self._nodes_version != self._snapshot.nodes_version

    def refresh(self) -> None:
        """Bring every row up to the snapshot's nodes."""
        snapshot = self._snapshot
        if self._version >= 0 and snapshot.nodes_touched <= self._version:
            return
        self._version = snapshot.version
        only = self.prefiltered.only
        if only is not None:
            self._compute(np.flatnonzero(only))
            return
        # Nodes change seldom: all rows are computed again, since the scores are kept without zeros.
        view = snapshot.view()
        self.feasible = self.fits(view)
        self.fixed = self._scores.fixed(view)
        self.relative = [entry for entry in self._scores.relative(view) if entry[2].any()]

    def _compute(self, rows: NDArray[np.intp]) -> None:
        """Of pods that name their nodes, nothing is worked out for the others."""
        size, view = len(self._snapshot), self._snapshot.view(rows)
        self.feasible = np.zeros(size, np.bool_)
        self.feasible[rows] = self.fits(view)
        self.fixed = _spread(self._scores.fixed(view), rows, size)
        self.relative = [
            (plugin, weight, _spread(raw, rows, size))
            for plugin, weight, raw in self._scores.relative(view)
            if raw.any()
        ]

    def fits(self, view: View) -> Bools:
        """Which rows of the view none of the plugins refuses."""
        feasible = view.valid.copy()
        if self.prefiltered.only is not None:
            feasible &= self.prefiltered.only[view.rows]
        for plugin, prepared in self.prefiltered.engaged:
            feasible &= plugin.filter(prepared, view) == 0
        return feasible

    def scores(self, view: View) -> list[tuple[ScorePlugin, int, Ints]]:
        return [(p, weight, p.score(state, view)) for p, weight, state in self._scores.entries]


class Evaluation:
    """`feasible` and the score totals of every row, for pods like `info`."""

    def __init__(
        self, plugins: PluginSet, info: PodInfo, snapshot: Snapshot, nodes: NodePart | None = None
    ) -> None:
        self._info, self._snapshot = info, snapshot
        self.nodes = NodePart(plugins, info, snapshot) if nodes is None else nodes
        self.nodes.refresh()
        self._filters = prefilter(plugins.row_filters, info, snapshot)
        self._scores = _Scores.of(plugins.row_scores, info, snapshot)
        self.prefiltered = _both(self.nodes.prefiltered, self._filters)
        self.feasible: Bools = np.zeros(0, np.bool_)
        self.fixed: Ints = np.zeros(0, np.int64)
        """By row, the sum of the scores that stand by themselves."""
        self.masked: Ints = np.zeros(0, np.int64)
        """`fixed` where feasible, NOT_FEASIBLE elsewhere."""
        self.diagnosis: tuple[int, Diagnosis] | None = None
        """(snapshot version, why no node is feasible), kept here by the cycle."""
        self.post_filter_messages: dict[tuple[int, str], tuple[int, str]] = {}
        """By (priority, preemptionPolicy): (snapshot version, what preemption says)."""
        self._version = -1
        self._nodes_version = snapshot.nodes_version
        self._row_relative: list[tuple[ScorePlugin, int, Ints]] = []
        self._in_a_row = 0
        by_columns = [p for p, _ in self._filters.engaged] + [s[0] for s in self._scores.entries]
        predictable = all(p.BY_COLUMNS for p in by_columns)
        predictable = predictable and not any(s[0].RELATIVE for s in self._scores.entries)
        self._ahead = Ahead(info.needs, self._judged) if predictable else None

    @property
    def relative(self) -> list[tuple[ScorePlugin, int, Ints]]:
        """(plugin, weight, raw scores by row) of scores that the feasible nodes share out."""
        return [*self.nodes.relative, *self._row_relative]

    @property
    def stale(self) -> bool:
        """Whether nodes came or went since: what was prepared may not hold any more."""
        snapshot = self._snapshot
        return self._nodes_version != snapshot.nodes_version or (
            self._version >= 0 and len(self.feasible) != len(snapshot)
        )

    def refresh(self) -> None:
        """Bring every row up to the snapshot's version."""
        snapshot = self._snapshot
        if self._version == snapshot.version:
            return
        if self._version >= 0 and self._foreseen():
            return
        self.nodes.refresh()
        rows = None
        if self._version >= 0:
            changed = snapshot.changed_since(self._version)
            if len(changed) * PATCH_SHARE <= len(snapshot):
                rows = changed
        if rows is None:
            self._compute_all()
        else:
            self._patch(rows)
        self._version = snapshot.version

    def _foreseen(self) -> bool:
        """Whether all that happened since is that one more pod like these was placed, and what its
        row is like by then is known already."""
        version, row, needs = self._snapshot.last_assumed
        if self._ahead is None or not self._version + 1 == version == self._snapshot.version:
            return False
        if needs != self._info.needs or row >= len(self.feasible):
            return False
        self._in_a_row += 1
        if self._in_a_row <= max(MIN_IN_A_ROW, len(self.feasible) // ROWS_A_POD):
            # To look ahead in every row pays for more than a few pods.
            return False
        feasible, fixed = self._ahead.next(row, self._snapshot)
        # The scores of the node itself do not change with what runs on it.
        own = self.nodes.fixed if isinstance(self.nodes.fixed, int) else int(self.nodes.fixed[row])
        self.feasible[row] = feasible = feasible and bool(self.nodes.feasible[row])
        self.fixed[row] = fixed + own
        self.masked[row] = fixed + own if feasible else NOT_FEASIBLE
        self._version = version
        return True

    def _compute_all(self) -> None:
        """Of nodes that are out already, nothing is scored where they are many."""
        snapshot = self._snapshot
        if self._ahead is not None:
            self._ahead.forget()
        possible = self.nodes.feasible
        count = int(np.count_nonzero(possible))
        if count * FEW_SHARE < len(snapshot):
            rows = np.flatnonzero(possible)
            self.feasible = np.zeros(len(snapshot), np.bool_)
            self.fixed = np.zeros(len(snapshot), np.int64)
            self.masked = np.full(len(snapshot), NOT_FEASIBLE, np.int64)
            self._row_relative = [
                (plugin, weight, np.zeros(len(snapshot), np.int64))
                for plugin, weight, _ in self._scores.entries
                if plugin.RELATIVE
            ]
            self._patch(rows)
            return
        view = snapshot.view()
        fits, fixed = self._judged(view)
        self.feasible = possible & fits
        own = self.nodes.fixed
        total = fixed if isinstance(own, int) and not own else fixed + own
        self.fixed = np.zeros(len(view), np.int64) if isinstance(total, int) else total
        self._row_relative = self._scores.relative(view)
        # Several times as fast as np.where, where there is nothing to mask.
        everywhere = self.feasible.all()
        self.masked = (
            self.fixed.copy() if everywhere else np.where(self.feasible, self.fixed, NOT_FEASIBLE)
        )

    def _patch(self, rows: NDArray[np.intp]) -> None:
        view = self._snapshot.view(rows)
        fits, fixed = self._judged(view)
        feasible = self.nodes.feasible[rows] & fits
        own = self.nodes.fixed if isinstance(self.nodes.fixed, int) else self.nodes.fixed[rows]
        total = fixed + own
        for kept, (_, _, raw) in zip(self._row_relative, self._scores.relative(view), strict=True):
            kept[2][rows] = raw
        self.feasible[rows] = feasible
        self.fixed[rows] = total
        self.masked[rows] = np.where(feasible, total, NOT_FEASIBLE)
        if self._ahead is not None:
            self._ahead.changed(rows)

    def _judged(self, view: View) -> tuple[Bools, Ints | int]:
        """Which rows of the view the plugins that look at rows admit, and the sum of their
        scores."""
        feasible: Bools | None = None
        for plugin, prepared in self._filters.engaged:
            fits = plugin.filter(prepared, view) == 0
            feasible = fits if feasible is None else feasible & fits
        if feasible is None:
            feasible = np.ones(len(view), np.bool_)
        return feasible, self._scores.fixed(view)

    def fits(self, view: View) -> Bools:
        """Which rows of the view, as the snapshot is now, no LOCAL plugin refuses."""
        return self.nodes.fits(view) & self._judged(view)[0]

    def scores(self) -> list[tuple[ScorePlugin, int, Ints]]:
        """(plugin, weight, raw scores of every row) of each LOCAL score, computed anew."""
        view = self._snapshot.view()
        own = [(p, weight, p.score(state, view)) for p, weight, state in self._scores.entries]
        return [*self.nodes.scores(view), *own]


def _spread(numbers: Ints | int, rows: NDArray[np.intp], size: int) -> Ints:
    """By row of the whole snapshot; 0 elsewhere."""
    whole = np.zeros(size, np.int64)
    whole[rows] = numbers
    return whole


def _both(nodes: Prefiltered, rows: Prefiltered) -> Prefiltered:
    """As if the plugins of both had been asked in one go."""
    if nodes.rejection is not None and not nodes.resolvable:
        return nodes
    only = nodes.only if rows.only is None else rows.only
    if nodes.only is not None and rows.only is not None:
        only = nodes.only & rows.only
    return Prefiltered(
        [*nodes.engaged, *rows.engaged],
        rows.rejection or nodes.rejection,
        rows.resolvable if rows.rejection else nodes.resolvable,
        only,
        [*nodes.narrowed_by, *rows.narrowed_by],
    )
