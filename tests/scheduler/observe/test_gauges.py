"""What is waiting and what is cached, at the moment of a scrape."""

from typing import cast

from cluster.api.client import ApiClient
from cluster.api.writer import ApiWriter, Write
from cluster.state.records import amounts_of
from filters.common.plugin import Event, PodInfo
from scheduler.observe.gauges import gauges
from scheduler.queue.scheduling_queue import Delays, SchedulingQueue
from tests.harness.in_process import NoServer
from tests.harness.make import node, pod, snapshot


def test_gauges_tell_of_queues_cache_and_reports() -> None:
    queue = SchedulingQueue(Delays(), lambda: 100.0)
    for name in ("refused", "failed", "active"):
        new = pod(name)
        queue.add(new, PodInfo.of(new))
        if name == "active":
            break
        queued = queue.pop()
        assert queued is not None
        if name == "refused":
            queue.unschedulable(queued, Event.NODE_ADD, frozenset({"NodeResourcesFit"}))
        else:
            queue.back_off(queued)
    queue.add(pod("gated"), None)
    found = snapshot(node("a"), node("b"), pods=(pod("placed", nodeName="a"),))
    found.assume(pod("assumed"), amounts_of(pod("assumed")), 0)
    writer = ApiWriter(cast(ApiClient, NoServer()))
    writer.put("key", Write("POST", "/x", b"{}"))
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in gauges(queue, found, writer, pairs=12)
        for sample in metric.samples
    }
    assert values == {
        ("scheduler_pending_pods", "active"): 1,
        ("scheduler_pending_pods", "backoff"): 1,
        ("scheduler_pending_pods", "unschedulable"): 1,
        ("scheduler_pending_pods", "gated"): 1,
        ("scheduler_unschedulable_pods", "NodeResourcesFit", "gsch"): 1,
        ("scheduler_cache_size", "nodes"): 2,
        ("scheduler_cache_size", "pods"): 2,
        ("scheduler_cache_size", "assumed_pods"): 1,
        ("scheduler_cache_size", "latency_pairs"): 12,
        ("gsch_reports_pending",): 1,
        ("gsch_reports_dropped",): 0,
    }
