"""The scheduling cycle: from a pod to a node, serial and without I/O."""

import random
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from cluster.snapshot import Snapshot
from filters.framework import PodInfo, Unsignable
from scheduler.diagnosis import Diagnosis
from scheduler.evaluation import Evaluation, PluginSet
from scheduler.profiles import Framework

CLASSES_KEPT = 128

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Decision:
    """The row to bind to, or why there is none."""

    row: int
    diagnosis: Diagnosis | None = None


class Cycle:
    """Decides pod after pod over one snapshot, keeping an Evaluation for each class of pods."""

    def __init__(self, snapshot: Snapshot, seed: int | None = None) -> None:
        self._snapshot = snapshot
        self._random = random.Random(seed)
        self._kept: OrderedDict[bytes, Evaluation] = OrderedDict()

    def clear(self) -> None:
        """Forget all classes: the plugins are no longer the same."""
        self._kept.clear()

    def decide(self, framework: Framework, info: PodInfo) -> Decision:
        """Filter, score and select. The caller assumes the pod on the node."""
        evaluation = self.evaluate(framework, info)
        if evaluation.rejection is None:
            row = evaluation.select(self._random)
            if row >= 0:
                return Decision(row)
        return Decision(-1, evaluation.diagnose())

    def evaluate(self, framework: Framework, info: PodInfo) -> Evaluation:
        """The pod's class, up to date with the snapshot."""
        plugins = framework.plugins(info.policy)
        signature = _sign(framework, plugins, info)
        evaluation = self._kept.get(signature) if signature else None
        if evaluation is None or evaluation.stale:
            evaluation = Evaluation(plugins, info, self._snapshot)
            if signature and evaluation.rejection is None:
                self._keep(signature, evaluation)
        elif signature:
            self._kept.move_to_end(signature)
        if evaluation.rejection is None:
            evaluation.refresh()
        return evaluation

    def _keep(self, signature: bytes, evaluation: Evaluation) -> None:
        self._kept[signature] = evaluation
        self._kept.move_to_end(signature)
        if len(self._kept) > CLASSES_KEPT:
            self._kept.popitem(last=False)


def _sign(framework: Framework, plugins: PluginSet, info: PodInfo) -> bytes | None:
    try:
        parts = [plugin.sign(info) for plugin in plugins.filters]
        parts += [plugin.sign(info) for plugin, _ in plugins.scores]
        parts += [plugin.sign(info) for plugin in plugins.prefers]
    except Unsignable:
        return None
    return _encode((framework.name, info.policy, parts))
