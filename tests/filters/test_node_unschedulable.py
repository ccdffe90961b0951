"""A cordoned node, and what would have to change."""

from filters.common.plugin import UNRESOLVABLE, PodInfo
from filters.node_unschedulable import NodeUnschedulable
from tests.harness.make import node, pod, snapshot

KEY = "node.kubernetes.io/unschedulable"


def test_removing_pods_does_not_help_on_a_cordoned_node() -> None:
    plugin, found = NodeUnschedulable(), snapshot(node("up"), node("cordoned", unschedulable=True))
    prepared = plugin.pre_filter(PodInfo.of(pod()), found)
    assert prepared is not None
    assert plugin.filter(prepared, found.view()).tolist() == [0, 1 | UNRESOLVABLE]
    assert [remedy.text for remedy in plugin.remedies(prepared, found, 1)] == [
        "the node uncordoned"
    ]


def test_a_toleration_of_another_effect_does_not_help() -> None:
    plugin, found = NodeUnschedulable(), snapshot(node("a"))
    for effect, asked in (("NoSchedule", False), ("", False), ("NoExecute", True)):
        tolerations = [{"key": KEY, "operator": "Exists", "effect": effect}]
        prepared = plugin.pre_filter(PodInfo.of(pod(tolerations=tolerations)), found)
        assert (prepared is not None) is asked
