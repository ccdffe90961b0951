"""What nodes offer and what their pods ask for, as metrics: /metrics/resources.

A page of its own, as kube-scheduler's, because it grows with the cluster.
"""

from collections.abc import Iterable

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.objects.requests import CPU, EPHEMERAL_STORAGE
from cluster.state.snapshot import Snapshot
from latency.matrix import FOREVER, Matrix

MILLI = 1000
SKIPPED = (EPHEMERAL_STORAGE,)
_encode = msgspec.json.Encoder().encode


class _Resources(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        snapshot, view = self._snapshot, self._snapshot.view()
        rows = np.flatnonzero(view.valid).tolist()
        offered = GaugeMetricFamily(
            "gsch_node_allocatable",
            "What a node offers: cores, bytes or counts",
            labels=["node", "resource"],
        )
        asked = GaugeMetricFamily(
            "gsch_node_requested",
            "What the pods of a node ask for: cores, bytes or counts",
            labels=["node", "resource"],
        )
        for name in snapshot.resource_names:
            if name in SKIPPED:
                continue
            unit = MILLI if name == CPU else 1
            have, used = view.allocatable(name), view.requested(name)
            for row in rows:
                if have[row] or used[row]:
                    labels = [snapshot.names[row], name]
                    offered.add_metric(labels, float(have[row]) / unit)
                    asked.add_metric(labels, float(used[row]) / unit)
        yield from (offered, asked)


def text(snapshot: Snapshot) -> bytes:
    """The page."""
    registry = CollectorRegistry()
    registry.register(_Resources(snapshot))
    return generate_latest(registry)


def latency(matrix: Matrix, now: float) -> bytes:
    """Every fresh pair as JSON: [{source, target, rtt_ms, age_s}], no age for what is written down.

    `now` is Unix time.
    """
    return _encode(
        [
            {
                "source": source,
                "target": target,
                "rtt_ms": round(ms, 4),
                "age_s": None if stamp == FOREVER else round(max(now - stamp, 0.0), 1),
            }
            for source, target, ms, stamp in matrix.pairs()
        ]
    )
