"""The LOCAL plugins over all nodes for one class of pods, kept and brought up to date row by row.

Pods that sign alike (`Plugin.sign`) share one Evaluation. After a placement a single row of the
snapshot has changed, so the next pod of the class costs the work of that one row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.snapshot import Bools, Ints, Snapshot, View
from filters.framework import (
    FilterPlugin,
    PodInfo,
    PreferPlugin,
    Prepared,
    Rejected,
    ScorePlugin,
)
from scheduler.diagnosis import Diagnosis

NOT_FEASIBLE = -1
# Past this share of changed rows, computing all of them is cheaper than picking them out.
PATCH_SHARE = 8


@dataclass(frozen=True, slots=True)
class PluginSet:
    """The plugins of one profile under one policy; each score with its weight."""

    filters: Sequence[FilterPlugin]
    scores: Sequence[tuple[ScorePlugin, int]]
    prefers: Sequence[PreferPlugin] = ()
    local_filters: Sequence[FilterPlugin] = field(init=False)
    local_scores: Sequence[tuple[ScorePlugin, int]] = field(init=False)
    pod_filters: Sequence[FilterPlugin] = field(init=False)
    pod_scores: Sequence[tuple[ScorePlugin, int]] = field(init=False)

    def __post_init__(self) -> None:
        split = {
            "local_filters": tuple(p for p in self.filters if p.LOCAL),
            "pod_filters": tuple(p for p in self.filters if not p.LOCAL),
            "local_scores": tuple(s for s in self.scores if s[0].LOCAL),
            "pod_scores": tuple(s for s in self.scores if not s[0].LOCAL),
        }
        for name, plugins in split.items():
            object.__setattr__(self, name, plugins)


@dataclass(slots=True)
class Prefiltered:
    """What `pre_filter` of some plugins came to.

    `rejection` is (plugin, reason) where one found that no node can do, `resolvable` whether
    removing pods could help. `only`, where some plugin named the nodes, says by row which are
    left, and `narrowed_by` by whom.
    """

    engaged: list[tuple[FilterPlugin, Prepared]] = field(default_factory=list)
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
            if (row := snapshot.row(name)) >= 0:
                result.only[row] = True
    return result


class Evaluation:
    """`feasible` and the score totals of every row, for pods like `info`."""

    def __init__(self, plugins: PluginSet, info: PodInfo, snapshot: Snapshot) -> None:
        self._plugins, self._info, self._snapshot = plugins, info, snapshot
        self.prefiltered = prefilter(plugins.local_filters, info, snapshot)
        self._states: list[tuple[ScorePlugin, int, Any]] = []
        for score, weight in plugins.local_scores:
            state = score.pre_score(info, snapshot)
            if state is not None:
                self._states.append((score, weight, state))
        self.relative: list[tuple[ScorePlugin, int, Ints]] = []
        """(plugin, weight, raw scores by row) of scores that the feasible nodes share out."""
        self.feasible: Bools = np.zeros(0, np.bool_)
        self.fixed: Ints = np.zeros(0, np.int64)
        """By row, the sum of the scores that stand by themselves."""
        self.masked: Ints = np.zeros(0, np.int64)
        """`fixed` where feasible, NOT_FEASIBLE elsewhere."""
        self.diagnosis: tuple[int, Diagnosis] | None = None
        """(snapshot version, why no node is feasible), kept here by the cycle."""
        self.sentences: dict[tuple[int, str], tuple[int, str]] = {}
        """By (priority, preemptionPolicy): (snapshot version, what preemption says)."""
        self._version = -1
        self._nodes_version = snapshot.nodes_version

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

    def _compute_all(self) -> None:
        view = self._snapshot.view()
        self.feasible = self.fits(view)
        self.fixed = np.zeros(len(view), np.int64)
        self.relative = []
        for score, weight, state in self._states:
            raw = score.score(state, view)
            if score.RELATIVE:
                self.relative.append((score, weight, raw))
            else:
                self.fixed += weight * raw
        self.masked = np.where(self.feasible, self.fixed, NOT_FEASIBLE)

    def _patch(self, rows: Any) -> None:
        view = self._snapshot.view(rows)
        feasible = self.fits(view)
        fixed = np.zeros(len(view), np.int64)
        kept = iter(self.relative)
        for score, weight, state in self._states:
            raw = score.score(state, view)
            if score.RELATIVE:
                next(kept)[2][rows] = raw
            else:
                fixed += weight * raw
        self.feasible[rows] = feasible
        self.fixed[rows] = fixed
        self.masked[rows] = np.where(feasible, fixed, NOT_FEASIBLE)

    def fits(self, view: View) -> Bools:
        """Which rows of the view, as the snapshot is now, no LOCAL plugin refuses."""
        feasible = view.valid.copy()
        if self.prefiltered.only is not None:
            feasible &= self.prefiltered.only[view.rows]
        for plugin, prepared in self.prefiltered.engaged:
            feasible &= plugin.filter(prepared, view) == 0
        return feasible

    def scores(self) -> list[tuple[ScorePlugin, int, Ints]]:
        """(plugin, weight, raw scores of every row) of each LOCAL score, computed anew."""
        view = self._snapshot.view()
        return [
            (plugin, weight, plugin.score(state, view)) for plugin, weight, state in self._states
        ]
