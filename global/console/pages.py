"""The pages, as Flask serves them. Every state is in the URL; only jobs are handed in by POST."""

import csv
import gzip
import importlib.util
import io
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, abort, render_template, request

from console import jobs, views
from console.readings import Source, Unavailable
from console.settings import Cluster, SourceAddress
from console.sources import HttpSource
from console.views import OF, RANGES, HtmlTable, PageQuery

STALE_AFTER = 60.0
"""Seconds after which numbers are shown as old."""
VIEWS = {
    "overview": "Overview",
    "latency": "Latency",
    "placements": "Placements",
    "packing": "Packing",
}
MAX_POST = 3 * 1024 * 1024
"""Bytes of a form."""
THEMES = ("auto", "light", "dark")
MOMENT, KEPT = 2.0, 10.0
LONGEST = 200
"""Characters of a filter."""
_POD = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NO_ANSWER = "No reading has arrived yet."

Content = dict[str, Any]


def application(
    clusters: Sequence[Cluster], sources: Mapping[str, Source], layer: SourceAddress | None = None
) -> Flask:
    """The console over these clusters, of which the first is shown first, and over the global
    layer, where there is one."""
    app = Flask("console", static_folder=None, root_path=str(Path(__file__).parent))
    app.config["MAX_CONTENT_LENGTH"] = MAX_POST
    app.jinja_env.filters["number"] = views.number
    pages = Pages(clusters, sources, with_jobs=layer is not None)
    if clusters:
        app.add_url_rule("/", view_func=pages.overview)
        app.add_url_rule("/latency", view_func=pages.latency)
        app.add_url_rule("/placements", view_func=pages.placements)
        app.add_url_rule("/packing", view_func=pages.packing)
        app.add_url_rule("/explain/<namespace>/<pod>", view_func=pages.explain)
    else:
        app.add_url_rule("/", view_func=_jobs_first)
    if layer is not None:
        app.register_blueprint(jobs.pages(jobs.Layer(layer), pages.frame))
    app.add_url_rule("/static/<path:name>", view_func=static)
    app.register_error_handler(404, pages.missing)
    return app


class Pages:
    """What the routes answer."""

    def __init__(
        self, clusters: Sequence[Cluster], sources: Mapping[str, Source], with_jobs: bool
    ) -> None:
        self._clusters = {cluster.name: cluster for cluster in clusters}
        self._first, self._sources = clusters[0].name if clusters else "", sources
        self._views = {**(VIEWS if clusters else {}), **({"jobs": "Jobs"} if with_jobs else {})}
        self._kept: dict[tuple[str, str, PageQuery], tuple[float, Content]] = {}

    def overview(self) -> Response:
        return self._page("overview", views.overview)

    def latency(self) -> Response:
        return self._page("latency", views.latency)

    def placements(self) -> Response:
        explainable = bool(self._clusters[self._chosen()].scheduler.url)
        return self._page("placements", lambda s, a: views.placements(s, a, explainable))

    def packing(self) -> Response:
        return self._page("packing", views.packing)

    def explain(self, namespace: str, pod: str) -> Response:
        name, key = self._chosen(), f"{namespace}/{pod}"
        if not _POD.fullmatch(key):
            abort(404, "That is not the name of a pod.")
        content = self._frame("placements", name) | {"pod": key}
        scheduler = self._clusters[name].scheduler
        try:
            if not scheduler.url:
                raise Unavailable("No scheduler is configured that could explain pods.")
            content["explanation"] = HttpSource(scheduler).json(f"/explain/{key}")
        except Unavailable as error:
            content["problem"] = str(error)
        return Response(render_template("explain.html", **content), mimetype="text/html")

    def missing(self, error: Exception) -> tuple[str, int]:
        description = getattr(error, "description", "There is no such page.")
        content = self._frame("", self._first) | {"problem": description, "heading": "Not found"}
        return render_template("error.html", **content), 404

    # -- inside ----------------------------------------------------------------------------

    def _chosen(self) -> str:
        name = request.args.get("cluster", self._first)
        if name not in self._clusters and self._clusters:
            abort(404, f"There is no cluster {name[:80]!r} here.")
        return name

    def frame(self, view: str) -> Content:
        """What a page needs that is of no cluster."""
        return self._frame(view, self._chosen())

    def _frame(self, view: str, name: str) -> Content:
        """What every page needs."""
        theme = request.args.get("theme", "auto")
        asked = _asked()
        return {
            "view": view,
            "views": self._views,
            "clusters": list(self._clusters),
            "cluster": name,
            "range": asked.range,
            "ranges": list(RANGES),
            "filter": asked.filter,
            "of": asked.of,
            "ofs": OF,
            "theme": theme if theme in THEMES else "auto",
            "kind": self._sources[name].kind if name in self._sources else "the global layer",
            "version": version("gsch"),
            "query": _query,
        }

    def _page(self, view: str, fill: Callable[[Source, PageQuery], Content]) -> Response:
        name = self._chosen()
        content, source = self._frame(view, name), self._sources[name]
        try:
            age = source.data_age()
            content |= {"age": age, "stale": age is not None and age > STALE_AFTER}
            content |= self._filled((view, name, _asked()), source, fill)
        except Unavailable as error:
            content["problem"] = str(error) or _NO_ANSWER
        if request.args.get("format") == "csv":
            return _csv(content, view)
        template = "fragment.html" if "fragment" in request.args else "page.html"
        return Response(render_template(template, **content), mimetype="text/html")

    def _filled(
        self,
        key: tuple[str, str, PageQuery],
        source: Source,
        fill: Callable[[Source, PageQuery], Content],
    ) -> Content:
        """However many people look, a page is worked out anew only so often: for a moment, and
        for KEPT times as long as that took. Raises Unavailable."""
        now = time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            return kept[1]
        content = fill(source, key[2])
        took = time.monotonic() - now
        self._kept = {k: v for k, v in list(self._kept.items()) if v[0] > now}
        self._kept[key] = now + MOMENT + KEPT * took, content
        return content


def _jobs_first() -> Response:
    return Response("", 303, {"Location": "/jobs"})


def _asked() -> PageQuery:
    """What the URL says; whatever makes no sense counts as not said."""
    span, page = request.args.get("range", "1h"), request.args.get("page", "1")
    of = request.args.get("of", "nodes")
    number = int(page) if page.isdecimal() and len(page) < 7 else 1
    return PageQuery(
        span if span in RANGES else "1h",
        request.args.get("filter", "")[:LONGEST],
        0 if request.args.get("format") == "csv" else max(number, 1),
        of if of in OF else "nodes",
    )


def _query(**changes: str | int | None) -> str:
    """The URL's query with these changes; None takes one out."""
    kept: Content = {k: v for k, v in request.args.items() if k not in ("fragment", "format")}
    kept |= changes
    return f"?{urlencode({k: v for k, v in kept.items() if v not in (None, '')})}"


def _csv(content: Mapping[str, Any], view: str) -> Response:
    if "problem" in content:
        return Response(f"{content['problem']}\n", 503, mimetype="text/plain")
    table: HtmlTable = content["table"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.headings)
    writer.writerows([[_harmless(cell) for cell in row] for row in table.rows])
    name = f"{content['cluster']}-{view}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), mimetype="text/csv", headers=headers)


def _harmless(cell: object) -> object:
    """A spreadsheet takes a text that begins so for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell else cell


_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def static(name: str) -> Response:
    """The console's own files and the chart library."""
    path = _files().get(name)
    if path is None:
        abort(404, "There is no such file.")
    headers = {"Cache-Control": "public, max-age=3600", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = _packed(name)
    else:
        body = path.read_bytes()
    return Response(body, mimetype=_TYPES[path.suffix], headers=headers)


@cache
def _files() -> dict[str, Path]:
    """What may be asked for: the console's own files, and the chart library from its package."""
    files = {path.name: path for path in (Path(__file__).parent / "static").iterdir()}
    plotly = importlib.util.find_spec("plotly")
    if plotly is not None and plotly.origin is not None:
        files["plotly.min.js"] = Path(plotly.origin).parent / "package_data" / "plotly.min.js"
    return files


@cache
def _packed(name: str) -> bytes:
    return gzip.compress(_files()[name].read_bytes(), 6)
