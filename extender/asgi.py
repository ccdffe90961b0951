"""The extender's HTTP front: the verbs at once, everything else by Flask.

kube-scheduler waits for every answer in its scheduling cycle, so the verbs are answered on the
event loop that owns the snapshot, with nothing in between but size, time and credential checks.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from a2wsgi import WSGIMiddleware
from prometheus_client import CollectorRegistry, Counter, Histogram

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
from extender.verbs import BadRequest

log = structlog.get_logger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

BODY_TIMEOUT_S = 5.0
"""Seconds in which a request's body has to be there; kube-scheduler itself gives up after 5."""
BUCKETS = tuple(round(0.0001 * 2 ** (n / 4), 7) for n in range(60))

_encode = msgspec.json.Encoder().encode


class RequestRefused(Exception):
    """The request is answered with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most bytes a body may have, and the bearer token that is asked for (empty: none)."""

    body: int
    token: bytes = b""


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


class ExtenderApp:
    """The ASGI application. `problem` says why the caches cannot be trusted, empty if they can."""

    def __init__(
        self,
        service: ExtenderService,
        problem: Callable[[], str],
        limits: RequestLimits,
        metrics: ExtenderMetrics,
        pages: Any,
    ) -> None:
        self._service, self._problem = service, problem
        self._limits, self._metrics = limits, metrics
        self._pages: Any = WSGIMiddleware(pages)
        self._args = msgspec.json.Decoder(ExtenderArgs).decode
        self._pod = msgspec.json.Decoder(PodArgs).decode
        self._preemption = msgspec.json.Decoder(PreemptionArgs).decode
        self._binding = msgspec.json.Decoder(BindingArgs).decode
        self._verbs: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            "/filter": self._filter,
            "/prioritize": self._prioritize,
            "/preempt": self._preempt,
            "/bind": self._bind,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        verb = self._verbs.get(scope["path"])
        if verb is None:
            await self._page(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            self._authorise(scope)
            if scope["method"] != "POST":
                raise RequestRefused(405, "verbs are called by POST")
            body = await self._body(scope, receive)
            started = time.perf_counter()
            answer, status = await verb(body), 200
        except RequestRefused as error:
            answer, status = _text(str(error)), error.status
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            answer, status = _text(f"not what kube-scheduler sends: {error}"), 400
        except BadRequest as error:
            answer, status = _text(str(error)), 422
        except Exception:
            log.exception("verb failed", path=scope["path"])
            answer, status = _text("internal error; the extender's log says more"), 500
        self._metrics.count(scope["path"][1:], status, time.perf_counter() - started)
        await _answer(send, status, answer)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] not in ("/livez", "/readyz"):
                self._authorise(scope)
        except RequestRefused as error:
            await _answer(send, error.status, _text(str(error)))
            return
        await self._pages(scope, receive, send)

    # -- what comes in ---------------------------------------------------------------------

    def _authorise(self, scope: Scope) -> None:
        if not self._limits.token:
            return
        given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
        if not hmac.compare_digest(given, b"Bearer " + self._limits.token):
            raise RequestRefused(401, "a bearer token is needed")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if length.isdigit() and int(length) > self._limits.body:
            raise RequestRefused(413, f"more than {self._limits.body} bytes")
        message = await self._part(receive)
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            message = await self._part(receive)
            body += message.get("body", b"")
            if len(body) > self._limits.body:
                raise RequestRefused(413, f"more than {self._limits.body} bytes")
        return body

    @staticmethod
    async def _part(receive: Receive) -> dict[str, Any]:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                message = await receive()
        except TimeoutError:
            raise RequestRefused(408, f"no more of the body within {BODY_TIMEOUT_S:g} s") from None
        if message["type"] == "http.disconnect":
            raise RequestRefused(400, "the client went away")
        return message

    # -- verbs -----------------------------------------------------------------------------

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
        self._trusted()
        # Most pods have no policy: their nodes' names need not be read at all.
        if not self._service.has_policy(self._pod(body).pod):
            return b"[]"
        return _encode(self._service.prioritize(self._args(body)))

    async def _preempt(self, body: bytes) -> bytes:
        self._trusted()
        return _encode(self._service.preempt(self._preemption(body)))

    async def _bind(self, body: bytes) -> bytes:
        self._trusted()
        return _encode(await self._service.bind(self._binding(body)))

    def _trusted(self) -> None:
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


def _text(text: str) -> bytes:
    return _encode({"Error": text})


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
