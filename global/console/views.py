"""What each page is filled with, from a source and from what the URL asks for."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from console import shapes
from console.readings import NodeUse, PodPlacement, RoundTrip, Source

RANGES = {"15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400}
OF = ("nodes", "clusters")
PAGE = 100
"""Rows of a table's page; the CSV has all of them."""
RESOURCES = ("cpu", "memory", "nvidia.com/gpu", "pods")


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What the URL says: a time range, words to filter by, a page (0: all of it), and of what."""

    range: str = "1h"
    filter: str = ""
    page: int = 1
    of: str = "nodes"

    @property
    def seconds(self) -> int:
        return RANGES[self.range]

    def wants(self) -> Callable[[str], bool]:
        """Whether a name has all words of the filter in it."""
        words = self.filter.lower().split()
        return lambda name: all(word in name.lower() for word in words)


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """Rows for a page and for its CSV. `numeric` columns stand to the right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[object]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class PagedTable(HtmlTable):
    """A page of a table, and how many there are."""

    page: int = 1
    pages: int = 1
    total: int = 0


def _paged(
    asked: PageQuery,
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    numeric: frozenset[int] = frozenset(),
) -> HtmlTable:
    """One page of the rows, or all of them."""
    if not asked.page:
        return HtmlTable(headings, rows, numeric)
    pages = max(math.ceil(len(rows) / PAGE), 1)
    page = min(asked.page, pages)
    return PagedTable(
        headings, rows[(page - 1) * PAGE : page * PAGE], numeric, page, pages, len(rows)
    )


def overview(source: Source, asked: PageQuery) -> dict[str, Any]:
    summary = source.overview(asked.seconds)
    pending = {name: int(value) for name, value in sorted(summary.pending.items())}
    rate = sum(
        line.values[-1] for line in summary.rates if line.name == "scheduled" and line.values
    )
    return {
        "overview": summary,
        "tiles": [
            ("Nodes", summary.nodes, ""),
            ("Pods on nodes", summary.pods, ""),
            ("Pending", sum(pending.values()) if pending else None, ""),
            ("Scheduled", round(rate, 2) if summary.rates else None, "pods/s"),
            ("p99 to bind", _milli(summary.p99_seconds), "ms"),
            ("Round trips known", summary.pairs, "pairs"),
        ],
        "table": HtmlTable(("queue", "pods"), list(pending.items()), frozenset({1})),
        "caption": "Pods that wait, by queue",
        "charts": {
            "rates": {"title": "Attempts a second", "unit": "pods/s", "lines": summary.rates},
            "queues": {"title": "Waiting pods", "unit": "pods", "lines": summary.queues},
        },
        "empty": summary.nodes is None and not summary.pending,
        "advice": "Nothing tells of a scheduler here. Is gsch running, and scraped by Prometheus?",
    }


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds * 1000:.3g}")


def latency(source: Source, asked: PageQuery) -> dict[str, Any]:
    wanted = asked.wants()
    all_pairs = source.pairs(asked.of == "clusters")
    pairs = [p for p in all_pairs if wanted(p.source) and wanted(p.target)]
    pairs.sort(key=lambda p: -p.rtt_ms)
    return {
        "table": _paged(
            asked,
            ("source", "target", "round trip (ms)", "loss", "age (s)"),
            [_pair_row(p) for p in pairs],
            frozenset({2, 3, 4}),
        ),
        "caption": "Round trips, the longest first",
        "charts": {
            "heat": {"title": "Round trip from row to column", "unit": "ms", **shapes.heat(pairs)},
            "graph": {"title": "Who is near whom", "unit": "ms", **shapes.layout(pairs)},
        },
        "tiles": _spread([p.rtt_ms for p in pairs]),
        "empty": not pairs,
        "advice": "No round trips match. Are the latency agents running (manifests/agent.yaml)?",
    }


def _pair_row(pair: RoundTrip) -> tuple[object, ...]:
    loss = "" if pair.loss is None else f"{pair.loss:.1%}"
    age = "" if pair.age is None else round(pair.age, 1)
    return pair.source, pair.target, round(pair.rtt_ms, 3), loss, age


def _spread(times: Sequence[float]) -> list[tuple[str, object, str]]:
    if not times:
        return []
    ordered = sorted(times)
    return [
        ("Pairs", len(ordered), ""),
        ("Shortest", round(ordered[0], 3), "ms"),
        ("Median", round(ordered[len(ordered) // 2], 3), "ms"),
        ("Longest", round(ordered[-1], 3), "ms"),
    ]


def placements(source: Source, asked: PageQuery, explainable: bool) -> dict[str, Any]:
    wanted = asked.wants()
    decisions = [p for p in source.placements() if wanted(p.pod) or wanted(p.node)]
    return {
        "table": _paged(
            asked,
            ("pod", "node", "policy", "why", "decided (UTC)"),
            [_placement_row(p) for p in decisions],
        ),
        "caption": "The latest decisions, the newest first",
        "explainable": explainable,
        "empty": not decisions,
        "advice": "No decision matches. Pods appear here as the scheduler looks at them.",
    }


def _placement_row(placement: PodPlacement) -> tuple[object, ...]:
    return (
        placement.pod,
        placement.node or "waits",
        placement.policy or "default",
        placement.why,
        _clock(placement.at),
    )


def packing(source: Source, asked: PageQuery) -> dict[str, Any]:
    wanted = asked.wants()
    nodes = [n for n in source.nodes() if wanted(n.node)]
    there = [r for r in RESOURCES if any(r in n.resources for n in nodes)]
    nodes.sort(key=lambda n: -max((n.share(r) or 0.0 for r in there), default=0.0))
    headings = ["node"]
    for resource in there:
        headings += [resource, f"{resource} (%)"]
    shares = {r: [n.share(r) for n in nodes] for r in there}
    return {
        "table": _paged(
            asked,
            headings,
            [_use_row(n, there) for n in nodes],
            frozenset(range(1, 2 * len(there) + 1)),
        ),
        "caption": "Nodes, the fullest first",
        "charts": {
            "packing": {
                "title": "How full nodes are",
                "unit": "%",
                "groups": {
                    r: [round(100 * s, 1) for s in values if s is not None]
                    for r, values in shares.items()
                },
            }
        },
        "tiles": [(r, round(100 * _total(nodes, r)), "% asked for") for r in there if r != "pods"],
        "bars": True,
        "empty": not nodes,
        "advice": "No node matches. Prometheus has to scrape /metrics/resources of the scheduler.",
    }


def _use_row(node: NodeUse, resources: Sequence[str]) -> list[object]:
    row: list[object] = [node.node]
    for resource in resources:
        used, there = node.resources.get(resource, (0.0, 0.0))
        share = node.share(resource)
        row += [
            f"{_amount(resource, used)} / {_amount(resource, there)}" if there else "none",
            "" if share is None else round(100 * share, 1),
        ]
    return row


def _total(nodes: Iterable[NodeUse], resource: str) -> float:
    pairs = [n.resources.get(resource, (0.0, 0.0)) for n in nodes]
    there = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / there if there else 0.0


def number(value: object) -> str:
    """A number as a person reads it; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.3g}"
    return (
        f"{int(value):,}".replace(",", "\u202f") if isinstance(value, int | float) else str(value)
    )


def _amount(resource: str, value: float) -> str:
    if resource != "memory":
        return f"{value:.4g}"
    for unit in ("", "Ki", "Mi", "Gi"):
        if value < 1024:
            return f"{value:.4g}{unit}"
        value /= 1024
    return f"{value:.4g}Ti"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
