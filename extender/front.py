"""The extender's HTTP routes: the verbs, and beside them health, metrics and a front page.

kube-scheduler waits for every answer in its scheduling cycle, so the verbs are answered on the
event loop that owns the snapshot.
"""

import asyncio
import html
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from string import Template

import msgspec
import structlog
from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)

from cluster.errors import GschError
from extender.api import (
    BindingArgs,
    ExtenderArgs,
    FilterResult,
    PodArgs,
    PreemptionArgs,
    RawArgs,
    RawItems,
)
from extender.service import ExtenderService
from serving.http_server import OPEN, Health, content, health
from serving.security import Handler, bearer

log = structlog.get_logger(__name__)

BODY_TIMEOUT_S = 5.0
"""Seconds in which a request's body has to be there; kube-scheduler itself gives up after 5."""
BUCKETS = tuple(round(0.0001 * 2 ** (n / 4), 7) for n in range(60))

_encode = msgspec.json.Encoder().encode

Verb = Callable[[bytes], Awaitable[bytes]]

PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>gsch extender</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
  body { max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
  code { font-family: ui-monospace, monospace; }
  .state { padding: .6rem 1rem; border-left: .3rem solid $colour; }
  td, th { text-align: left; padding: .2rem 1.5rem .2rem 0; vertical-align: top; }
</style>
<h1>gsch extender</h1>
<p class="state" role="status">$state</p>
<table>
  <tr><th scope="row">Nodes</th><td>$nodes</td></tr>
  <tr><th scope="row">Pods on them</th><td>$pods</td></tr>
  <tr><th scope="row">Profile</th><td><code>$profile</code></td></tr>
</table>
<p>kube-scheduler calls <code>POST /filter</code>, <code>/prioritize</code>, <code>/preempt</code>
and <code>/bind</code>. See also <a href="metrics">metrics</a>, <a href="configz">configuration</a>
and <a href="readyz">readiness</a>.</p>
</html>
""")


class RequestRefused(GschError):
    """The request is answered with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most bytes a body may have, and the bearer token that is asked for (empty: none)."""

    body: int
    token: bytes = b""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the pages show. `problem` says why the caches cannot be trusted, empty if they can;
    `sizes` are (nodes, pods on them)."""

    problem: Health
    sizes: Callable[[], tuple[int, int]]
    profile: str
    configuration: Callable[[], bytes]


class ExtenderMetrics:
    """Requests by verb and status, and how long the verbs took."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gsch_extender_requests", "Requests", ["verb", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "gsch_extender_request_duration_seconds",
            "Seconds from the whole request to the answer",
            ["verb"],
            buckets=BUCKETS,
            registry=self.registry,
        )

    def count(self, verb: str, status: int, seconds: float) -> None:
        self._requests.labels(verb, status).inc()
        self._seconds.labels(verb).observe(seconds)


def application(service: ExtenderService, facts: Facts, limits: RequestLimits) -> web.Application:
    """All routes of the extender."""
    metrics = ExtenderMetrics()
    app = web.Application(
        middlewares=[_errors_as_json, bearer(limits.token, OPEN)], client_max_size=limits.body
    )
    for name, verb in ExtenderVerbs(service, facts.problem).by_name.items():
        app.router.add_post(f"/{name}", _answering(name, verb, metrics, limits.body))
    app.router.add_get("/", _front_page(facts))
    app.router.add_get("/livez", health(lambda: ""))
    app.router.add_get("/readyz", health(facts.problem))
    app.router.add_get(
        "/metrics", content(lambda: generate_latest(metrics.registry), CONTENT_TYPE_LATEST)
    )
    app.router.add_get("/configz", content(facts.configuration, "application/json"))
    return app


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """kube-scheduler shows what stands under `Error`."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        return _error(
            405, f"{request.path} is called by {', '.join(sorted(error.allowed_methods))}"
        )
    except web.HTTPException as error:
        return _error(error.status, error.reason)


def _answering(name: str, verb: Verb, metrics: ExtenderMetrics, max_bytes: int) -> Handler:
    """One verb, with every failure as an answer of its own; a body has `most` bytes."""

    async def answer(request: web.Request) -> web.Response:
        started = time.perf_counter()
        try:
            body = await _body(request, max_bytes)
            started = time.perf_counter()
            response = web.Response(body=await verb(body), content_type="application/json")
        except GschError as error:
            response = _error(error.status, str(error))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            response = _error(400, f"not what kube-scheduler sends: {error}")
        except Exception:
            log.exception("verb failed", verb=name)
            response = _error(500, "internal error; the extender's log says more")
        metrics.count(name, response.status, time.perf_counter() - started)
        return response

    return answer


async def _body(request: web.Request, max_bytes: int) -> bytes:
    if (request.content_length or 0) > max_bytes:
        raise RequestRefused(413, f"more than {max_bytes} bytes")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise RequestRefused(408, f"no more of the body within {BODY_TIMEOUT_S:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise RequestRefused(413, f"more than {max_bytes} bytes") from None


def _error(status: int, text: str) -> web.Response:
    return web.Response(
        status=status, body=_encode({"Error": text}), content_type="application/json"
    )


def _front_page(facts: Facts) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        nodes, pods = facts.sizes()
        problem = facts.problem()
        state = problem or "Ready: every cache is in step with the API server."
        page = PAGE.substitute(
            colour="#c33" if problem else "#393",
            state=html.escape(state),
            nodes=nodes,
            pods=pods,
            profile=html.escape(facts.profile),
        )
        return web.Response(text=page, content_type="text/html")

    return answer


class ExtenderVerbs:
    """From the bytes of a request to those of the answer."""

    def __init__(self, service: ExtenderService, problem: Health) -> None:
        self._service, self._problem = service, problem
        self._args = msgspec.json.Decoder(ExtenderArgs).decode
        self._pod = msgspec.json.Decoder(PodArgs).decode
        self._preemption = msgspec.json.Decoder(PreemptionArgs).decode
        self._binding = msgspec.json.Decoder(BindingArgs).decode
        self.by_name: dict[str, Verb] = {
            "filter": self._filter,
            "prioritize": self._prioritize,
            "preempt": self._preempt,
            "bind": self._bind,
        }

    async def _filter(self, body: bytes) -> bytes:
        problem = self._problem()
        if problem:
            return _encode(FilterResult(error=f"gsch extender: {problem}"))
        args = self._args(body)
        result = await self._service.filter(args)
        if args.node_names is None and result.node_names is not None:
            result = _whole_nodes(body, args, result)
        return _encode(result)

    async def _prioritize(self, body: bytes) -> bytes:
        self._require_fresh_caches()
        # Most pods have no policy: their nodes' names need not be read at all.
        if not self._service.has_policy(self._pod(body).pod):
            return b"[]"
        return _encode(self._service.prioritize(self._args(body)))

    async def _preempt(self, body: bytes) -> bytes:
        self._require_fresh_caches()
        return _encode(self._service.preempt(self._preemption(body)))

    async def _bind(self, body: bytes) -> bytes:
        self._require_fresh_caches()
        return _encode(await self._service.bind(self._binding(body)))

    def _require_fresh_caches(self) -> None:
        problem = self._problem()
        if problem:
            raise RequestRefused(503, problem)


def _whole_nodes(body: bytes, args: ExtenderArgs, result: FilterResult) -> FilterResult:
    """The answer with the nodes themselves, exactly as they came."""
    raw = msgspec.json.decode(msgspec.json.decode(body, type=RawArgs).nodes, type=RawItems)
    kept = set(result.node_names or ())
    items = args.nodes.items if args.nodes is not None and args.nodes.items else ()
    pairs = zip(items, raw.items, strict=True)
    left = [item for node, item in pairs if node.metadata.name in kept]
    return msgspec.structs.replace(result, node_names=None, nodes={"items": left})
