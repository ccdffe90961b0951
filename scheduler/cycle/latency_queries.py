"""How near nodes are to what a pod is to be near to, as the profile's latency plugins have it."""

from collections.abc import Sequence

from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from filters.low_latency import LowLatency, Nearness
from latency.matrix import Milliseconds


class LatencyQueries:
    """Of one profile. A profile without the plugin LowLatency knows of nothing near."""

    def __init__(self, plugins: Sequence[LowLatency]) -> None:
        self.plugins = tuple(plugins)

    @property
    def resolution_ms(self) -> float:
        """Below which two round-trip times count as the same; 0 without the plugin."""
        return next((plugin.resolution_ms for plugin in self.plugins), 0.0)

    def nearness(self, info: PodInfo, snapshot: Snapshot) -> Nearness | None:
        """How far every row is from what the pod is to be near to; None for nothing."""
        answers = (plugin.nearness(info, snapshot) for plugin in self.plugins)
        return next((nearness for nearness in answers if nearness is not None), None)

    def times(self, info: PodInfo, snapshot: Snapshot) -> Milliseconds | None:
        """Round-trip times from the pod's source to every row; None where it has no source."""
        answers = (plugin.times(info, snapshot) for plugin in self.plugins)
        return next((times for times in answers if times is not None), None)

    def from_node(self, source: str, snapshot: Snapshot) -> Nearness | None:
        """How far every row is from this node; None without the plugin."""
        return next((plugin.from_node(source, snapshot) for plugin in self.plugins), None)
