"""What the layer knows of its clusters, from their agents' reports, and which of them to ask.

Reports are kept as arrays, one row a node shape, so that a thousand clusters are ranked at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from federation.request import LOW_LATENCY, ClusterLost, PodNeeds, Request

LEASE_S = 15.0
"""Seconds without a report after which a cluster is lost."""
FIRST_RESOURCES = ("cpu", "memory", "nvidia.com/gpu", "pods")
UNKNOWN_RTT_MS = 1e6
MAX_NAMED = 60
"""Resources that are named at most where a cluster lacks them."""
MAX_SHAPES = 20
"""Node shapes that are kept of one cluster; agents send no more."""


class NodeShape(msgspec.Struct, frozen=True):
    """Nodes that are alike: how many, what each offers and what each has left, at least."""

    count: int
    allocatable: dict[str, int]
    free: dict[str, int]


class Report(msgspec.Struct, frozen=True):
    """What a cluster's agent says of it, every few seconds."""

    cluster: str
    shapes: list[NodeShape] = []
    location: str = "edge"
    """`edge`, `near` or `cloud`."""
    rtts_ms: dict[str, float] = {}
    """Round-trip times to other clusters."""
    storage_classes: list[str] = []
    agent: str = ""
    """Which of the agent's replicas speaks."""
    number: int = 0
    """Which of its reports it is: acknowledged by it."""
    pod_networks: list[str] = []
    """Of the cluster's pods, as CIDRs."""
    stops_when_cut_off: bool = False
    """Whether the agent is near enough to stop copies when it hears nothing of the layer."""


class ReportedCluster(msgspec.Struct):
    """The latest report of a cluster, and when it came (Unix time)."""

    report: Report
    heard_at: float
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """A cluster with room, by its report: the higher `score` (0..100), the better; under low
    latency the lower `rtt_ms`."""

    cluster: str
    score: float
    rtt_ms: float


class Fleet:
    """All clusters that ever reported. Reports are taken on one thread while another ranks: a
    ranking may mix two reports of a cluster, which the cluster itself then puts right."""

    def __init__(self, since: float = 0.0) -> None:
        """`since` is when we began to listen (Unix time): our own absence is no cluster's."""
        self._since = since
        self.clusters: dict[str, ReportedCluster] = {}
        self._shapes = _Shapes()

    def set(self, report: Report, heard_at: float, abandoned: bool = False) -> None:
        if all(heard_at - one.heard_at > LEASE_S / 2 for one in self.clusters.values()):
            # Silence of all of them was our own: the bus, the database or we were away.
            self._since = max(self._since, heard_at)
        reported = ReportedCluster(report, heard_at, abandoned)
        # Before anybody may rank it.
        self._shapes.set(report)
        if report.cluster in self.clusters:
            self.clusters[report.cluster] = reported
        else:
            # Replaced, not changed: somebody may be going through it.
            self.clusters = {**self.clusters, report.cluster: reported}

    def lost(self, cluster: str, now: float, after_s: float = LEASE_S) -> bool:
        """Whether the cluster's agent was not heard of for a lease, or for so long."""
        reported = self.clusters.get(cluster)
        if reported is None or reported.abandoned:
            return True
        return now - max(reported.heard_at, self._since) > after_s

    def any_there(self, now: float) -> bool:
        """Whether any cluster could be asked."""
        return any(not self.lost(name, now) for name in self.clusters)

    def rank(
        self, request: Request, names: Sequence[str], now: float
    ) -> tuple[list[Ranked], dict[str, str]]:
        """(those of the clusters that may have room, best first; why each other one is out)."""
        out: dict[str, str] = {}
        there = []
        since = now - LEASE_S
        checked = (
            request.cluster_lost is ClusterLost.STOP_AND_MOVE
            or bool(request.locations)
            or bool(request.storage_classes)
        )
        for name in names:
            reported = self.clusters.get(name)
            if (
                reported is not None
                and reported.heard_at >= since
                and not reported.abandoned
                and not checked
            ):
                there.append(name)
            elif reason := self._unsuited(request, name, now):
                out[name] = reason
            else:
                there.append(name)
        if not there:
            return [], out
        judged = self._shapes.judge(request.pods, there, whole=not request.divided)
        for index, why in judged.reasons():
            out[there[index]] = f"no node has room: {why}"
        fitting = np.flatnonzero(judged.fits)
        rtts = self._rtts(request.source.cluster, [there[i] for i in fitting.tolist()])
        scores = judged.score[fitting]
        # Where the room may be promised already it is asked for last.
        later = judged.promised[fitting]
        by = (-scores, rtts, later) if request.policy == LOW_LATENCY else (-scores, later)
        order = np.lexsort(by)
        return [
            Ranked(there[fitting[i]], float(scores[i]), float(rtts[i])) for i in order.tolist()
        ], out

    def promise(self, cluster: str, pods: Sequence[PodNeeds], share: float) -> None:
        """Room for this share of the pods is held in the cluster (negative: no more), which its
        next report will show."""
        self._shapes.promise(cluster, pods, share)

    def _unsuited(self, request: Request, name: str, now: float) -> str:
        """Why the cluster cannot be asked, whatever room it has; empty where it can."""
        reported = self.clusters.get(name)
        if reported is None:
            return "no agent of this cluster has ever reported"
        if self.lost(name, now):
            return f"lost: its agent was last heard of {now - reported.heard_at:.0f} s ago"
        report = reported.report
        if request.locations and report.location not in request.locations:
            return f"its location is {report.location}, not {' or '.join(request.locations)}"
        missing = sorted(set(request.storage_classes).difference(report.storage_classes))
        if missing:
            return f"it has no StorageClass {', '.join(missing)}"
        stops = report.stops_when_cut_off
        if request.cluster_lost is ClusterLost.STOP_AND_MOVE and not stops:
            return (
                "its agent runs beside the layer, so it could not stop the copy when the cluster "
                "is cut off (stop-and-move)"
            )
        return ""

    def _rtts(self, source: str, targets: Sequence[str]) -> NDArray[np.float64]:
        if not source:
            return np.zeros(len(targets))
        rtts = (self._rtt(source, target) for target in targets)
        return np.fromiter(rtts, np.float64, len(targets))

    def _rtt(self, source: str, target: str) -> float:
        """Between two clusters, from whichever of them measured it."""
        if not source or source == target:
            return 0.0
        for reporter, peer in ((source, target), (target, source)):
            reported = self.clusters.get(reporter)
            if reported is not None and peer in reported.report.rtts_ms:
                return reported.report.rtts_ms[peer]
        return UNKNOWN_RTT_MS


@dataclass(frozen=True, slots=True)
class _Judged:
    """By cluster: whether each kind of pod fits on some node there, whether that room may have been
    promised to others, how full (0..100) the fullest such node would be, and by resource, where
    no node has enough of it."""

    fits: NDArray[np.bool_]
    promised: NDArray[np.bool_]
    score: NDArray[np.float64]
    short: dict[str, NDArray[np.bool_]]

    def reasons(self) -> Iterator[tuple[int, str]]:
        """(index, why) of each cluster that does not fit; few texts for many clusters."""
        names = sorted(self.short)[:MAX_NAMED]
        code = np.zeros(len(self.fits), np.int64)
        for bit, name in enumerate(names):
            code |= self.short[name].astype(np.int64) << bit
        indexes = np.flatnonzero(~self.fits)
        texts: dict[int, str] = {}
        for index, one in zip(indexes.tolist(), code[indexes].tolist(), strict=True):
            text = texts.get(one)
            if text is None:
                lacking = [name for bit, name in enumerate(names) if one >> bit & 1]
                text = f"insufficient {', '.join(lacking)}"
                texts[one] = text = text if lacking else "what is free lies on other nodes"
            yield index, text


class _Shapes:
    """Node shapes as arrays: cluster × shape × resource. A shape that a cluster lacks has less than
    nothing free. Beside them cluster × resource: what all nodes of a cluster have free, at most,
    and the ledger of what was promised of it since the cluster's last report."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._columns = {name: index for index, name in enumerate(FIRST_RESOURCES)}
        self._free = np.full((0, MAX_SHAPES, len(FIRST_RESOURCES)), -1.0)
        self._offered = np.zeros((0, MAX_SHAPES, len(FIRST_RESOURCES)))
        self._total = np.zeros((0, len(FIRST_RESOURCES)))
        self._promised = np.zeros((0, len(FIRST_RESOURCES)))

    def set(self, report: Report) -> None:
        shapes = report.shapes[:MAX_SHAPES]
        names = {name for shape in shapes for name in (*shape.allocatable, *shape.free)}
        columns = dict(self._columns)
        for name in sorted(names - columns.keys()):
            columns[name] = len(columns)
        # Arrays are widened before anybody may look for the new columns.
        row = self._make_room(report.cluster, len(columns))
        self._columns = columns
        free = np.full(self._free.shape[1:], -1.0)
        offered = np.zeros(self._offered.shape[1:])
        for index, shape in enumerate(shapes):
            free[index] = 0.0
            for name, amount in shape.free.items():
                free[index, self._columns[name]] = amount
            for name, amount in shape.allocatable.items():
                offered[index, self._columns[name]] = amount
        counts = np.array([shape.count for shape in shapes], np.float64)
        self._free[row], self._offered[row] = free, offered
        self._total[row] = counts @ free[: len(shapes)]
        self._promised[row] = 0.0

    def promise(self, cluster: str, pods: Sequence[PodNeeds], share: float) -> None:
        row = self._rows.get(cluster)
        if row is None:
            return
        for needs in pods:
            for name, amount in needs.requests.items():
                column = self._columns.get(name)
                if column is not None:
                    self._promised[row, column] += amount * needs.count * share

    def judge(self, pods: Sequence[PodNeeds], names: Sequence[str], *, whole: bool) -> _Judged:
        """Of these clusters, which have all reported. `whole`: all of the pods are to fit."""
        # First the columns: whichever arrays are read after them have these.
        columns = self._columns
        rows = np.fromiter((self._rows[name] for name in names), np.intp, len(names))
        total, promised = self._total[rows], self._promised[rows]
        free, offered = self._free[rows], self._offered[rows]
        fits = (free[:, :, 0] >= 0).any(axis=1)
        score = np.zeros(len(names))
        short: dict[str, NDArray[np.bool_]] = {}
        wanted: dict[str, int] = {}
        nowhere, none = np.zeros(free.shape[:2], np.bool_), np.zeros(len(names), np.bool_)
        for needs in pods:
            suits = free[:, :, 0] >= 0
            for name, amount in needs.requests.items():
                if not amount:
                    continue
                column = columns.get(name)
                enough = nowhere if column is None else free[:, :, column] >= amount
                short[name] = short.get(name, none) | ~enough.any(axis=1)
                suits = suits & enough
                wanted[name] = wanted.get(name, 0) + amount * (needs.count if whole else 1)
            fits &= suits.any(axis=1)
            shares = [
                np.clip(
                    (offered[:, :, c] - free[:, :, c] + needs.requests.get(name, 0))
                    / np.maximum(offered[:, :, c], 1.0),
                    0.0,
                    1.0,
                )
                for name in ("cpu", "memory")
                for c in (columns[name],)
            ]
            # Upstream's MostAllocated, of the shapes on which the pod fits.
            fullness = np.where(suits, 50.0 * (shares[0] + shares[1]), 0.0)
            score = np.maximum(score, fullness.max(axis=1))
        by_column = [(name, columns[name], n) for name, n in wanted.items() if name in columns]
        for name, column, amount in by_column:
            too_little = total[:, column] < amount
            short[name] = short[name] | too_little
            fits &= ~too_little
        taken = np.zeros(len(names), np.bool_)
        for _, column, amount in by_column:
            # The report may show it already: no reason not to ask, only to ask others first.
            taken |= total[:, column] - promised[:, column] < amount
        return _Judged(np.asarray(fits), taken, score, short)

    def _make_room(self, cluster: str, columns: int) -> int:
        """The cluster's row, in arrays of so many columns."""
        clusters, _, resources = self._free.shape
        row = self._rows.setdefault(cluster, len(self._rows))
        more = max(clusters, 8) if row >= clusters else 0
        wider = columns - resources
        if not more and not wider:
            return row
        padding = ((0, more), (0, 0), (0, wider))
        free = np.pad(self._free, padding, constant_values=-1.0)
        # Of a shape that is there, nothing is free of a resource that it does not offer.
        free[:clusters, :, resources:] = np.where(self._free[:, :, :1] >= 0, 0.0, -1.0)
        self._offered, self._free = np.pad(self._offered, padding), free
        by_cluster = ((0, more), (0, wider))
        self._total = np.pad(self._total, by_cluster)
        self._promised = np.pad(self._promised, by_cluster)
        return row
