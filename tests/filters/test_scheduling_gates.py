"""Pods with scheduling gates are not queued (KEP-3521)."""

from filters.scheduling_gates import SchedulingGates
from tests.harness.make import pod


def test_a_pod_is_held_back_for_as_long_as_it_has_gates() -> None:
    plugin = SchedulingGates()
    gates = [{"name": "quota"}, {"name": "example.com/ready"}]
    held = plugin.pre_enqueue(pod(schedulingGates=gates))
    assert held == "scheduling gates: quota, example.com/ready"
    assert plugin.pre_enqueue(pod(schedulingGates=[])) == ""
    assert plugin.pre_enqueue(pod()) == ""
