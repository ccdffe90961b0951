"""DefaultPreemption: room for a pod that fits nowhere is made by pods of lower priority.

Only its name and arguments are here, so that a profile can set them or leave it out; it looks at
whole trials of a pod, not at single nodes, and so lives in `scheduler.preemption`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from filters.common.plugin import Plugin


class DefaultPreemptionArgs(
    msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="camel"
):
    """How many nodes preemption looks at (upstream)."""

    min_candidate_nodes_percentage: int = 10
    """Share of the nodes in question, 0..100 per cent."""
    min_candidate_nodes_absolute: int = 100
    """And at least so many nodes."""


class DefaultPreemption(Plugin):
    NAME = "DefaultPreemption"

    def __init__(self, args: DefaultPreemptionArgs = DefaultPreemptionArgs()) -> None:
        if not 0 <= args.min_candidate_nodes_percentage <= 100:
            raise ValueError("minCandidateNodesPercentage: 0..100")
        if args.min_candidate_nodes_absolute < 1:
            raise ValueError("minCandidateNodesAbsolute: at least 1")
        self._args = args

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> "DefaultPreemption":
        return cls(msgspec.convert(args, DefaultPreemptionArgs))

    def wanted_candidates(self, nodes: int) -> int:
        """How many candidates are enough where so many nodes are in question."""
        share = nodes * self._args.min_candidate_nodes_percentage // 100
        return max(share, self._args.min_candidate_nodes_absolute)
