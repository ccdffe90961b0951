"""DefaultPreemption: on which node removing pods of lower priority makes room, and which pods.

Source: upstream's defaultpreemption plugin and preemption evaluator. Nothing is removed here: the
snapshot is asked "what if", and is as it was when the answer is given.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.label_selectors import Selector, selector_of
from cluster.records import PodRecord
from cluster.related import PodDisruptionBudget
from cluster.snapshot import Snapshot
from cluster.what_if import with_pods
from filters.default_preemption import DefaultPreemption
from filters.framework import PodInfo
from scheduler.diagnosis import Diagnosis
from scheduler.profiles import Framework
from scheduler.trial import Trial

NEVER = "not eligible due to preemptionPolicy=Never."
TERMINATING = "not eligible due to a terminating pod on the nominated node."
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"

# What upstream's DynamicResources says on the way to preemption, and what becomes of it for a pod
# that a plugin rejected as a whole: messages are kube-scheduler's to the letter.
NO_CLAIMS = "no new claims to deallocate"
NOT_PREPARED = "not found"

NOW = "9"
"""Stands for the start time of a pod that has not started: later than any RFC 3339 time."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row on which the pod fits once `victims` (the most important first) are gone."""

    row: int
    victims: tuple[PodRecord, ...]
    violations: int


@dataclass(slots=True)
class NotHelpful:
    """No preemption, and the sentence that says why."""

    sentence: str


class Preemption:
    """Finds victims in one snapshot."""

    def __init__(self, snapshot: Snapshot, rng: random.Random) -> None:
        self._snapshot, self._random = snapshot, rng

    def find(
        self,
        plugin: DefaultPreemption,
        trial: Trial,
        info: PodInfo,
        own_row: int,
    ) -> Candidate | NotHelpful:
        """The best candidate for a pod that `trial` found no node for.

        `own_row` is the row that the pod is nominated to already, -1 with none.
        """
        if info.pod.spec.preemption_policy == "Never":
            return NotHelpful(NEVER)
        unresolvable = trial.unresolvable()
        if own_row >= 0 and not unresolvable[own_row] and self._terminating(info, own_row):
            return NotHelpful(TERMINATING)
        rows = np.flatnonzero(~unresolvable).tolist()
        if self._snapshot.least_priority >= info.pod.spec.priority:
            return NotHelpful(self._sentence([[NO_VICTIMS]] * len(rows)))
        found, refused = self._dry_run(trial, info, rows, plugin.post_filter(len(rows)))
        if found:
            return min(found, key=_preference)
        return NotHelpful(self._sentence(refused))

    def _terminating(self, info: PodInfo, row: int) -> bool:
        """Whether a victim of before is still on its way out of the nominated node."""
        return any(
            record.shape.terminating and record.preempted and record.priority < _priority(info)
            for record in self._snapshot.pods_on(row)
        )

    def _sentence(self, refused: list[list[str]]) -> str:
        """`refused` has the reasons of each node that was looked at."""
        total = self._snapshot.node_count
        counts = Counter(reason for reasons in refused for reason in reasons)
        if total > len(refused):
            counts[NOT_HELPFUL] = total - len(refused)
        reasons = ", ".join(sorted(f"{number} {reason}" for reason, number in counts.items()))
        return f"0/{total} nodes are available: {reasons}."

    def _dry_run(
        self, trial: Trial, info: PodInfo, rows: list[int], wanted: int
    ) -> tuple[list[Candidate], list[list[str]]]:
        """`wanted` candidates or a few more, and the reasons of each other row."""
        if len(rows) > wanted:
            start = self._random.randrange(len(rows))
            rows = rows[start:] + rows[:start]
        # Plugins that look at other nodes' pods must see one node's victims gone at a time.
        size = wanted if not trial.own.engaged else 1
        found: list[Candidate] = []
        refused: list[list[str]] = []
        budgets = _compiled(self._snapshot.budgets.values())
        ahead = [(row, i.pod, i.needs) for row, infos in trial.nominated for i in infos]
        with with_pods(self._snapshot, ahead):
            for start in range(0, len(rows), size):
                batch = _Batch(self._snapshot, trial, info, budgets)
                found += batch.run(rows[start : start + size], refused)
                if len(found) >= wanted:
                    break
        return found, refused


def sentence(
    preemption: Preemption,
    framework: Framework,
    info: PodInfo,
    trial: Trial,
    diagnosis: Diagnosis,
    own_row: int,
) -> Candidate | str:
    """Whom to remove where, or what a message says about there being nobody."""
    if framework.preemption is None or not diagnosis.node_count:
        return ""
    if not diagnosis.resolvable:
        return NOT_PREPARED if diagnosis.plugins & framework.standard else ""
    spec = info.pod.spec
    alike = spec.priority, spec.preemption_policy
    shared = trial.shared and not trial.nominated and own_row < 0
    if shared and (kept := trial.evaluation.sentences.get(alike, (-1, "")))[0] == trial.version:
        return kept[1]
    found = preemption.find(framework.preemption, trial, info, own_row)
    if not isinstance(found, NotHelpful):
        return found
    text = f"{NO_CLAIMS}, preemption: {found.sentence}"
    if shared:
        trial.evaluation.sentences[alike] = trial.version, text
    return text


class _Batch:
    """Nodes whose victims are chosen side by side."""

    def __init__(self, snapshot: Snapshot, trial: Trial, info: PodInfo, budgets: "Budgets") -> None:
        self._snapshot, self._trial, self._priority = snapshot, trial, _priority(info)
        self._budgets = budgets
        self._gone: dict[str, PodRecord] = {}

    def run(self, rows: list[int], refused: list[list[str]]) -> list[Candidate]:
        """The candidates among the rows; the reasons of each other one go to `refused`."""
        possible: dict[int, list[PodRecord]] = {}
        for row in rows:
            lower = [r for r in self._snapshot.pods_on(row) if r.priority < self._priority]
            if lower:
                possible[row] = sorted(lower, key=_importance)
            else:
                refused.append([NO_VICTIMS])
        if not possible:
            return []
        try:
            for records in possible.values():
                self._remove(records)
            for row in self._refuse(list(possible), refused):
                del possible[row]
            return self._reprieve(possible)
        finally:
            for record in list(self._gone.values()):
                self._put_back(record)

    def _refuse(self, rows: list[int], refused: list[list[str]]) -> list[int]:
        """Rows that do not fit even with all of them gone; why goes to `refused`."""
        fits = self._trial.fits(np.array(rows))
        unfit = [row for row, ok in zip(rows, fits, strict=True) if not ok]
        if unfit:
            refused += self._trial.reasons(np.array(unfit))
        return unfit

    def _reprieve(self, possible: dict[int, list[PodRecord]]) -> list[Candidate]:
        """Let stay whom the pod fits beside: first those whose budget would be violated."""
        victims: dict[int, list[PodRecord]] = {row: [] for row in possible}
        violations = dict.fromkeys(possible, 0)
        order: dict[int, list[tuple[PodRecord, bool]]] = {}
        for row, records in possible.items():
            violating = _violating(records, self._budgets)
            spared = [(r, True) for r in records if r.key in violating]
            order[row] = spared + [(r, False) for r in records if r.key not in violating]
        for step in range(max(map(len, order.values()), default=0)):
            rows = [row for row, records in order.items() if step < len(records)]
            for row in rows:
                self._put_back(order[row][step][0])
            fits = self._trial.fits(np.array(rows))
            for row, ok in zip(rows, fits, strict=True):
                if not ok:
                    record, violating_one = order[row][step]
                    self._remove([record])
                    victims[row].append(record)
                    violations[row] += violating_one
        return [
            Candidate(row, tuple(sorted(chosen, key=_importance)), violations[row])
            for row, chosen in victims.items()
            if chosen
        ]

    def _remove(self, records: Iterable[PodRecord]) -> None:
        for record in records:
            self._snapshot.remove_pod(record.key)
            self._gone[record.key] = record

    def _put_back(self, record: PodRecord) -> None:
        self._snapshot.put_back(record)
        del self._gone[record.key]


def _priority(info: PodInfo) -> int:
    return info.pod.spec.priority


def _importance(record: PodRecord) -> tuple[int, str]:
    """Sorts the most important first: higher priority, then longer running."""
    return -record.priority, record.start_time or NOW


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


@dataclass(frozen=True, slots=True)
class _Budget:
    """A PodDisruptionBudget: whose pods it guards, how many may go, who is on the way out."""

    name: str
    selector: Selector
    allowed: int
    disrupted: frozenset[str]


Budgets = dict[str, list[_Budget]]
"""By namespace."""


def _compiled(budgets: Iterable[PodDisruptionBudget]) -> Budgets:
    found: Budgets = {}
    for budget in budgets:
        selector = selector_of(budget.spec.selector)
        # Upstream: a budget without requirements guards nobody.
        if not selector.everything and not selector.nothing:
            status = budget.status
            entry = _Budget(
                budget.metadata.name,
                selector,
                status.disruptions_allowed,
                frozenset(status.disrupted_pods or ()),
            )
            found.setdefault(budget.metadata.namespace, []).append(entry)
    return found


def _violating(records: Sequence[PodRecord], budgets: Budgets) -> frozenset[str]:
    """Keys of the pods whose removal, in this order, some budget does not allow."""
    if not budgets:
        return frozenset()
    gone: Counter[tuple[str, str]] = Counter()
    found = set()
    for record in records:
        shape = record.shape
        name = record.key.partition("/")[2]
        for budget in budgets.get(shape.namespace, ()) if shape.labels else ():
            if budget.selector.matches(shape.labels) and name not in budget.disrupted:
                key = shape.namespace, budget.name
                gone[key] += 1
                if gone[key] > budget.allowed:
                    found.add(record.key)
    return frozenset(found)
