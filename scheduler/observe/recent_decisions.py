"""The latest decisions, for people who look on: where pods went and why, and who waits for what."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scheduler.observe.metrics import gauge, samples

MAX_DECISIONS = 200
MAX_REASON_CHARS = 160
"""Characters of a reason that a label carries."""


@dataclass(frozen=True, slots=True)
class RecentDecision:
    """One pod's latest decision; `node` is empty where none took it. `at` is Unix time."""

    pod: str
    node: str
    policy: str
    why: str
    at: float


class RecentDecisions:
    """The last MAX_DECISIONS pods that were decided, each with its latest decision."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, RecentDecision] = OrderedDict()
        self._lines: dict[RecentDecision, bytes] = {}
        """Of the decisions that were scraped already: to write a sample costs more than all else
        about it."""

    def placed(self, pod: str, node: str, policy: str, why: str) -> None:
        self._keep(RecentDecision(pod, node, policy, why, self._clock()))

    def refused(self, pod: str, policy: str, why: str) -> None:
        self._keep(RecentDecision(pod, "", policy, why, self._clock()))

    def _keep(self, decision: RecentDecision) -> None:
        self._kept[decision.pod] = decision
        self._kept.move_to_end(decision.pod)
        if len(self._kept) > MAX_DECISIONS:
            self._kept.popitem(last=False)

    def forget(self, pod: str) -> None:
        """The pod was deleted."""
        self._kept.pop(pod, None)

    def text(self) -> bytes:
        """In Prometheus' text format, with one sample a pod."""
        kept = list(self._kept.values())
        fresh = [decision for decision in kept if decision not in self._lines]
        head, lines = _written(fresh)
        lines_by_decision = self._lines | dict(zip(fresh, lines, strict=True))
        self._lines = {decision: lines_by_decision[decision] for decision in kept}
        return head + b"".join(self._lines.values())


def _written(decisions: Sequence[RecentDecision]) -> tuple[bytes, list[bytes]]:
    return samples(
        gauge(
            "gsch_decision_timestamp_seconds",
            f"When the latest {MAX_DECISIONS} pods were decided last; no node where one waits",
            ["pod", "node", "policy", "why"],
            [([d.pod, d.node, d.policy, _short(d.why)], d.at) for d in decisions],
        )
    )


def _short(text: str) -> str:
    return text if len(text) <= MAX_REASON_CHARS else f"{text[: MAX_REASON_CHARS - 1]}…"
