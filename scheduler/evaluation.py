"""Filter and score of all nodes for one class of pods, kept and brought up to date row by row.

Pods that sign alike (`Plugin.sign`) share one Evaluation. After a placement a single row of the
snapshot has changed, so the next pod of the class costs the work of that one row.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.snapshot import Bools, Ints, Snapshot, View
from filters.framework import (
    UNRESOLVABLE,
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


class Evaluation:
    """`feasible` and the score totals of every row, for pods like `info`."""

    def __init__(self, plugins: PluginSet, info: PodInfo, snapshot: Snapshot) -> None:
        self._plugins, self._info, self._snapshot = plugins, info, snapshot
        self.rejection: tuple[str, str] | None = None
        """(plugin, reason) where a plugin found that no node can do."""
        self._filters: list[tuple[FilterPlugin, Prepared]] = []
        self._scores: list[tuple[ScorePlugin, int, Any]] = []
        self._relative: list[tuple[ScorePlugin, int, Ints]] = []
        self._only: Bools | None = None
        self._prepare()
        self._diagnosis: tuple[int, Diagnosis] | None = None
        self.feasible: Bools = np.zeros(0, np.bool_)
        self._fixed: Ints = np.zeros(0, np.int64)
        self._masked: Ints = np.zeros(0, np.int64)
        self._version = -1
        self._nodes_version = snapshot.nodes_version

    def _prepare(self) -> None:
        """Run pre_filter and pre_score once: they read the pod, not the rows."""
        snapshot, info = self._snapshot, self._info
        only: frozenset[str] | None = None
        for plugin in self._plugins.filters:
            prepared = plugin.pre_filter(info, snapshot)
            if isinstance(prepared, Rejected):
                self.rejection = plugin.NAME, prepared.reason
                return
            if prepared is None:
                continue
            self._filters.append((plugin, prepared))
            if prepared.only is not None:
                only = prepared.only if only is None else only & prepared.only
                self._narrowed_by = plugin.NAME
        if only is not None:
            self._only = np.zeros(len(snapshot), np.bool_)
            for name in only:
                if (row := snapshot.row(name)) >= 0:
                    self._only[row] = True
        for score, weight in self._plugins.scores:
            state = score.pre_score(info, snapshot)
            if state is not None:
                self._scores.append((score, weight, state))

    # -- keeping up ------------------------------------------------------------------------

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
        self.feasible = self._feasible(view)
        self._fixed = np.zeros(len(view), np.int64)
        self._relative = []
        for score, weight, state in self._scores:
            raw = score.score(state, view)
            if score.RELATIVE:
                self._relative.append((score, weight, raw))
            else:
                self._fixed += weight * raw
        self._masked = np.where(self.feasible, self._fixed, NOT_FEASIBLE)

    def _patch(self, rows: Any) -> None:
        view = self._snapshot.view(rows)
        feasible = self._feasible(view)
        fixed = np.zeros(len(view), np.int64)
        kept = iter(self._relative)
        for score, weight, state in self._scores:
            raw = score.score(state, view)
            if score.RELATIVE:
                next(kept)[2][rows] = raw
            else:
                fixed += weight * raw
        self.feasible[rows] = feasible
        self._fixed[rows] = fixed
        self._masked[rows] = np.where(feasible, fixed, NOT_FEASIBLE)

    def _feasible(self, view: View) -> Bools:
        feasible = view.valid.copy()
        if self._only is not None:
            feasible &= self._only[view.rows]
        for plugin, prepared in self._filters:
            feasible &= plugin.filter(prepared, view) == 0
        return feasible

    # -- deciding --------------------------------------------------------------------------

    def select(self, rng: random.Random) -> int:
        """The row to take, or -1 where none is feasible. Ties go to a seeded draw."""
        masked = self._masked
        for plugin in self._plugins.prefers:
            preferred = plugin.prefer(self._info, self._snapshot, masked >= 0)
            if preferred is not None:
                masked = np.where(preferred, masked, NOT_FEASIBLE)
        varying = [entry for entry in self._relative if entry[2].any()]
        if varying:
            masked = self._with_relative(masked, varying)
        if not len(masked):
            return -1
        best = masked.max()
        if best < 0:
            return -1
        ties = np.flatnonzero(masked == best)
        return int(ties[rng.randrange(len(ties))] if len(ties) > 1 else ties[0])

    @staticmethod
    def _with_relative(masked: Ints, varying: list[tuple[ScorePlugin, int, Ints]]) -> Ints:
        """Add the scores that are relative to the feasible nodes."""
        rows = np.flatnonzero(masked >= 0)
        total = masked[rows]
        for score, weight, raw in varying:
            total = total + weight * score.normalize(raw[rows])
        result = np.full_like(masked, NOT_FEASIBLE)
        result[rows] = total
        return result

    @property
    def feasible_count(self) -> int:
        return int(np.count_nonzero(self.feasible))

    # -- explaining ------------------------------------------------------------------------

    def diagnose(self) -> Diagnosis:
        """Why no node is feasible. Kept until the snapshot changes."""
        if self._diagnosis is None or self._diagnosis[0] != self._snapshot.version:
            self._diagnosis = self._snapshot.version, self._diagnose()
        return self._diagnosis[1]

    def _diagnose(self) -> Diagnosis:
        total = self._snapshot.node_count
        if self.rejection is not None:
            plugin, reason = self.rejection
            return Diagnosis(total, {}, frozenset((plugin,)), reason)
        counts: dict[str, int] = {}
        plugins: set[str] = set()
        for plugin, reasons, _ in self.verdicts():
            for reason, nodes in reasons:
                number = int(np.count_nonzero(nodes))
                if number:
                    counts[reason] = counts.get(reason, 0) + number
                    plugins.add(plugin)
        return Diagnosis(total, counts, frozenset(plugins))

    def verdicts(self) -> list[tuple[str, list[tuple[str, Bools]], Bools]]:
        """(plugin, [(reason, rows that it names)], rows that it calls unresolvable), in order.

        A row counts for the first plugin that refuses it, as upstream stops there.
        """
        view = self._snapshot.view()
        open_rows = view.valid.copy()
        result: list[tuple[str, list[tuple[str, Bools]], Bools]] = []
        if self._only is not None:
            refused = open_rows & ~self._only
            reason = f"node(s) didn't satisfy plugin(s) [{self._narrowed_by}]"
            result.append((self._narrowed_by, [(reason, refused)], refused))
            open_rows &= self._only
        for plugin, prepared in self._filters:
            bits = np.where(open_rows, plugin.filter(prepared, view), 0)
            reasons = [
                (reason, (bits & np.int64(1 << index)) != 0)
                for index, reason in enumerate(prepared.reasons)
            ]
            result.append((plugin.NAME, reasons, (bits & np.int64(UNRESOLVABLE)) != 0))
            open_rows &= bits == 0
        return result

    def score_table(self) -> list[tuple[str, int, Ints, Ints]]:
        """(plugin, weight, raw, normalised) of every score over the feasible rows."""
        rows = np.flatnonzero(self.feasible)
        view = self._snapshot.view()
        table = []
        for score, weight, state in self._scores:
            raw = score.score(state, view)[rows]
            scaled = score.normalize(raw) if score.RELATIVE else raw
            table.append((score.NAME, weight, raw, scaled))
        return table
