"""Moves that pay: pods under the low-latency policy that would be nearer elsewhere by now.

The network changes under pods that run. Each group (a pipeline, or a pod by itself) is placed anew
in thought, with its own pods away and everything else where it is; where the new place costs enough
less, evicting the pods is proposed, and the scheduler then puts their successors there. Only pods
that a controller makes anew are ever moved.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
import numpy as np

from cluster.errors import PodRejected
from cluster.objects.core import Pod
from cluster.state.records import PodRecord
from cluster.state.snapshot import Snapshot
from cluster.state.what_if import with_pods, without
from filters.common.member import PipelineMember
from filters.common.plugin import PodInfo
from scheduler.config.gschconfig import LOW_LATENCY
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.joint.problem import Part, Plan, rows_of
from scheduler.preemption.budgets import Budgets


@dataclass(frozen=True, slots=True)
class MoveLimits:
    """What a move has to gain (in ms of round trips a second, and as a share), how long a pod has
    to have run (s), and how many pods one round may move."""

    gain_ms: float = 1.0
    gain_share: float = 0.2
    settled: float = 600.0
    moves: int = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One pod of a move."""

    pod: str
    uid: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Move:
    """Pods that go together; costs in ms × round trips a second."""

    group: str
    steps: tuple[Step, ...]
    before: float
    after: float
    kept: str = ""
    """Why it may not be made; empty where it may."""

    @property
    def gain(self) -> float:
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class _Running:
    pod: Pod
    pending: Pod
    info: PodInfo
    member: PipelineMember


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A group of pods, and those of it that may be moved."""

    name: str
    group: Sequence[_Running]
    movable: Sequence[_Running]
    framework: Framework

    def better(self, snapshot: Snapshot) -> Move | None:
        """Where the group would go now, against where it is; None where it stays."""
        return _better(self.name, self.group, self.movable, snapshot, self.framework)


def find(
    pods: Iterable[Pod],
    snapshot: Snapshot,
    profiles: Mapping[str, Framework],
    limits: MoveLimits,
    now: datetime | None = None,
) -> list[Move]:
    """Moves that pay, the best first, within the budget, each judged as if those before it were
    made. Leaves the snapshot as it was.

    A move that PodDisruptionBudgets do not allow as a whole is told with what keeps it.
    """
    now = now or datetime.now(UTC)
    groups = _groups([p for p in map(_running, pods) if p is not None], profiles)
    proposals = []
    for name, group in groups.items():
        movable = [one for one in group if _movable(one.pod, limits, now)]
        if not movable:
            continue
        framework = profiles[movable[0].pod.spec.scheduler_name]
        proposal = _Proposal(name, group, movable, framework)
        move = proposal.better(snapshot)
        if move is not None and _pays(move, limits):
            proposals.append((move, proposal))
    proposals.sort(key=lambda entry: -entry[0].gain)
    with ExitStack() as assumed:
        return _accepted(proposals, snapshot, limits, assumed)


def _accepted(
    proposals: "Sequence[tuple[Move, _Proposal]]",
    snapshot: Snapshot,
    limits: MoveLimits,
    assumed: ExitStack,
) -> list[Move]:
    """Whole moves, as many as the budget of pods has room for."""
    left, accepted = limits.moves, list[Move]()
    budgets, leaving = Budgets(snapshot.budgets.values()), list[PodRecord]()
    for first, proposal in proposals:
        # Room that an earlier move takes, or leaves, is not as it was.
        move = proposal.better(snapshot) if accepted else first
        if move is None or not _pays(move, limits) or len(move.steps) > left:
            continue
        records = [snapshot.pods[step.pod] for step in move.steps]
        if budgets.violating([*leaving, *records]):
            kept = "kept: its PodDisruptionBudget allows fewer evictions than the move needs"
            accepted.append(replace(move, kept=kept))
            continue
        accepted.append(move)
        leaving += records
        left -= len(move.steps)
        pods = {one.pod.key: one for one in proposal.movable}
        assumed.enter_context(without(snapshot, records))
        moved = [
            (row, pods[step.pod].pending, pods[step.pod].info.needs)
            for step in move.steps
            if (row := snapshot.row(step.target)) is not None
        ]
        assumed.enter_context(with_pods(snapshot, moved))
    return accepted


def _running(pod: Pod) -> _Running | None:
    if not pod.spec.node_name or pod.terminal or pod.metadata.deletion_timestamp:
        return None
    pending = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=""))
    try:
        info = pod_info(pending)
    except PodRejected:
        return None
    if info.policy != LOW_LATENCY or info.weights is not None:
        return None
    return _Running(pod, pending, info, info.member or PipelineMember())


def _groups(
    running: Sequence[_Running], profiles: Mapping[str, Framework]
) -> dict[str, list[_Running]]:
    groups: dict[str, list[_Running]] = {}
    for one in running:
        if one.pod.spec.scheduler_name in profiles:
            groups.setdefault(one.member.pipeline or one.pod.key, []).append(one)
    return groups


def _movable(pod: Pod, limits: MoveLimits, now: datetime) -> bool:
    """Whether somebody makes it anew, and it has run for long enough."""
    controlled = any(owner.controller for owner in pod.metadata.owner_references or ())
    started = pod.status.start_time
    if not controlled or not started:
        return False
    return (now - datetime.fromisoformat(started)).total_seconds() >= limits.settled


def _better(
    name: str,
    group: Sequence[_Running],
    movable: Sequence[_Running],
    snapshot: Snapshot,
    framework: Framework,
) -> Move | None:
    """Where the group would go now, against where it is; None where it stays, or fits nowhere."""
    records = [snapshot.pods[one.pod.key] for one in movable if one.pod.key in snapshot.pods]
    if len(records) != len(movable):
        return None
    keys = {one.pod.key for one in movable}
    placed = {one.pod.key: one.member for one in group if one.pod.key not in keys}
    with without(snapshot, records):
        cycle = Cycle(snapshot, seed=0)
        parts = [Part(one.info, one.member, cycle.trial(framework, one.info)) for one in movable]
        if any(p.trial.rejection or not p.trial.feasible.any() for p in parts):
            return None
        here = rows_of(snapshot, [one.pod.spec.node_name for one in movable])
        if here is None:
            return None
        compared = Plan(snapshot, framework, parts, placed, here).compare(here)
    if compared is None:
        return None
    before, after, rows = compared
    steps = tuple(
        Step(one.pod.key, one.pod.metadata.uid, snapshot.names[old], snapshot.names[new])
        for one, old, new in zip(movable, here, rows, strict=True)
        if old != new
    )
    return Move(name, steps, before, after) if steps else None


def _pays(move: Move, limits: MoveLimits) -> bool:
    """Where pods may no longer be on their node at all (before is infinite), nothing is said."""
    enough = move.gain >= limits.gain_ms and move.gain >= limits.gain_share * move.before
    return bool(np.isfinite(move.before)) and enough
