"""The scheduling cycle: from a pod to a node, serial and without I/O."""

import random
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from cluster.snapshot import Snapshot
from cluster.storage import VolumePlan
from filters.framework import PodInfo, Unsignable
from scheduler.diagnosis import Diagnosis
from scheduler.evaluation import Evaluation, PluginSet
from scheduler.profiles import Framework
from scheduler.trial import Nominated, Trial

CLASSES_KEPT = 128

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Decision:
    """The row to bind to, or why there is none; `reservation` is to be carried out before."""

    row: int
    trial: Trial
    diagnosis: Diagnosis | None = None
    reservation: VolumePlan | None = None


class Cycle:
    """Decides pod after pod over one snapshot, keeping an Evaluation for each class of pods."""

    def __init__(self, snapshot: Snapshot, seed: int | None = None) -> None:
        self._snapshot = snapshot
        self._random = random.Random(seed)
        self._kept: OrderedDict[bytes, Evaluation] = OrderedDict()

    def clear(self) -> None:
        """Forget all classes: the plugins are no longer the same."""
        self._kept.clear()

    def decide(
        self, framework: Framework, info: PodInfo, nominated: Nominated = (), prefer: int = -1
    ) -> Decision:
        """Filter, score and select. The caller assumes the pod on the node.

        The row `prefer`, where feasible, is taken without looking at the others: room was made
        there for this very pod.
        """
        trial = self.trial(framework, info, nominated)
        if prefer >= 0 and trial.rejection is None and trial.feasible[prefer]:
            return Decision(prefer, trial, reservation=trial.reserve(prefer))
        row = trial.select(self._random)
        if row >= 0:
            return Decision(row, trial, reservation=trial.reserve(row))
        return Decision(-1, trial, self._diagnose(trial))

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
        evaluation = self._evaluation(framework, plugins, info)
        return Trial(plugins, evaluation, info, self._snapshot, nominated)

    def _evaluation(self, framework: Framework, plugins: PluginSet, info: PodInfo) -> Evaluation:
        """The pod's class, up to date with the snapshot."""
        signature = _sign(framework, plugins, info)
        evaluation = self._kept.get(signature) if signature else None
        if evaluation is None or evaluation.stale:
            evaluation = Evaluation(plugins, info, self._snapshot)
            if signature:
                self._keep(signature, evaluation)
        elif signature:
            self._kept.move_to_end(signature)
        evaluation.refresh()
        return evaluation

    def _keep(self, signature: bytes, evaluation: Evaluation) -> None:
        self._kept[signature] = evaluation
        self._kept.move_to_end(signature)
        if len(self._kept) > CLASSES_KEPT:
            self._kept.popitem(last=False)


def _sign(framework: Framework, plugins: PluginSet, info: PodInfo) -> bytes | None:
    try:
        parts = [plugin.sign(info) for plugin in plugins.local_filters]
        parts += [plugin.sign(info) for plugin, _ in plugins.local_scores]
    except Unsignable:
        return None
    return _encode((framework.name, info.policy, info.weights, bool(plugins.scores), parts))
