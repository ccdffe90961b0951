"""DefaultPreemption: on which node removing pods of lower priority makes room, and which pods.

Source: upstream's defaultpreemption plugin and preemption evaluator. Nothing is removed here: rows
are judged with their victims' counts subtracted. A search runs in slices, between which events may
change the snapshot: rows that changed are looked at again, and the candidate that is chosen is
checked once more against the snapshot as it is then.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.state.records import PodRecord
from cluster.state.snapshot import Bools, Snapshot
from cluster.state.what_if import unchanged, with_pods, without
from filters.common.plugin import PodInfo
from filters.default_preemption import DefaultPreemption
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.framework import Framework
from scheduler.cycle.trial import Nominated, Trial
from scheduler.preemption.budgets import Budgets
from scheduler.preemption.dry_run import (
    NO_VICTIMS,
    NOW,
    Batch,
    DryRun,
    RefusedRows,
    Steps,
    importance,
    reprieve_order,
    victims_on,
)
from scheduler.preemption.removal import AllBelow

NEVER = "not eligible due to preemptionPolicy=Never."
TERMINATING = "not eligible due to a terminating pod on the nominated node."
NOT_HELPFUL = "Preemption is not helpful for scheduling"

# What upstream's DynamicResources says on the way to preemption, and what becomes of it for a pod
# that a plugin rejected as a whole: messages are kube-scheduler's to the letter.
NO_CLAIMS = "no new claims to deallocate"
NOT_PREPARED = "not found"


MAX_BATCH = 256
"""Rows whose victims are chosen side by side."""
MAX_TRIES = 3
"""How often a row that keeps changing under the search is looked at."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row on which the pod fits once `victims` (the most important first) are gone."""

    row: int
    victims: tuple[PodRecord, ...]
    violations: int


@dataclass(slots=True)
class NotHelpful:
    """No preemption, and the message that says why. `outdated` where the cluster changed so much
    under the search that another one may find more."""

    message: str
    outdated: bool = False


class Preemption:
    """Finds victims in one snapshot."""

    def __init__(self, snapshot: Snapshot, rng: random.Random) -> None:
        self._snapshot, self._random = snapshot, rng

    def find(
        self, plugin: DefaultPreemption, trial: Trial, info: PodInfo, own_row: int | None
    ) -> Candidate | NotHelpful:
        """The best candidate for a pod that `trial` found no node for, in one go.

        `own_row` is the row that the pod is nominated to already, None with none.
        """
        search = self.search(plugin, trial, info, own_row, lambda: trial.nominated)
        while (result := search.advance(math.inf)) is None:
            pass
        return result

    def search(
        self,
        plugin: DefaultPreemption,
        trial: Trial,
        info: PodInfo,
        own_row: int | None,
        nominated: Callable[[], Nominated],
    ) -> "Search":
        """As `find`, to be carried on by `Search.advance`. `nominated` says, whenever it is called,
        which pods go before this one on the rows that they are nominated to."""
        return Search(self._snapshot, plugin, trial, info, own_row, nominated, self._random)


class Search:
    """The search for one pod, carried on slice by slice."""

    def __init__(
        self,
        snapshot: Snapshot,
        plugin: DefaultPreemption,
        trial: Trial,
        info: PodInfo,
        own_row: int | None,
        nominated: Callable[[], Nominated],
        rng: random.Random,
    ) -> None:
        self._snapshot, self._plugin, self._info = snapshot, plugin, info
        self._own_row, self._random = own_row, rng
        self._priority = info.pod.spec.priority
        self._unresolvable: Bools = trial.unresolvable()
        self._nominated, self._ahead = nominated, nominated()
        self._dry_run = DryRun(trial.plugins, info, snapshot)
        self._version, self._nodes_version = snapshot.version, snapshot.nodes_version
        self._budgets = Budgets(snapshot.budgets.values())
        self._refused = RefusedRows()
        self._until = math.inf
        self._steps = self._run()

    def advance(self, until: float) -> Candidate | NotHelpful | None:
        """Go on until `time.perf_counter()` says `until`; the result, None before the end."""
        self._until = until
        if self._nodes_version != self._snapshot.nodes_version:
            # Nodes came or went: a row may be another's by now.
            self._steps.close()
            return NotHelpful(self._message(), outdated=True)
        try:
            next(self._steps)
        except StopIteration as end:
            result: Candidate | NotHelpful = end.value
            return result
        return None

    # -- the search ------------------------------------------------------------------------

    def _run(self) -> Generator[None, None, Candidate | NotHelpful]:
        if self._info.pod.spec.preemption_policy == "Never":
            return NotHelpful(NEVER)
        own_row, unresolvable = self._own_row, self._unresolvable
        if own_row is not None and not unresolvable[own_row] and self._terminating(own_row):
            return NotHelpful(TERMINATING)
        rows = np.flatnonzero(~unresolvable)
        if self._snapshot.ledger.least_priority >= self._priority:
            self._refused.add(NO_VICTIMS, len(rows))
            return NotHelpful(self._message())
        wanted = self._plugin.wanted_candidates(len(rows))
        with self._beside_nominated():
            possible = self._relax(rows)
        candidates: list[Candidate] = []
        tries: Counter[int] = Counter()
        rows_left = self._rotated(possible, wanted)
        while rows_left and not _enough(candidates, wanted):
            size = min(wanted, MAX_BATCH)
            batch, rows_left = rows_left[:size], rows_left[size:]
            tries.update(batch)
            changed = yield from self._look_at(batch, candidates)
            rows_left += [row for row in changed if tries[row] < MAX_TRIES]
        self._ahead = self._nominated()
        for candidate in sorted(candidates, key=_preference):
            if self._still_fits(candidate):
                return candidate
        return NotHelpful(self._message(), outdated=bool(candidates))

    def _terminating(self, row: int) -> bool:
        """Whether a victim of before is still on its way out of the nominated node."""
        return any(
            record.shape.terminating and record.preempted and record.priority < self._priority
            for record in self._snapshot.pods_on(row)
        )

    def _relax(self, rows: NDArray[np.intp]) -> list[int]:
        """The rows on which the pod may fit with all lesser pods gone. One pass over arrays: a pod
        that no preemption can help costs no more than this."""
        counts = self._snapshot.ledger.requested_below(self._priority, "pods")[rows]
        self._refused.add(NO_VICTIMS, int(np.count_nonzero(counts == 0)))
        rows = rows[counts > 0]
        if not len(rows) or self._dry_run.rejected:
            return [int(row) for row in rows]
        removed = AllBelow(self._snapshot, rows, self._priority)
        fits = self._dry_run.fits(removed, self._refused)
        return [int(row) for row in rows[fits]]

    def _rotated(self, rows: list[int], wanted: int) -> list[int]:
        """Starting anywhere, so that it is not always the same nodes' pods that have to go."""
        if len(rows) <= wanted:
            return rows
        start = self._random.randrange(len(rows))
        return rows[start:] + rows[:start]

    def _look_at(
        self, rows: list[int], candidates: list[Candidate]
    ) -> Generator[None, None, list[int]]:
        """Choose victims on each row; returns the rows that changed meanwhile."""
        if not self._dry_run.by_counts:
            changed: list[int] = []
            yield from self._drive(self._one_by_one(rows, candidates), None)
            return changed
        batch = Batch(self._snapshot, self._dry_run, self._priority, self._budgets, rows)
        yield from self._drive(batch.steps(self._refused), batch)
        candidates += [Candidate(*chosen) for chosen in batch.chosen()]
        return batch.changed

    def _drive(self, steps: Steps, batch: "Batch | None") -> Generator[None]:
        """Step after step, with a pause wherever time is up."""
        while True:
            if self._refresh(batch):
                self._dry_run.prepare_again()
            with self._beside_nominated():
                for _ in steps:
                    if time.perf_counter() >= self._until:
                        break
                else:
                    return
            yield

    def _refresh(self, batch: "Batch | None") -> bool:
        """After a pause: whether anything changed. Rows that did are left to another try."""
        ahead, before = self._nominated(), self._ahead
        if self._version == self._snapshot.version and ahead == before:
            return False
        if batch is not None:
            batch.drop(self._snapshot.changed_since(self._version))
            differ = [entry[0] for entry in ahead if entry not in before]
            differ += [entry[0] for entry in before if entry not in ahead]
            batch.drop(np.array(differ, np.intp))
        self._version, self._ahead = self._snapshot.version, ahead
        return True

    def _beside_nominated(self) -> AbstractContextManager[None]:
        """As if pods of at least this priority that are nominated to a node ran there."""
        if not self._ahead:
            return nullcontext()
        pods = [(row, info.pod, info.needs) for row, infos in self._ahead for info in infos]
        return with_pods(self._snapshot, pods)

    def _one_by_one(self, rows: Sequence[int], candidates: list[Candidate]) -> Steps:
        """For plugins that cannot judge by counts: pods are taken out of the snapshot for as long
        as one row is looked at."""
        for row in rows:
            records = victims_on(self._snapshot, row, self._priority)
            if not records:
                self._refused.add(NO_VICTIMS, 1)
                continue
            with unchanged(self._snapshot):
                candidate = self._by_removal(row, records)
            if candidate is not None:
                candidates.append(candidate)
            yield

    def _by_removal(self, row: int, records: list[PodRecord]) -> Candidate | None:
        removed = {record.key: record for record in records}
        for record in records:
            self._snapshot.remove_pod(record.key)
        try:
            if not self._dry_run.fits_now(row, self._refused):
                return None
            violations = 0
            for record, violating in reprieve_order(records, self._budgets):
                self._snapshot.put_back(removed.pop(record.key))
                if not self._dry_run.fits_now(row):
                    self._snapshot.remove_pod(record.key)
                    removed[record.key] = record
                    violations += violating
            chosen = tuple(sorted(removed.values(), key=importance))
            return Candidate(row, chosen, violations) if chosen else None
        finally:
            for record in removed.values():
                self._snapshot.put_back(record)

    def _still_fits(self, candidate: Candidate) -> bool:
        """Whether the victims are there, and the pod fits without them, as the snapshot is now."""
        pods = self._snapshot.pods
        for victim in candidate.victims:
            record = pods.get(victim.key)
            if record is None or record.uid != victim.uid or record.node != victim.node:
                return False
        self._dry_run.prepare_again()
        with self._beside_nominated(), without(self._snapshot, candidate.victims):
            return self._dry_run.fits_now(candidate.row)

    def _message(self) -> str:
        total = self._snapshot.node_count
        counts = Counter(self._refused.reasons)
        if total > self._refused.rows:
            counts[NOT_HELPFUL] = total - self._refused.rows
        reasons = ", ".join(sorted(f"{number} {reason}" for reason, number in counts.items()))
        return f"0/{total} nodes are available: {reasons}."


def outcome(
    framework: Framework, info: PodInfo, trial: Trial, diagnosis: Diagnosis, own_row: int | None
) -> str | None:
    """What is said of preemption without any search; None where one has to be made."""
    if framework.preemption is None or not diagnosis.node_count:
        return ""
    if not diagnosis.resolvable:
        return NOT_PREPARED if diagnosis.plugins & framework.standard else ""
    kept = _kept(info, trial, own_row)
    return kept[1] if kept is not None and kept[0] == trial.version else None


def keep(info: PodInfo, trial: Trial, own_row: int | None, result: NotHelpful, version: int) -> str:
    """The sentence for messages; kept for pods of the class for as long as nothing changes."""
    text = f"{NO_CLAIMS}, preemption: {result.message}"
    if _shared(trial, own_row) and version == trial.version:
        trial.evaluation.post_filter_messages[_alike(info)] = version, text
    return text


def _kept(info: PodInfo, trial: Trial, own_row: int | None) -> tuple[int, str] | None:
    if not _shared(trial, own_row):
        return None
    return trial.evaluation.post_filter_messages.get(_alike(info))


def _shared(trial: Trial, own_row: int | None) -> bool:
    return trial.shared and not trial.nominated and own_row is None


def _alike(info: PodInfo) -> tuple[int, str]:
    return info.pod.spec.priority, info.pod.spec.preemption_policy


def _enough(candidates: Sequence[Candidate], wanted: int) -> bool:
    """Upstream goes on past `wanted` until one violates no budget."""
    return len(candidates) >= wanted and any(not c.violations for c in candidates)


def _preference(candidate: Candidate) -> tuple[int, int, int, int, "_Latest"]:
    """Sorts the best first, as upstream's pickOneNodeForPreemption."""
    victims = candidate.victims
    highest = victims[0].priority
    started = min(v.start_time or NOW for v in victims if v.priority == highest)
    total = sum(v.priority + 2**31 for v in victims)
    return candidate.violations, highest, total, len(victims), _Latest(started)


@dataclass(frozen=True, slots=True)
class _Latest:
    """A time that sorts the latest first."""

    time: str

    def __lt__(self, other: "_Latest") -> bool:
        return self.time > other.time
