"""Why a pod fits nowhere, in the words that kube-scheduler's users know."""

from collections.abc import Mapping
from dataclasses import dataclass, field

NO_NODES = "no nodes available to schedule pods"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """How many nodes gave which reason, and the plugins that refused.

    Each node counts for its first failing plugin only, which may give several reasons. A reason
    that no node gave but holds for the pod as a whole stands in `whole`; with `resolvable` False,
    removing pods cannot change it. `post_filter_message` is added by preemption and other
    post-filter plugins."""

    node_count: int
    counts: Mapping[str, int] = field(default_factory=dict)
    plugins: frozenset[str] = frozenset()
    whole: str = ""
    resolvable: bool = True
    post_filter_message: str = ""

    @property
    def reasons(self) -> str:
        """`count reason` sorted as strings, count included; as upstream's FitError."""
        if self.whole:
            return self.whole
        return ", ".join(sorted(f"{count} {reason}" for reason, count in self.counts.items()))

    @property
    def message(self) -> str:
        """The text of the event and of the PodScheduled condition."""
        if not self.node_count:
            return NO_NODES
        head = f"0/{self.node_count} nodes are available"
        text = f"{head}: {self.reasons}." if self.reasons else f"{head}:"
        return f"{text} {self.post_filter_message}" if self.post_filter_message else text
