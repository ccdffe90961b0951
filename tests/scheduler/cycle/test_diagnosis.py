"""The text of a pod that fits nowhere, in kube-scheduler's form."""

from typing import Any

import pytest

from scheduler.cycle.diagnosis import NO_NODES, Diagnosis


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"node_count": 0}, NO_NODES),
        ({"node_count": 0, "post_filter_message": "preemption: x"}, NO_NODES),
        ({"node_count": 3}, "0/3 nodes are available:"),
        ({"node_count": 3, "counts": {"Insufficient cpu": 3}},
         "0/3 nodes are available: 3 Insufficient cpu."),
        # Sorted as strings, count included.
        ({"node_count": 12, "counts": {"a": 2, "b": 10}},
         "0/12 nodes are available: 10 b, 2 a."),
        ({"node_count": 1, "whole": "no claim", "counts": {"a": 1}},
         "0/1 nodes are available: no claim."),
        ({"node_count": 1, "counts": {"a": 1}, "post_filter_message": "preemption: none."},
         "0/1 nodes are available: 1 a. preemption: none."),
    ],
)  # fmt: skip
def test_a_message_counts_nodes_by_reason(fields: Any, message: str) -> None:
    assert Diagnosis(**fields).message == message
