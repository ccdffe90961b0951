"""The two sources: Prometheus, and without one the scheduler's own pages."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import requests
import structlog
from prometheus_client.parser import text_string_to_metric_families
from urllib3.exceptions import HTTPError

from console.readings import NodeUse, Overview, PodPlacement, RoundTrip, Series, Unavailable
from console.settings import Cluster, SettingsError, SourceAddress
from latency.pairs import LatencyError
from latency.sources.prometheus import AGE, LOSS, Login, Prometheus

log = structlog.get_logger(__name__)

POINTS = 180
"""Points of a chart's line."""
RATE_OVER = 60.0
TIMEOUT = 8.0
MAX_BODY = 64 * 1024 * 1024
POLL = 5.0
KEPT = int(6 * 3600 / POLL)
"""Readings that the console keeps of a scheduler without a Prometheus: six hours."""

ATTEMPTS = "scheduler_schedule_attempts_total"
PENDING = "scheduler_pending_pods"
SIZES = "scheduler_cache_size"
DECISIONS = "gsch_decision_timestamp_seconds"
ALLOCATABLE, REQUESTED = "gsch_node_allocatable", "gsch_node_requested"
SLI = "scheduler_pod_scheduling_sli_duration_seconds"


def source_of(cluster: Cluster) -> "FromPrometheus | FromScheduler":
    """Raises SettingsError for a token that cannot be read."""
    if cluster.prometheus.url:
        return FromPrometheus(cluster.prometheus, cluster.label)
    return FromScheduler(cluster.scheduler)


def secret(path: str) -> str:
    try:
        return Path(path).read_text().strip() if path else ""
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error


class FromPrometheus:
    """Everything by queries."""

    kind = "Prometheus"

    def __init__(self, endpoint: SourceAddress, label: str = "") -> None:
        login = Login(
            secret(endpoint.token_file),
            endpoint.username,
            secret(endpoint.password_file),
            endpoint.ca_file,
        )
        self._server = Prometheus(endpoint.url, login)
        self._label = f',source_cluster="{label}",target_cluster="{label}"' if label else ""

    def _query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        try:
            result = self._server.query(expression)
        except LatencyError as error:
            raise Unavailable(str(error)) from error
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def _one(self, expression: str) -> float | None:
        values = [value for _, value in self._query(expression) if not math.isnan(value)]
        return values[0] if values else None

    def _lines(self, expression: str, label: str, seconds: float) -> list[Series]:
        end = datetime.now(UTC)
        start = end - timedelta(seconds=seconds)
        try:
            lines = self._server.query_range(expression, start, end, max(seconds / POINTS, 1))
        except LatencyError as error:
            raise Unavailable(str(error)) from error
        return [
            Series(
                line["metric"].get(label, ""),
                [float(at) for at, _ in line["values"]],
                [float(value) for _, value in line["values"]],
            )
            for line in lines
        ]

    def overview(self, seconds: float) -> Overview:
        window = f"{max(seconds / POINTS * 4, 15):.0f}s"
        sizes = {m.get("type", ""): v for m, v in self._query(f"max by (type) ({SIZES})")}
        pending = {m.get("queue", ""): v for m, v in self._query(f"max by (queue) ({PENDING})")}
        quantile = f"histogram_quantile(0.99, sum by (le) (rate({SLI}_bucket[5m])))"
        return Overview(
            nodes=_whole(sizes.get("nodes")),
            pods=_whole(sizes.get("pods")),
            pairs=_whole(sizes.get("latency_pairs")),
            pending=pending,
            rates=self._lines(f"sum by (result) (rate({ATTEMPTS}[{window}]))", "result", seconds),
            queues=self._lines(f"max by (queue) ({PENDING})", "queue", seconds),
            p99_seconds=self._one(quantile),
        )

    def pairs(self, between_clusters: bool) -> list[RoundTrip]:
        if between_clusters:
            return self._between_clusters()
        times = self._query(f'gsch_rtt_seconds{{quantile="0.5"{self._label}}}')
        loss = {_pair(m): v for m, v in self._query(LOSS)}
        ages = {_pair(m): v for m, v in self._query(AGE)}
        return [
            RoundTrip(
                m["source"],
                m["target"],
                value * 1000,
                loss.get(_pair(m)),
                ages.get(_pair(m)),
            )
            for m, value in times
            if m.get("source_cluster", "") == m.get("target_cluster", "")
        ]

    def _between_clusters(self) -> list[RoundTrip]:
        try:
            readings = self._server.cluster_readings()
        except LatencyError as error:
            raise Unavailable(str(error)) from error
        now = time.time()
        columns = zip(
            readings.sources, readings.targets, readings.times, readings.stamps, strict=True
        )
        return [
            RoundTrip(source, target, float(ms), None, max(now - float(at), 0.0) if at else None)
            for source, target, ms, at in columns
        ]

    def placements(self) -> list[PodPlacement]:
        return _placements(self._query(DECISIONS))

    def nodes(self) -> list[NodeUse]:
        return _uses(self._query(ALLOCATABLE), self._query(REQUESTED))

    def data_age(self) -> float | None:
        newest = self._one(f"max(timestamp({SIZES}) or timestamp(gsch_rtt_seconds))")
        return None if newest is None else max(time.time() - newest, 0.0)


class FromScheduler:
    """A scheduler's /metrics, read every few seconds by a thread of its own and kept for a while.

    Without a history of its own the scheduler has no past: charts begin when the console does.
    """

    kind = "the scheduler itself"

    def __init__(self, endpoint: SourceAddress) -> None:
        self._http = HttpSource(endpoint)
        self._kept: deque[tuple[float, dict[str, float], dict[str, float]]] = deque(maxlen=KEPT)
        self._latest: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        self._problem = "the first reading is still to come"
        self._read_at: float | None = None
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            try:
                self._latest = samples(self._http.text("/metrics"))
                now = time.time()
                attempts = _by(self._latest.get(ATTEMPTS, ()), "result")
                pending = _by(self._latest.get(PENDING, ()), "queue")
                self._kept.append((now, attempts, pending))
                self._read_at, self._problem = now, ""
            except Unavailable as error:
                self._problem = str(error)
            except Exception as error:
                # Whatever it was, the next reading may be better.
                log.exception("reading not taken")
                self._problem = f"a reading failed: {error!r}"
            time.sleep(POLL)

    def _samples(self, name: str) -> list[tuple[Mapping[str, str], float]]:
        if self._read_at is None:
            raise Unavailable(self._problem)
        return self._latest.get(name, [])

    def overview(self, seconds: float) -> Overview:
        sizes = _by(self._samples(SIZES), "type")
        since = time.time() - seconds
        kept = [entry for entry in list(self._kept) if entry[0] >= since]
        return Overview(
            nodes=_whole(sizes.get("nodes")),
            pods=_whole(sizes.get("pods")),
            pairs=_whole(sizes.get("latency_pairs")),
            pending=_by(self._samples(PENDING), "queue"),
            rates=_rates([(at, attempts) for at, attempts, _ in kept]),
            queues=_as_series([(at, pending) for at, _, pending in kept]),
            p99_seconds=_quantile(self._samples(f"{SLI}_bucket"), 0.99),
        )

    def pairs(self, between_clusters: bool) -> list[RoundTrip]:
        if between_clusters:
            return []
        return [
            RoundTrip(one["source"], one["target"], float(one["rtt_ms"]), None, one.get("age_s"))
            for one in self._http.json("/latency")
        ]

    def placements(self) -> list[PodPlacement]:
        return _placements(self._samples(DECISIONS))

    def nodes(self) -> list[NodeUse]:
        samples_by_name = samples(self._http.text("/metrics/resources"))
        return _uses(samples_by_name.get(ALLOCATABLE, []), samples_by_name.get(REQUESTED, []))

    def data_age(self) -> float | None:
        return None if self._read_at is None else time.time() - self._read_at


class HttpSource:
    """GET requests to one server. Raises Unavailable with words for a person."""

    def __init__(self, endpoint: SourceAddress) -> None:
        self._url = endpoint.url.rstrip("/")
        self._session: Any = requests.Session()
        self._session.trust_env = False
        self._session.verify = endpoint.ca_file or True
        if endpoint.token_file:
            self._session.headers["Authorization"] = f"Bearer {secret(endpoint.token_file)}"
        elif endpoint.username:
            self._session.auth = (endpoint.username, secret(endpoint.password_file))

    def _get(self, path: str) -> Any:
        try:
            answer = self._session.get(f"{self._url}{path}", timeout=TIMEOUT, stream=True)
            body = answer.raw.read(MAX_BODY + 1, decode_content=True)
        except (requests.RequestException, HTTPError, OSError) as error:
            reason = type(error).__name__
            raise Unavailable(f"{self._url} does not answer ({reason})") from error
        if answer.status_code != 200 or len(body) > MAX_BODY:
            text = body[:200].decode(errors="replace").strip()
            raise Unavailable(f"{self._url}{path} answers {answer.status_code}: {text}")
        return body

    def text(self, path: str) -> str:
        return str(self._get(path).decode(errors="replace"))

    def json(self, path: str) -> Any:
        try:
            return msgspec.json.decode(self._get(path))
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self._url}{path}: not JSON: {error}") from error


def samples(text: str) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """The samples of a metrics page by name. Raises Unavailable for what is none."""
    samples_by_name: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples_by_name.setdefault(sample.name, []).append((sample.labels, sample.value))
    except ValueError as error:
        raise Unavailable(f"not a page of metrics: {error}") from error
    return samples_by_name


Samples = Iterable[tuple[Mapping[str, str], float]]


def _by(metric_samples: Samples, label: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for labels, value in metric_samples:
        key = labels.get(label, "")
        sums[key] = sums.get(key, 0.0) + value
    return sums


def _pair(labels: Mapping[str, str]) -> tuple[str, ...]:
    names = ("source", "target", "source_cluster", "target_cluster")
    return tuple(labels.get(name, "") for name in names)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _placements(metric_samples: Samples) -> list[PodPlacement]:
    placements = [
        PodPlacement(m.get("pod", ""), m.get("node", ""), m.get("policy", ""), m.get("why", ""), at)
        for m, at in metric_samples
    ]
    latest: dict[str, PodPlacement] = {}
    for one in sorted(placements, key=lambda p: p.at):
        latest[one.pod] = one
    return sorted(latest.values(), key=lambda p: -p.at)


def _uses(allocatable: Samples, requested: Samples) -> list[NodeUse]:
    there = {(m.get("node", ""), m.get("resource", "")): v for m, v in allocatable}
    used = {(m.get("node", ""), m.get("resource", "")): v for m, v in requested}
    nodes: dict[str, dict[str, tuple[float, float]]] = {}
    for (node, resource), value in there.items():
        nodes.setdefault(node, {})[resource] = used.get((node, resource), 0.0), value
    return [NodeUse(node, nodes[node]) for node in sorted(nodes)]


def _rates(kept: list[tuple[float, dict[str, float]]]) -> list[Series]:
    """Per second, from counters that only grow (but for a restart, which counts as no growth)."""
    rates: list[tuple[float, dict[str, float]]] = []
    for (before, old), (at, new) in pairwise(kept):
        seconds = max(at - before, 1e-6)
        rates.append((at, {k: max(v - old.get(k, 0.0), 0.0) / seconds for k, v in new.items()}))
    return _as_series(rates)


def _as_series(kept: list[tuple[float, dict[str, float]]]) -> list[Series]:
    step = max(len(kept) // POINTS, 1)
    thinned = kept[::step]
    names = sorted({name for _, values in thinned for name in values})
    times = [at for at, _ in thinned]
    return [Series(name, times, [values.get(name, 0.0) for _, values in thinned]) for name in names]


def _quantile(buckets: Samples, share: float) -> float | None:
    """As Prometheus' histogram_quantile, over the scheduler's whole life."""
    sums: dict[float, float] = {}
    for labels, value in buckets:
        bound = float(labels.get("le", "inf"))
        sums[bound] = sums.get(bound, 0.0) + value
    total = sums.get(math.inf, 0.0)
    if not total:
        return None
    below, floor = 0.0, 0.0
    for bound in sorted(sums):
        if sums[bound] >= share * total:
            if math.isinf(bound):
                return floor
            inside = sums[bound] - below
            return floor + (bound - floor) * ((share * total - below) / inside if inside else 0)
        below, floor = sums[bound], bound
    return floor
