"""The scheduling cycle: from a pod to a node, serial and without I/O."""

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from cluster.state.snapshot import Snapshot
from filters.common.plugin import FilterPlugin, PodInfo, ScorePlugin, Unsignable
from scheduler.cycle.diagnosis import Diagnosis
from scheduler.cycle.evaluation import Evaluation, NodePart, PluginSet
from scheduler.cycle.framework import Framework
from scheduler.cycle.trial import Nominated, Trial

MAX_CLASSES, MIN_CLASSES = 128, 8
MAX_CLASS_BYTES = 96 * 1024 * 1024
BYTES_A_ROW = 80
"""Of a kept class, with its node part and the states ahead."""

T = TypeVar("T")

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class ScheduleResult:
    """The row to bind to."""

    row: int
    trial: Trial


@dataclass(frozen=True, slots=True)
class FitError:
    """Why there is no row to bind to."""

    trial: Trial
    diagnosis: Diagnosis


Decision = ScheduleResult | FitError
"""Upstream's names for the two outcomes of a scheduling cycle."""


class Cycle:
    """Decides pod after pod over one snapshot, keeping an Evaluation for each class of pods."""

    def __init__(self, snapshot: Snapshot, seed: int | None = None) -> None:
        self._snapshot = snapshot
        self._random = random.Random(seed)
        self._kept: OrderedDict[bytes, Evaluation] = OrderedDict()
        self._node_parts: OrderedDict[bytes, NodePart] = OrderedDict()
        self._last: _Signed | None = None

    def clear(self) -> None:
        """Forget all classes: the plugins are no longer the same."""
        self._kept.clear()
        self._node_parts.clear()
        self._last = None

    def decide(
        self,
        framework: Framework,
        info: PodInfo,
        nominated: Nominated = (),
        prefer: int | None = None,
    ) -> Decision:
        """Filter, score and select. The caller assumes the pod on the node.

        The row `prefer`, where feasible, is taken without looking at the others: room was made
        there for this very pod.
        """
        trial = self.trial(framework, info, nominated)
        if prefer is not None and trial.rejection is None and trial.feasible[prefer]:
            return ScheduleResult(prefer, trial)
        row = trial.select(self._random)
        if row is not None:
            return ScheduleResult(row, trial)
        return FitError(trial, self._diagnose(trial))

    def _diagnose(self, trial: Trial) -> Diagnosis:
        """Kept for the class until the snapshot changes, where the class decides alone."""
        if not trial.shared:
            return trial.diagnose()
        kept = trial.evaluation.diagnosis
        if kept is None or kept[0] != self._snapshot.version:
            kept = trial.evaluation.diagnosis = self._snapshot.version, trial.diagnose()
        return kept[1]

    def trial(
        self, framework: Framework, info: PodInfo, nominated: Nominated = (), scored: bool = True
    ) -> Trial:
        """The pod against every node of the snapshot as it is; unless `scored`, filters alone."""
        plugins = framework.plugins(info.policy, info.weights) if scored else framework.filtering
        named = plugins.named_node(info)
        shared = info if named is None else named[1].without
        evaluation = self._evaluation(framework, plugins, shared)
        naming = None if named is None else named[0]
        return Trial(plugins, evaluation, info, self._snapshot, nominated, naming)

    def _evaluation(self, framework: Framework, plugins: PluginSet, info: PodInfo) -> Evaluation:
        """The pod's class, up to date with the snapshot."""
        of_node, of_row = self._signatures(framework, plugins, info)
        if of_node is None or of_row is None:
            evaluation = Evaluation(plugins, info, self._snapshot)
            evaluation.refresh()
            return evaluation
        signature = of_node + of_row
        evaluation = self._kept.get(signature) or Evaluation(
            plugins, info, self._snapshot, self._node_part(of_node, plugins, info)
        )
        if evaluation.stale:
            part = self._node_part(of_node, plugins, info)
            evaluation = Evaluation(plugins, info, self._snapshot, part)
        # A pod that names its nodes shares them with few others: it is no class to be kept.
        if evaluation.prefiltered.only is None:
            self._keep(self._kept, signature, evaluation)
        evaluation.refresh()
        return evaluation

    def _signatures(
        self, framework: Framework, plugins: PluginSet, info: PodInfo
    ) -> tuple[bytes | None, bytes | None]:
        """What the plugins that read nodes, and those that read rows, sign; the same as last time
        for a pod that is like the last one."""
        last = self._last
        if last is not None and last.plugins is plugins and _alike(last.info, info):
            return last.signatures
        head = framework.name, info.policy, info.weights, bool(plugins.scores)
        of_node = _sign(head, plugins.node_filters, plugins.node_scores, info)
        of_row = _sign((), plugins.row_filters, plugins.row_scores, info) if of_node else None
        self._last = _Signed(plugins, info, (of_node, of_row))
        return of_node, of_row

    def _node_part(self, signature: bytes, plugins: PluginSet, info: PodInfo) -> NodePart:
        """What plugins that read nodes alone say of the pod, kept for all that sign alike to
        them."""
        part = self._node_parts.get(signature)
        if part is None or part.stale:
            part = NodePart(plugins, info, self._snapshot)
        if part.prefiltered.only is None:
            self._keep(self._node_parts, signature, part)
        part.refresh()
        return part

    def _keep(self, kept: OrderedDict[bytes, T], signature: bytes, value: T) -> None:
        kept[signature] = value
        kept.move_to_end(signature)
        capacity = MAX_CLASS_BYTES // (BYTES_A_ROW * max(len(self._snapshot), 1))
        if len(kept) > min(max(capacity, MIN_CLASSES), MAX_CLASSES):
            kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Signed:
    """The last pod that was decided, with its signatures."""

    plugins: PluginSet
    info: PodInfo
    signatures: tuple[bytes | None, bytes | None]


def _alike(one: PodInfo, other: PodInfo) -> bool:
    """Whether two pods differ in their names alone."""
    a, b = one.pod, other.pod
    return (
        a.spec == b.spec
        and a.metadata.labels == b.metadata.labels
        and a.metadata.namespace == b.metadata.namespace
        and a.status == b.status
        and one.needs == other.needs
        and (one.policy, one.weights, one.near_node, one.near_pod)
        == (other.policy, other.weights, other.near_node, other.near_pod)
    )


def _sign(
    head: tuple[Any, ...],
    filters: Sequence[FilterPlugin],
    scores: Sequence[tuple[ScorePlugin, int]],
    info: PodInfo,
) -> bytes | None:
    """All that these plugins read of the pod; None where one cannot say."""
    try:
        parts = [plugin.sign(info) for plugin in filters]
        parts += [plugin.sign(info) for plugin, _ in scores]
    except Unsignable:
        return None
    return _encode((head, parts))
