"""The latest decisions, for people who look on: where pods went and why, and who waits for what."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import Metric

from scheduler.metrics import gauge

KEPT = 200
WORDS = 160
"""Characters of a reason that a label carries."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One pod's latest decision; `node` is empty where none took it. `at` is Unix time."""

    pod: str
    node: str
    policy: str
    why: str
    at: float


class Recent:
    """The last KEPT pods that were decided, each with its latest decision."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, Decision] = OrderedDict()

    def placed(self, pod: str, node: str, policy: str, why: str) -> None:
        self._keep(Decision(pod, node, policy, why, self._clock()))

    def refused(self, pod: str, policy: str, why: str) -> None:
        self._keep(Decision(pod, "", policy, why, self._clock()))

    def _keep(self, decision: Decision) -> None:
        self._kept[decision.pod] = decision
        self._kept.move_to_end(decision.pod)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def gone(self, pod: str) -> None:
        """The pod was deleted."""
        self._kept.pop(pod, None)

    def metrics(self) -> Iterable[Metric]:
        yield gauge(
            "gsch_decision_timestamp_seconds",
            f"When each of the latest {KEPT} pods was decided last; no node where it waits",
            ["pod", "node", "policy", "why"],
            [([d.pod, d.node, d.policy, _short(d.why)], d.at) for d in self._kept.values()],
        )


def _short(text: str) -> str:
    return text if len(text) <= WORDS else f"{text[: WORDS - 1]}…"
