"""A pod that names its node."""

from filters.common.plugin import UNRESOLVABLE, PodInfo
from filters.node_name import NodeName
from tests.harness.make import node, pod, snapshot


def test_only_the_named_node_will_do_and_removing_pods_does_not_help_elsewhere() -> None:
    plugin, found = NodeName(), snapshot(node("a"), node("b"))
    assert plugin.pre_filter(PodInfo.of(pod()), found) is None
    for name, bits in (("b", [1 | UNRESOLVABLE, 0]), ("ghost", [1 | UNRESOLVABLE] * 2)):
        prepared = plugin.pre_filter(PodInfo.of(pod(nodeName=name)), found)
        assert prepared is not None
        assert plugin.filter(prepared, found.view()).tolist() == bits
