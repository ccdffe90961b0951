"""One pod's filters against nodes from which pods of lower priority are thought away."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.state.records import PodRecord
from cluster.state.snapshot import Bools, Ints, Snapshot
from filters.common.plugin import FilterPlugin, PodInfo, Prepared, Removed
from scheduler.cycle.evaluation import PluginSet, Prefiltered, prefilter
from scheduler.preemption.budgets import Budgets
from scheduler.preemption.removal import Removal

NO_VICTIMS = "No preemption victims found for incoming pod"
NOW = "9"
"""Stands for the start time of a pod that has not started: later than any RFC 3339 time."""

Steps = Iterator[None]
"""Work in steps of a millisecond or so."""


@dataclass(slots=True)
class RefusedRows:
    """Rows that no removal helps, and their reasons with how many rows gave each."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, rows: int) -> None:
        if rows:
            self.rows += rows
            self.reasons[reason] += rows


class DryRun:
    """The pod's filters, prepared, against rows without some of their pods."""

    def __init__(self, plugins: PluginSet, info: PodInfo, snapshot: Snapshot) -> None:
        self._plugins, self._info, self._snapshot = plugins, info, snapshot
        self._prefiltered: Prefiltered | None = None
        self.by_counts = True
        """Whether every filter that has to do with the pod can judge by counts."""

    def prepare_again(self) -> None:
        """The snapshot changed since: what was prepared does not hold any more."""
        self._prefiltered = None

    def _prepared(self) -> Prefiltered:
        if self._prefiltered is None:
            self._prefiltered = prefilter(self._plugins.filters, self._info, self._snapshot)
            if self._prefiltered.rejection is not None:
                self.by_counts = False
        return self._prefiltered

    @property
    def rejected(self) -> bool:
        """Whether a plugin rejects the pod as a whole while all pods are there."""
        return self._prepared().rejection is not None

    def fits(
        self, removed: Removed, refused: RefusedRows | None = None, among: Bools | None = None
    ) -> Bools:
        """Which rows (of those in `among`, where given) fit without the removed pods; the others
        are counted in `refused`.

        A filter that cannot judge by counts is left out, and `by_counts` is False from then on.
        """
        view = self._snapshot.view(removed.rows)
        fits = view.valid.copy() if among is None else view.valid & among
        for plugin, prepared in self._prepared().engaged:
            bits = plugin.filter_without(prepared, view, removed)
            if bits is None:
                self.by_counts = False
                continue
            if refused is not None:
                _count(prepared, np.where(fits, bits, 0), refused)
            fits &= bits == 0
        return fits

    def fits_now(self, row: int, refused: RefusedRows | None = None) -> bool:
        """Whether the row fits with the snapshot exactly as it is."""
        engaged, whole = self._again()
        view = self._snapshot.view(np.array([row]))
        if whole or not view.valid[0]:
            return False
        for plugin, prepared in engaged:
            if prepared.only is not None and self._snapshot.names[row] not in prepared.only:
                return False
            bits = plugin.filter(prepared, view)
            if bits[0]:
                if refused is not None:
                    _count(prepared, bits, refused)
                return False
        return True

    def _again(self) -> tuple[list[tuple[FilterPlugin, Prepared[Any]]], bool]:
        """The engaged filters with what looks at pods prepared anew; whether one rejects."""
        again = prefilter(
            (p for p in self._plugins.filters if p.LOOKS_AT_PODS), self._info, self._snapshot
        )
        kept = [entry for entry in self._prepared().engaged if not entry[0].LOOKS_AT_PODS]
        order = {plugin.NAME: position for position, plugin in enumerate(self._plugins.filters)}
        engaged = sorted([*kept, *again.engaged], key=lambda entry: order[entry[0].NAME])
        return engaged, again.rejection is not None


def _count(prepared: Prepared[Any], bits: Ints, refused: RefusedRows) -> None:
    refused.rows += int(np.count_nonzero(bits))
    for index, reason in enumerate(prepared.reasons):
        number = int(np.count_nonzero(bits & np.int64(1 << index)))
        if number:
            refused.reasons[reason] += number


class Batch:
    """Rows whose victims are chosen side by side, by counts."""

    def __init__(
        self,
        snapshot: Snapshot,
        dry_run: DryRun,
        priority: int,
        budgets: Budgets,
        rows: list[int],
    ) -> None:
        self._snapshot, self._dry_run = snapshot, dry_run
        self._priority, self._budgets = priority, budgets
        self._rows = rows
        self._removal = Removal(rows)
        self._open = np.ones(len(rows), np.bool_)
        self._order: list[list[tuple[PodRecord, bool]]] = [[] for _ in rows]
        self._victims: list[list[PodRecord]] = [[] for _ in rows]
        self._violations = [0] * len(rows)
        self.changed: list[int] = []

    def drop(self, rows: NDArray[np.intp]) -> None:
        """These rows changed: what was worked out for them does not hold."""
        stale = np.isin(self._removal.rows, rows) & self._open
        self.changed += [self._rows[index] for index in np.flatnonzero(stale).tolist()]
        self._open &= ~stale

    def steps(self, refused: RefusedRows) -> Steps:
        for index, row in enumerate(self._rows):
            if self._open[index]:
                self._begin(index, row, refused)
            if index % 8 == 0:
                yield
        self._open = self._dry_run.fits(self._removal, refused, self._open)
        yield
        for step in range(max(map(len, self._order), default=0)):
            self._reprieve(step)
            yield

    def _begin(self, index: int, row: int, refused: RefusedRows) -> None:
        records = victims_on(self._snapshot, row, self._priority)
        if not records:
            refused.add(NO_VICTIMS, 1)
            self._open[index] = False
        for record in records:
            self._removal.remove(index, record)
        self._order[index] = list(reprieve_order(records, self._budgets))

    def _reprieve(self, step: int) -> None:
        """Let one more pod of each row stay, where the new pod fits beside it."""
        entries = [
            (index, *self._order[index][step])
            for index in np.flatnonzero(self._open).tolist()
            if step < len(self._order[index])
        ]
        for index, record, _ in entries:
            self._removal.put_back(index, record)
        fits = self._dry_run.fits(self._removal)
        for index, record, violating in entries:
            if not fits[index]:
                self._removal.remove(index, record)
                self._victims[index].append(record)
                self._violations[index] += violating

    def chosen(self) -> Iterator[tuple[int, tuple[PodRecord, ...], int]]:
        """(row, its victims, the most important first, how many violate a budget)."""
        for index in np.flatnonzero(self._open).tolist():
            if self._victims[index]:
                victims = tuple(sorted(self._victims[index], key=importance))
                yield self._rows[index], victims, self._violations[index]


def victims_on(snapshot: Snapshot, row: int, priority: int) -> list[PodRecord]:
    """The row's pods of lower priority, the most important first."""
    return sorted((r for r in snapshot.pods_on(row) if r.priority < priority), key=importance)


def reprieve_order(
    records: Sequence[PodRecord], budgets: Budgets
) -> Iterable[tuple[PodRecord, bool]]:
    """Who may stay first, and whether a budget would be violated: those are spared first."""
    violating = budgets.violating(records)
    yield from ((record, True) for record in records if record.key in violating)
    yield from ((record, False) for record in records if record.key not in violating)


def importance(record: PodRecord) -> tuple[int, str]:
    """Sorts the most important first: higher priority, then longer running."""
    return -record.priority, record.start_time or NOW
