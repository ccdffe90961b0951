"""What an agent answers: the monitoring routes from its cache, metrics, health.

The routes are GS-Scheduler's. `pingSize` and `pingCount` are checked and change nothing: probing
goes on in the background, whoever asks.
"""

from collections.abc import Iterable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from latency.agent.prober import Prober, Tracked
from serving.http_server import OPEN, Health, content, health
from serving.security import bearer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES = (("0", 0.0), ("0.5", 0.5), ("0.99", 0.99))
MAX_VALUES = {"pingSize": 65_507, "pingCount": 1000}

Row = dict[str, object]


class AgentView:
    """What the prober knows, as an agent of node `me` in cluster `cluster` tells it."""

    def __init__(self, me: str, cluster: str, prober: Prober) -> None:
        self.me, self.cluster, self._prober = me, cluster, prober

    def nodes(self) -> list[Row]:
        """The cluster's other nodes, nearest first; those without a fresh reading last."""
        return _sorted([self._row("node", t.peer.name, [t]) for t in self._own()])

    def clusters(self) -> list[Row]:
        """Other clusters, each by the nearest of its addresses."""
        by_cluster: dict[str, list[Tracked]] = {}
        for tracked in self._prober.tracked:
            if tracked.peer.cluster:
                by_cluster.setdefault(tracked.peer.cluster, []).append(tracked)
        return _sorted([self._row("cluster", name, by_cluster[name]) for name in by_cluster])

    def _own(self) -> list[Tracked]:
        return [t for t in self._prober.tracked if not t.peer.cluster]

    def _row(self, kind: str, name: str, tracked: list[Tracked]) -> Row:
        fresh = [t for t in tracked if self._prober.fresh(t)]
        best = min(fresh, key=lambda t: t.estimate.median or 0.0, default=None)
        median = best.estimate.median if best is not None else None
        if best is None or median is None:
            loss = min((t.estimate.loss for t in tracked), default=0.0)
            return {kind: name, "latency": None, "loss": round(loss, 3), "age_s": None,
                    "jitter": None, "probe": None}  # fmt: skip
        return {
            kind: name,
            "latency": round(median, 4),
            "loss": round(best.estimate.loss, 3),
            "age_s": round(self._prober.age(best), 1),
            "jitter": round(best.estimate.jitter, 4),
            "probe": best.probe,
        }

    def exported(self, limit: int) -> tuple[list[Tracked], int]:
        """The nearest `most` fresh peers, and how many others were left out."""
        fresh = [t for t in self._prober.tracked if self._prober.fresh(t)]
        fresh.sort(key=lambda t: t.estimate.median or 0.0)
        return fresh[:limit], max(len(fresh) - limit, 0)

    @property
    def prober(self) -> Prober:
        return self._prober


class AgentCollector(Collector):
    """`gsch_rtt_seconds` and what belongs to it, of at most `most` peers: labels cost memory."""

    def __init__(self, view: AgentView, max_targets: int) -> None:
        self._view, self._max_targets = view, max_targets

    def collect(self) -> Iterable[Metric]:
        exported, left_out = self._view.exported(self._max_targets)
        yield from self._times(exported)
        omitted = GaugeMetricFamily(
            "gsch_rtt_targets_omitted", "Peers left out of gsch_rtt_seconds: too many labels"
        )
        omitted.add_metric([], left_out)
        yield omitted
        probes = CounterMetricFamily("gsch_probes", "Probes sent", labels=["way", "result"])
        for (probe, result), count in sorted(self._view.prober.counts.items()):
            probes.add_metric([probe, result], count)
        yield probes

    def _times(self, exported: list[Tracked]) -> Iterator[Metric]:
        pair = ["source", "target", "source_cluster", "target_cluster"]
        times = GaugeMetricFamily(
            "gsch_rtt_seconds",
            "Round-trip time from source to target, by the kind of probe that the target answers",
            labels=[*pair, "quantile", "probe"],
        )
        loss = GaugeMetricFamily(
            "gsch_rtt_loss_ratio", "Share of probes without a reply", labels=pair
        )
        jitter = GaugeMetricFamily(
            "gsch_rtt_jitter_seconds", "Mean difference from one time to the next", labels=pair
        )
        age = GaugeMetricFamily(
            "gsch_rtt_age_seconds", "Since the last reply, by one clock alone", labels=pair
        )
        for tracked in exported:
            peer = tracked.peer
            cluster = peer.cluster or self._view.cluster
            labels = [self._view.me, peer.name, self._view.cluster, cluster]
            for name, share in QUANTILES:
                value = tracked.estimate.quantile(share)
                if value is not None:
                    times.add_metric([*labels, name, tracked.probe], value / 1000)
            loss.add_metric(labels, tracked.estimate.loss)
            jitter.add_metric(labels, tracked.estimate.jitter / 1000)
            age.add_metric(labels, self._view.prober.age(tracked))
        yield from (times, loss, jitter, age)


def application(view: AgentView, ready: Health, token: bytes, max_targets: int) -> web.Application:
    """The agent's pages. `ready` is empty when there is something to tell, else says why not."""
    registry = CollectorRegistry()
    registry.register(AgentCollector(view, max_targets))
    app = web.Application(middlewares=[bearer(token, OPEN)])

    async def near_nodes(request: web.Request) -> web.Response:
        _check(request)
        return web.json_response(view.nodes())

    async def node(request: web.Request) -> web.Response:
        _check(request)
        return _one(view.nodes(), "node", request.match_info["name"], view.me)

    async def near_clusters(request: web.Request) -> web.Response:
        _check(request)
        return web.json_response(view.clusters())

    async def cluster(request: web.Request) -> web.Response:
        _check(request)
        return _one(view.clusters(), "cluster", request.match_info["name"], view.cluster)

    app.router.add_get("/livez", health(lambda: ""))
    app.router.add_get("/readyz", health(ready))
    app.router.add_get("/metrics", content(lambda: generate_latest(registry), CONTENT_TYPE))
    app.router.add_get("/monitoring/near-nodes/latency", near_nodes)
    app.router.add_get("/monitoring/node/{name}/latency", node)
    app.router.add_get("/monitoring/near-clusters/latency", near_clusters)
    app.router.add_get("/monitoring/clusters/{name}/latency", cluster)
    return app


def _check(request: web.Request) -> None:
    for name, maximum in MAX_VALUES.items():
        value = request.query.get(name)
        if value is not None and not (value.isdecimal() and 1 <= int(value[:9]) <= maximum):
            raise web.HTTPBadRequest(
                text=f"{name}: a number from 1 to {maximum}, got {value[:40]!r}\n"
            )


def _one(rows: list[Row], kind: str, name: str, me: str) -> web.Response:
    if name == me:
        own = {kind: name, "latency": 0.0, "loss": 0.0, "age_s": 0.0, "jitter": 0.0, "probe": None}
        return web.json_response(own)
    peer_row = next((row for row in rows if row[kind] == name), None)
    if peer_row is None:
        raise web.HTTPNotFound(text=f"{kind} {name[:253]} is not among those probed from here\n")
    return web.json_response(peer_row)


def _sorted(rows: list[Row]) -> list[Row]:
    def order(row: Row) -> tuple[bool, float]:
        latency = row["latency"]
        return latency is None, latency if isinstance(latency, float) else 0.0

    return sorted(rows, key=order)
