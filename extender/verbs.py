"""The extender's decisions: pure functions of a request and the snapshot, without I/O.

kube-scheduler has applied its own filters to the nodes that it sends; the profile's filters are
applied to them again, over gsch's snapshot. Its scores cannot be replaced, only added to, and the
extender's run from 0 to 10: what the pod's policy says is therefore coded by rank (one more for
each better tier of nodes), so that round-trip times that lie close stay in order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from cluster.errors import GschError
from cluster.objects.core import Pod
from cluster.state.snapshot import Bools, Ints, Snapshot
from cluster.state.what_if import without
from extender.api import (
    ExtenderArgs,
    FilterResult,
    HostPriority,
    MetaPod,
    MetaVictims,
    PreemptionArgs,
    PreemptionResult,
)
from filters.common.plugin import PodInfo
from latency.matrix import Milliseconds
from scheduler.config.gschconfig import LOW_LATENCY
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.cycle.trial import Trial

MAX_SCORE = 10
UNKNOWN_NODE = "node(s) that the extender has not seen yet"


class BadRequest(GschError):
    """The request cannot be answered as it is; the text says what is wrong with it."""

    status = 422


@dataclass(frozen=True, slots=True)
class RequestedNodes:
    """The nodes of a request: their names, and their rows in the snapshot."""

    names: Sequence[str]
    rows: Ints


class Verbs:
    """Filter, prioritize and preempt over one snapshot, by one profile.

    `margin_ms`, where given, makes nearness a rule for pods under the low-latency policy: only
    nodes within so many milliseconds of the best one are left.
    """

    def __init__(
        self, snapshot: Snapshot, framework: Framework, margin_ms: float | None = None
    ) -> None:
        self._snapshot, self._framework, self._margin = snapshot, framework, margin_ms
        self._cycle = Cycle(snapshot, seed=0)
        self._last: tuple[tuple[str, str], PodInfo] | None = None

    # -- verbs -----------------------------------------------------------------------------

    def filter(self, args: ExtenderArgs) -> FilterResult:
        """Nodes that fit, and why others do not; of nodes that are not known yet, that.

        Raises BadRequest, PodRejected.
        """
        sent = requested(args)
        names, unknown = self._partition(sent)
        info, trial = self._trial(args.pod)
        result = self._filter(names, info, trial)
        if not unknown:
            return result
        failed = {**(result.failed_nodes or {}), **dict.fromkeys(unknown, UNKNOWN_NODE)}
        return msgspec.structs.replace(result, failed_nodes=failed)

    def _filter(self, names: list[str], info: PodInfo, trial: Trial) -> FilterResult:
        if trial.rejection is None and not self._picks(info) and self._all_fit(trial):
            return FilterResult(names)
        nodes = self._rows(names)
        if trial.rejection is not None:
            reason = trial.rejection[1]
            return FilterResult(
                [], failed_and_unresolvable_nodes=dict.fromkeys(nodes.names, reason)
            )
        left = trial.feasible[nodes.rows]
        near = self._near(info, nodes.rows, left)
        if left.all() and near.all():
            return FilterResult(names)
        failed, never = self._failures(nodes, trial, left)
        for index in np.flatnonzero(left & ~near).tolist():
            never[nodes.names[index]] = self._far(info, nodes.rows[index])
        names = [nodes.names[i] for i in np.flatnonzero(left & near).tolist()]
        return FilterResult(names, None, failed, never)

    def prioritize(self, args: ExtenderArgs) -> list[HostPriority]:
        """Nodes that the pod's policy prefers; one that is not named has 0.

        Without a policy kube-scheduler's own scores decide alone. Raises BadRequest, PodRejected.
        """
        info = self.info(args.pod)
        if not info.policy:
            return []
        nodes = self._rows(self._partition(requested(args))[0])
        value = self._value(info, nodes.rows)
        if value is None:
            return []
        scores = _ranked(value)
        return [
            HostPriority(nodes.names[index], int(scores[index]))
            for index in np.flatnonzero(scores).tolist()
        ]

    def preempt(self, args: PreemptionArgs) -> PreemptionResult:
        """The candidates on which the pod fits once their victims are gone.

        Raises BadRequest, PodRejected.
        """
        wanted = _victims(args)
        nodes = self._rows(self._partition(list(wanted))[0])
        info, trial = self._trial(args.pod)
        fits = np.array(
            [
                self._fits_without(trial, row, {pod.uid for pod in wanted[name].pods or ()})
                for name, row in zip(nodes.names, nodes.rows.tolist(), strict=True)
            ],
            np.bool_,
        )
        fits &= self._near(info, nodes.rows, fits)
        left = [nodes.names[index] for index in np.flatnonzero(fits).tolist()]
        return PreemptionResult({name: wanted[name] for name in left})

    # -- inside ----------------------------------------------------------------------------

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those that are no nodes here, or not yet."""
        rows_by_name = self._snapshot.rows_by_name
        return [name for name in names if name not in rows_by_name]

    def _partition(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Nodes that are known here, and the others."""
        if self._snapshot.rows_by_name.keys() >= set(names):
            return names, []
        unknown = set(self.unknown(names))
        return [name for name in names if name not in unknown], sorted(unknown)

    def _rows(self, names: list[str]) -> RequestedNodes:
        rows = map(self._snapshot.rows_by_name.__getitem__, names)
        return RequestedNodes(names, np.fromiter(rows, np.int64, len(names)))

    def info(self, pod: Pod) -> PodInfo:
        """What scheduling reads of the pod, kept from filter to prioritize. Raises PodRejected."""
        if self._last is not None and self._last[0] == _version(pod):
            return self._last[1]
        return pod_info(pod)

    def _trial(self, pod: Pod) -> tuple[PodInfo, Trial]:
        """The pod against the snapshot as it is."""
        info = self.info(pod)
        self._last = (_version(pod), info) if pod.metadata.uid else None
        return info, self._cycle.trial(self._framework, info, scored=False)

    def _picks(self, info: PodInfo) -> bool:
        """Whether nearness is a rule for this pod."""
        return self._margin is not None and info.policy == LOW_LATENCY

    def _all_fit(self, trial: Trial) -> bool:
        return trial.feasible_count == self._snapshot.node_count

    def _near(self, info: PodInfo, rows: Ints, left: Bools) -> Bools:
        """Of these rows, those within the margin of the nearest one that is left."""
        everywhere = np.ones(len(rows), np.bool_)
        if self._margin is None or not self._picks(info):
            return everywhere
        times = self._ranking(info)
        if times is None or not left.any():
            return everywhere
        near: Bools = times[rows] <= times[rows][left].min() + self._margin
        return near

    def _ranking(self, info: PodInfo) -> Milliseconds | None:
        """Times to every row, what is unknown behind all others; None where nothing is known."""
        near = self._framework.latency.nearness(info, self._snapshot)
        return None if near is None or np.isnan(near.times).all() else near.ranking

    def _far(self, info: PodInfo, row: int) -> str:
        times = self._framework.latency.times(info, self._snapshot)
        if times is None or np.isnan(times[row]):
            return "node(s) whose distance from the pod's source is not known"
        return f"node(s) more than {self._margin:g} ms farther than the nearest that fits"

    def _failures(
        self, nodes: RequestedNodes, trial: Trial, left: Bools
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Reasons by node: of those where preemption may help, and of those where it cannot."""
        rows = {int(nodes.rows[i]): nodes.names[i] for i in np.flatnonzero(~left).tolist()}
        failed: dict[str, str] = {}
        never: dict[str, str] = {}
        for verdict in trial.verdicts():
            for reason, refused in verdict.reasons:
                for row in np.flatnonzero(refused).tolist():
                    if row in rows:
                        reasons = never if verdict.unresolvable[row] else failed
                        name = rows[row]
                        reasons[name] = f"{reasons[name]}, {reason}" if name in reasons else reason
        return failed, never

    def _value(self, info: PodInfo, rows: Ints) -> Ints | None:
        """What the policy ranks by, the more the better; None where it does not tell apart."""
        if info.policy == LOW_LATENCY:
            times = self._ranking(info)
            if times is None:
                return None
            resolution = self._framework.latency.resolution_ms
            steps = np.floor(times[rows] / resolution) if resolution else times[rows] * 1e6
            return -steps.astype(np.int64)
        score = self._framework.policy_score(info.policy)
        if score is None:
            return None
        state = score.pre_score(info, self._snapshot)
        return None if state is None else score.score(state, self._snapshot.view(rows))

    def _fits_without(self, trial: Trial, row: int, uids: set[str]) -> bool:
        victims = [record for record in self._snapshot.pods_on(row) if record.uid in uids]
        with without(self._snapshot, victims):
            return bool(trial.rejection is None and trial.fits(np.array([row]))[0])


def requested(args: ExtenderArgs) -> list[str]:
    """The names of the request's nodes. Raises BadRequest."""
    if args.node_names is not None:
        return args.node_names
    if args.nodes is not None:
        return [node.metadata.name for node in args.nodes.items or ()]
    raise BadRequest("neither NodeNames nor Nodes")


def _version(pod: Pod) -> tuple[str, str]:
    return pod.metadata.uid, pod.metadata.resource_version


def _victims(args: PreemptionArgs) -> dict[str, MetaVictims]:
    if args.node_name_to_meta_victims is not None:
        return args.node_name_to_meta_victims
    if args.node_name_to_victims is not None:
        return {
            name: MetaVictims(
                [MetaPod(pod.metadata.uid) for pod in victims.pods or ()],
                victims.num_pdb_violations,
            )
            for name, victims in args.node_name_to_victims.items()
        }
    raise BadRequest("neither NodeNameToMetaVictims nor NodeNameToVictims")


def _ranked(value: Ints) -> Ints:
    """0 for the least value, one more for each greater one, 10 at most.

    Only differences matter to kube-scheduler, and a node with 0 need not be named at all.
    """
    tiers = np.unique(value)[-(MAX_SCORE + 1) :]
    scores: Ints = np.maximum(np.searchsorted(tiers, value, side="right") - 1, 0)
    return scores
