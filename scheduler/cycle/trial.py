"""One pod against all nodes: its class's Evaluation and the plugins that look at it alone."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.state.snapshot import Bools, Ints, Snapshot, View
from cluster.state.what_if import with_pods
from filters.common.plugin import UNRESOLVABLE, FilterPlugin, PodInfo, Prepared, ScorePlugin
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.evaluation import NOT_FEASIBLE, Evaluation, PluginSet, Prefiltered, prefilter


class Verdict(NamedTuple):
    """The rows that a plugin refused."""

    plugin: str
    reasons: list[tuple[str, Bools]]
    """Each with the rows that it names."""
    unresolvable: Bools
    """The rows where removing pods would not help."""


class PluginScores(NamedTuple):
    """One plugin's scores of the feasible rows, before and after `normalize`."""

    plugin: str
    weight: int
    raw: Ints
    normalized: Ints


Nominated = Sequence[tuple[int, Sequence[PodInfo]]]
"""Rows on which pods of at least the pod's priority are about to be placed, with those pods."""


_NONE = np.zeros(0, np.intp)


class Trial:
    """Which nodes a pod fits, which is best, and why others are not."""

    def __init__(
        self,
        plugins: PluginSet,
        evaluation: Evaluation,
        info: PodInfo,
        snapshot: Snapshot,
        nominated: Nominated = (),
        naming: FilterPlugin | None = None,
    ) -> None:
        """`naming` is the plugin that leaves the pod one node, which the evaluation, shared with
        pods of other nodes, does not know."""
        self.plugins, self.evaluation = plugins, evaluation
        self.info, self.snapshot = info, snapshot
        self._pod_filters = (
            plugins.pod_filters if naming is None else [naming, *plugins.pod_filters]
        )
        self.own = prefilter(self._pod_filters, info, snapshot)
        own, shared = self.own, evaluation.prefiltered
        self.rejection = shared.rejection or own.rejection
        """(plugin, reason) where a plugin found that no node can do."""
        self.resolvable = (shared if shared.rejection else own).resolvable
        self.nominated = nominated
        self._under_nominated: dict[int, dict[str, int]] = {}
        if self.rejection is not None:
            self.feasible = np.zeros(len(snapshot), np.bool_)
            return
        self.feasible = self._feasible()
        for row, infos in nominated:
            self._add_nominated(row, infos)

    @property
    def version(self) -> int:
        """The snapshot's version, which a change of budgets does not touch."""
        return self.snapshot.version

    @property
    def engaged(self) -> list[tuple[FilterPlugin, Prepared[Any]]]:
        """The filters that have to do with the pod, in order, with what they prepared."""
        both = (*self.evaluation.prefiltered.engaged, *self.own.engaged)
        return _in_order(self.plugins, both)

    @property
    def shared(self) -> bool:
        """Whether the outcome is that of every pod of the class."""
        return not self.own.engaged and self.own.rejection is None and not self._under_nominated

    def _feasible(self) -> Bools:
        feasible = self.evaluation.feasible
        if self.own.only is None:
            view = self.snapshot.view()
            for plugin, prepared in self.own.engaged:
                feasible = feasible & (plugin.filter(prepared, view) == 0)
            return feasible
        rows = np.flatnonzero(self.own.only)
        view, fits = self.snapshot.view(rows), feasible[rows]
        for plugin, prepared in self.own.engaged:
            fits = fits & (plugin.filter(prepared, view) == 0)
        narrowed = np.zeros(len(self.snapshot), np.bool_)
        narrowed[rows[fits]] = True
        return narrowed

    def _add_nominated(self, row: int, infos: Sequence[PodInfo]) -> None:
        """A node has to do with the pods that are nominated to it, and without them too."""
        if not self.feasible[row]:
            return
        with with_pods(self.snapshot, [(row, info.pod, info.needs) for info in infos]):
            answers = list(self.answers(np.array([row])))
        refused = {name: int(bits[0]) for name, _, bits in answers if bits[0]}
        if refused:
            self._under_nominated[row] = refused
            self.feasible = self.feasible.copy()
            self.feasible[row] = False

    def answers(self, rows: Any) -> Iterator[tuple[str, tuple[str, ...], Ints]]:
        """(plugin, its reasons, its answer) of every filter for these rows, as the snapshot is."""
        view = self.snapshot.view(rows)
        own = self._own_again()
        for plugin, prepared in _in_order(
            self.plugins, (*self.evaluation.prefiltered.engaged, *own.engaged)
        ):
            yield plugin.NAME, prepared.reasons, plugin.filter(prepared, view)

    def reasons(self, rows: Any) -> list[list[str]]:
        """For each of these rows the reasons of the first filter that refuses it."""
        first_reasons: list[list[str]] = [[] for _ in rows]
        for _, reasons, bits in self.answers(rows):
            for index in np.flatnonzero(bits).tolist():
                if not first_reasons[index]:
                    first_reasons[index] = [
                        r for n, r in enumerate(reasons) if int(bits[index]) >> n & 1
                    ]
        return first_reasons

    def _own_again(self) -> Prefiltered:
        """The pod's own plugins after pods came or went; those that do not look at pods stay."""
        again = (p for p in self._pod_filters if p.LOOKS_AT_PODS)
        result = prefilter(again, self.info, self.snapshot)
        kept = [entry for entry in self.own.engaged if not entry[0].LOOKS_AT_PODS]
        return replace(result, engaged=[*kept, *result.engaged])

    def fits(self, rows: Any) -> Bools:
        """Which of these rows fit, as the snapshot is now: for "what if a pod were gone"."""
        own = self._own_again()
        view = self.snapshot.view(rows)
        fits = self.evaluation.fits(view)
        if own.rejection is not None:
            return np.zeros(len(view), np.bool_)
        if own.only is not None:
            fits &= own.only[view.rows]
        for plugin, prepared in own.engaged:
            fits &= plugin.filter(prepared, view) == 0
        return fits

    # -- deciding --------------------------------------------------------------------------

    def select(self, rng: random.Random) -> int | None:
        """The row to take, or None where none is feasible. Ties go to a seeded draw."""
        ties = self.best()
        if not len(ties):
            return None
        return int(ties[rng.randrange(len(ties))] if len(ties) > 1 else ties[0])

    def best(self) -> NDArray[np.intp]:
        """The rows that score most; none where no row is feasible."""
        if self.rejection is not None or not len(self.feasible):
            return _NONE
        if self.own.only is not None:
            rows = np.flatnonzero(self.feasible)
            if len(rows) < 2:
                # As upstream: the only feasible node is not scored.
                return rows
        masked = self.evaluation.masked
        if self.feasible is not self.evaluation.feasible:
            masked = np.where(self.feasible, self.evaluation.fixed, NOT_FEASIBLE)
        for plugin in self.plugins.prefers:
            preferred = plugin.prefer(self.info, self.snapshot, masked >= 0)
            if preferred is not None:
                masked = np.where(preferred, masked, NOT_FEASIBLE)
        relative = [entry for entry in self.evaluation.relative if entry[2].any()]
        states = self._states()
        if relative or states:
            masked = self._with_relative(masked, relative, states)
        highest = masked[masked.argmax()]
        return np.flatnonzero(masked == highest) if highest >= 0 else _NONE

    def _states(self) -> list[tuple[ScorePlugin, int, Any]]:
        states = []
        for score, weight in self.plugins.pod_scores:
            state = score.pre_score(self.info, self.snapshot)
            if state is not None:
                states.append((score, weight, state))
        return states

    def _with_relative(
        self,
        masked: Ints,
        relative: list[tuple[ScorePlugin, int, Ints]],
        states: list[tuple[ScorePlugin, int, Any]],
    ) -> Ints:
        """Add the scores that are relative to the feasible nodes, and the pod's own."""
        rows = np.flatnonzero(masked >= 0)
        total = masked[rows]
        for score, weight, raw in relative:
            total = total + weight * score.normalize(raw[rows])
        view = self.snapshot.view(rows)
        for score, weight, state in states:
            raw = score.score(state, view)
            total = total + weight * (score.normalize(raw) if score.RELATIVE else raw)
        result = np.full_like(masked, NOT_FEASIBLE)
        result[rows] = total
        return result

    @property
    def prepared(self) -> dict[str, Prepared[Any]]:
        """What each filter that has to do with the pod prepared, by name."""
        both = (*self.evaluation.prefiltered.engaged, *self.own.engaged)
        return {plugin.NAME: prepared for plugin, prepared in both}

    @property
    def feasible_count(self) -> int:
        return int(np.count_nonzero(self.feasible))

    # -- explaining ------------------------------------------------------------------------

    def diagnose(self) -> Diagnosis:
        """Why no node is feasible."""
        total = self.snapshot.node_count
        if self.rejection is not None:
            plugin, reason = self.rejection
            return Diagnosis(total, {}, frozenset((plugin,)), reason, self.resolvable)
        counts: dict[str, int] = {}
        plugins: set[str] = set()
        for verdict in self.verdicts():
            for reason, nodes in verdict.reasons:
                number = int(np.count_nonzero(nodes))
                if number:
                    counts[reason] = counts.get(reason, 0) + number
                    plugins.add(verdict.plugin)
        return Diagnosis(total, counts, frozenset(plugins))

    def unresolvable(self) -> Bools:
        """Rows where removing pods would not help."""
        rows = ~self.snapshot.view().valid
        for verdict in self.verdicts():
            rows |= verdict.unresolvable
        return rows

    def verdicts(self) -> Iterator[Verdict]:
        """In order; a row counts for the first plugin that refuses it, as upstream stops there."""
        view = self.snapshot.view()
        open_rows = view.valid.copy()
        yield from self._narrowed(view, open_rows)
        for plugin, prepared in self.engaged:
            bits = np.where(open_rows, plugin.filter(prepared, view), 0)
            for row, refused in self._under_nominated.items():
                bits[row] = refused.get(plugin.NAME, 0) if open_rows[row] else 0
            reasons = [
                (reason, (bits & np.int64(1 << index)) != 0)
                for index, reason in enumerate(prepared.reasons)
            ]
            yield Verdict(plugin.NAME, reasons, (bits & np.int64(UNRESOLVABLE)) != 0)
            open_rows &= bits == 0

    def _narrowed(self, view: View, open_rows: Bools) -> Iterator[Verdict]:
        """What plugins that named the nodes themselves left out; `open_rows` is narrowed too."""
        shared, own = self.evaluation.prefiltered, self.own
        names = sorted((*shared.narrowed_by, *own.narrowed_by))
        left = [only for only in (shared.only, own.only) if only is not None]
        if not left:
            return
        kept = np.logical_and.reduce(left)
        refused = open_rows & ~kept
        reason = f"node(s) didn't satisfy plugin(s) [{' '.join(names)}]"
        yield Verdict(names[0], [(reason, refused)], refused)
        open_rows &= kept

    def score_table(self) -> list[PluginScores]:
        """Every score over the feasible rows."""
        rows = np.flatnonzero(self.feasible)
        view = self.snapshot.view(rows)
        raw_scores = [
            (plugin, weight, raw[rows]) for plugin, weight, raw in self.evaluation.scores()
        ]
        raw_scores += [(p, weight, p.score(state, view)) for p, weight, state in self._states()]
        return [
            PluginScores(p.NAME, weight, raw, p.normalize(raw) if p.RELATIVE else raw)
            for p, weight, raw in raw_scores
        ]


def _in_order(
    plugins: PluginSet, engaged: Sequence[tuple[FilterPlugin, Prepared[Any]]]
) -> list[tuple[FilterPlugin, Prepared[Any]]]:
    """In the profile's order, LOCAL and other plugins mixed."""
    prepared = {plugin.NAME: (plugin, prefiltered) for plugin, prefiltered in engaged}
    return [prepared[plugin.NAME] for plugin in plugins.filters if plugin.NAME in prepared]
