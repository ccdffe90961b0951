"""Numbers that are looked up when they are scraped: how much is waiting, and how much is cached."""

from collections.abc import Iterable

from prometheus_client.core import Metric

from cluster.api.writer import ApiWriter
from cluster.state.snapshot import Snapshot
from scheduler.observe.metrics import gauge
from scheduler.queue.scheduling_queue import QueueState, SchedulingQueue


def gauges(
    queue: SchedulingQueue, snapshot: Snapshot, writer: ApiWriter, pairs: int
) -> Iterable[Metric]:
    """`pairs` are round-trip times that are known."""
    states = (QueueState.ACTIVE, QueueState.BACKOFF, QueueState.UNSCHEDULABLE, QueueState.GATED)
    yield gauge(
        "scheduler_pending_pods",
        "Pending pods by queue",
        ["queue"],
        [([state.value], queue.counts[state]) for state in states],
    )
    yield gauge(
        "scheduler_unschedulable_pods",
        "Unschedulable pods by the plugin that refused them",
        ["plugin", "profile"],
        [([plugin, profile], number) for (plugin, profile), number in queue.refused.items()],
    )
    sizes = {
        "nodes": snapshot.node_count,
        "pods": len(snapshot.pods),
        "assumed_pods": len(snapshot.assumed),
        "latency_pairs": pairs,
    }
    yield gauge(
        "scheduler_cache_size",
        "Objects in the scheduler's cache",
        ["type"],
        [([name], size) for name, size in sizes.items()],
    )
    yield gauge(
        "gsch_reports_pending",
        "Events and conditions not yet written",
        [],
        [([], len(writer))],
    )
    yield gauge(
        "gsch_reports_dropped",
        "Events and conditions given up",
        [],
        [([], writer.dropped)],
    )
