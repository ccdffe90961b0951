"""What the pages show, whichever source it comes from."""

from dataclasses import dataclass, field
from typing import Protocol

from cluster.errors import ClusterError


class Unavailable(ClusterError):
    """The source cannot be asked; the text says which and why, for a person to read."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart: Unix times and values."""

    name: str
    times: list[float]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Overview:
    """Numbers of now, and how they ran. Rates are per second; None where nobody tells."""

    nodes: int | None = None
    pods: int | None = None
    pairs: int | None = None
    pending: dict[str, float] = field(default_factory=dict)
    rates: list[Series] = field(default_factory=list)
    queues: list[Series] = field(default_factory=list)
    p99_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A round trip; `loss` 0..1, `age` in seconds, None where nobody tells."""

    source: str
    target: str
    rtt_ms: float
    loss: float | None = None
    age: float | None = None


@dataclass(frozen=True, slots=True)
class PodPlacement:
    """A pod's latest decision; `node` empty where it waits. `at` is Unix time."""

    pod: str
    node: str
    policy: str
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class NodeUse:
    """Per resource (what pods ask for, what there is): cores, bytes, counts."""

    node: str
    resources: dict[str, tuple[float, float]]

    def share(self, resource: str) -> float | None:
        """0..1, None where the node has none of it."""
        used, there = self.resources.get(resource, (0.0, 0.0))
        return used / there if there else None


class Source(Protocol):
    """One cluster's numbers. Every call may raise Unavailable."""

    kind: str

    def overview(self, seconds: float) -> Overview: ...

    def pairs(self, between_clusters: bool) -> list[RoundTrip]:
        """Node to node within the cluster, or from cluster to cluster."""

    def placements(self) -> list[PodPlacement]: ...

    def nodes(self) -> list[NodeUse]: ...

    def data_age(self) -> float | None:
        """Seconds since the newest number, None where there is none at all."""
