"""Node by node, why a pod fits or not, what would have to change, and what each node scored."""

import random
from dataclasses import dataclass, field, replace

import numpy as np

from cluster.errors import GschError
from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo, Remedy
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.config.pod_info import pod_info
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.framework import Framework, frameworks
from scheduler.cycle.scheduling_cycle import Cycle, ScheduleResult
from scheduler.cycle.trial import Trial
from scheduler.preemption.candidates import Candidate, Preemption, keep, outcome
from scheduler.queue.nominator import Nominator

OK = "ok"


class CannotExplain(GschError):
    """There is nothing to explain; the text says why."""

    status = 404


@dataclass(frozen=True, slots=True)
class Score:
    """One plugin's score of one node: raw, 0..100 among the feasible nodes, times its weight."""

    raw: int
    normalized: int
    weight: int
    weighted: int


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """One node.

    `filters` says of every filter that had to do with the pod "ok" or its reasons; `refused_by`
    and `reasons` are the first that refused, which is the one that counts in messages. `changes`
    would make the pod fit.
    """

    node: str
    fits: bool
    refused_by: str = ""
    reasons: list[str] = field(default_factory=list)
    filters: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    total: int = 0
    changes: list[str] = field(default_factory=list)
    rtt_ms: float | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class ExplainedVictims:
    """Whom preemption would remove, and from which node."""

    node: str
    pods: list[str]
    budget_violations: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """A pod, the message that its condition would carry (empty if it fits), and every node.

    `nearest` is the node for which the least would have to change, None where the pod fits or no
    change to a node would help.
    """

    pod: str
    profile: str
    policy: str
    message: str
    chosen: str | None
    nearest: str | None
    preemption: ExplainedVictims | None
    nodes: list[NodeVerdict]


def explain(
    pod: Pod, snapshot: Snapshot, configuration: Configuration, matrix: Matrix
) -> Explanation:
    """Evaluate one pod against the snapshot, as the scheduling cycle would.

    Raises CannotExplain, PodRejected.
    """
    framework = frameworks(configuration, matrix).get(pod.spec.scheduler_name)
    if framework is None:
        raise CannotExplain(f"pod {pod.key} is for scheduler {pod.spec.scheduler_name}")
    return explain_with(framework, pod, snapshot, Nominator(snapshot))


def explain_with(
    framework: Framework, pod: Pod, snapshot: Snapshot, nominator: Nominator
) -> Explanation:
    """`explain` with a profile that is there already. Leaves the snapshot as it was."""
    info = pod_info(pod)
    cycle = Cycle(snapshot, seed=0)
    decision = cycle.decide(framework, info, nominator.ahead_of(info), nominator.row(pod.key))
    trial, chosen = decision.trial, None
    message, victims = "", None
    if isinstance(decision, ScheduleResult):
        chosen = decision.row
    else:
        diagnosis = decision.diagnosis
        preemption = _preemption(framework, info, trial, diagnosis, snapshot, nominator)
        if isinstance(preemption, Candidate):
            names = [victim.key for victim in preemption.victims]
            victims = ExplainedVictims(snapshot.names[preemption.row], names, preemption.violations)
        else:
            diagnosis = replace(diagnosis, post_filter_message=preemption)
        message = diagnosis.message
    nodes, nearest = _verdicts(framework, info, trial, snapshot, chosen)
    return Explanation(
        pod.key,
        framework.name,
        info.policy,
        message,
        None if chosen is None else snapshot.names[chosen],
        nearest,
        victims,
        nodes,
    )


def _preemption(
    framework: Framework,
    info: PodInfo,
    trial: Trial,
    diagnosis: Diagnosis,
    snapshot: Snapshot,
    nominator: Nominator,
) -> Candidate | str:
    own_row = nominator.row(info.pod.key)
    said = outcome(framework, info, trial, diagnosis, own_row)
    if said is not None or framework.preemption is None:
        return said or ""
    preemption = Preemption(snapshot, random.Random(0))
    result = preemption.find(framework.preemption, trial, info, own_row)
    if isinstance(result, Candidate):
        return result
    return keep(info, trial, own_row, result, trial.version)


def _verdicts(
    framework: Framework, info: PodInfo, trial: Trial, snapshot: Snapshot, chosen: int | None
) -> tuple[list[NodeVerdict], str | None]:
    """Every node's verdict, and the name of the nearest one that does not fit."""
    rows = [row for row, name in enumerate(snapshot.names) if snapshot.row(name) == row]
    if trial.rejection is not None:
        plugin, reason = trial.rejection
        return [NodeVerdict(snapshot.names[row], False, plugin, [reason]) for row in rows], None
    times = framework.latency.times(info, snapshot)
    refusals, scores = _refusals(trial), _scores(trial)
    filters, remedies = _filters(trial, rows), {}
    verdicts = []
    for row in rows:
        rtt = None if times is None or np.isnan(times[row]) else float(times[row])
        plugin, reasons = refusals.get(row, ("", []))
        fits = bool(trial.feasible[row])
        if not fits:
            remedies[row] = _remedies(trial, snapshot, row)
        verdicts.append(
            NodeVerdict(
                snapshot.names[row],
                fits,
                plugin,
                reasons,
                filters[row],
                scores.get(row, {}),
                sum(score.weighted for score in scores.get(row, {}).values()),
                [remedy.text for remedy in remedies.get(row, ())],
                rtt,
                row == chosen,
            )
        )
    possible = {row: changes for row, changes in remedies.items() if changes}
    if chosen is not None or not possible:
        return verdicts, None
    nearest = min(possible, key=lambda row: sum(remedy.lack for remedy in possible[row]))
    return verdicts, snapshot.names[nearest]


def _refusals(trial: Trial) -> dict[int, tuple[str, list[str]]]:
    """The plugin that refused a row first, with its reasons, by row."""
    refusals: dict[int, tuple[str, list[str]]] = {}
    for verdict in trial.verdicts():
        for reason, nodes in verdict.reasons:
            for row in np.flatnonzero(nodes).tolist():
                refusals.setdefault(row, (verdict.plugin, []))[1].append(reason)
    return refusals


def _filters(trial: Trial, rows: list[int]) -> dict[int, dict[str, str]]:
    """By row, what each filter says, whatever the others before it said."""
    answers: dict[int, dict[str, str]] = {row: {} for row in rows}
    for plugin, reasons, bits in trial.answers(np.array(rows, np.intp)):
        for row, answer in zip(rows, bits.tolist(), strict=True):
            said = [reason for index, reason in enumerate(reasons) if answer >> index & 1]
            answers[row][plugin] = ", ".join(said) or OK
    return answers


def _remedies(trial: Trial, snapshot: Snapshot, row: int) -> list[Remedy]:
    """Everything that would have to change on the row; empty where some plugin knows nothing."""
    remedies: list[Remedy] = []
    for plugin, prepared in trial.engaged:
        if plugin.filter(prepared, snapshot.view(np.array([row])))[0]:
            plugin_remedies = plugin.remedies(prepared, snapshot, row)
            if not plugin_remedies:
                return []
            remedies += plugin_remedies
    return remedies


def _scores(trial: Trial) -> dict[int, dict[str, Score]]:
    """Scores by feasible row and plugin."""
    table = trial.score_table()
    return {
        row: {
            plugin: Score(int(raw[index]), int(scaled[index]), weight, weight * int(scaled[index]))
            for plugin, weight, raw, scaled in table
        }
        for index, row in enumerate(np.flatnonzero(trial.feasible).tolist())
    }
