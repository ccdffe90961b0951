"""`/api/v1`: requests (create, list, read, explain, cancel, watch), clusters, and files for agents.

Errors are JSON, `{"error": {"code", "message"}}`, with the status that fits.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web
from store.sealing import Seal
from store.transactions import Transactions

from cluster.errors import GschError
from federation import repository, submit
from federation.dispatch import levels_of
from federation.fleet import Fleet
from federation.front.tokens import Identity, Tokens
from federation.request import FINAL, Case, Request
from federation.worker import Worker
from serving.http_server import OPEN, content, health
from serving.security import Handler

log = structlog.get_logger(__name__)

MAX_BODY = 2 * 1024 * 1024
"""Bytes of a request's body; its YAML may have half of that."""
MAX_KEY = 255
MAX_PAGE = 500
WATCH_INTERVAL_S = 0.5
WHO: web.RequestKey[Identity] = web.RequestKey("who", Identity)

_encode = msgspec.json.Encoder().encode


class Front:
    """The handlers, over the database and the worker of this process."""

    def __init__(
        self,
        transactions: Transactions,
        seal: Seal,
        fleet: Fleet,
        worker: Worker,
        tokens: Tokens,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transactions, self._seal, self._fleet = transactions, seal, fleet
        self._worker, self._tokens, self._clock = worker, tokens, clock

    def application(self, metrics: Callable[[], bytes]) -> web.Application:
        application = web.Application(
            client_max_size=MAX_BODY, middlewares=[self._errors(), self._authenticate()]
        )
        routes = application.router
        routes.add_get("/livez", health(lambda: ""))
        routes.add_get("/readyz", health(lambda: ""))
        routes.add_get("/metrics", content(metrics, "text/plain; version=0.0.4"))
        routes.add_post("/api/v1/requests", self.create)
        routes.add_get("/api/v1/requests", self.list_)
        routes.add_get("/api/v1/requests/{id}", self.read)
        routes.add_delete("/api/v1/requests/{id}", self.cancel)
        routes.add_get("/api/v1/requests/{id}/events", self.watch)
        routes.add_get("/api/v1/clusters", self.clusters)
        routes.add_post("/api/v1/clusters/{name}/abandon", self.abandon)
        routes.add_get("/api/v1/files/{id}", self.file)
        return application

    # -- requests --------------------------------------------------------------------------

    async def create(self, http: web.Request) -> web.StreamResponse:
        """201 only after request and YAML are committed."""
        who = _user(http)
        key = http.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= MAX_KEY:
            raise submit.BadRequest(f"Idempotency-Key: 1 to {MAX_KEY} characters")
        body = await http.read()
        given = submit.read_body(body)
        known = frozenset(self._fleet.clusters)
        # YAML of a megabyte takes its time: not on the loop.
        request = await asyncio.to_thread(submit.request_of, given, who.owner, known, self._clock())
        if http.query.get("dryRun") == "All":
            ranked = await asyncio.to_thread(self._dry_run, request)
            return _json(ranked)
        request_id = await self._create(request, given.yaml, repository.digest(body), key)
        return _json({"id": request_id}, 201, {"Location": f"/api/v1/requests/{request_id}"})

    async def _create(self, request: Request, yaml: str, digest: str, key: str | None) -> str:
        sealed = self._seal.seal(yaml)
        try:
            made = await self._transactions.run(
                lambda c: repository.create(c, request, sealed, digest, key)
            )
        except repository.Conflict:
            raise web.HTTPConflict(
                reason="this Idempotency-Key was used for another body"
            ) from None
        self._worker.wake()
        return made

    def _dry_run(self, request: Request) -> dict[str, Any]:
        """Which clusters would be asked, level by level, without placing anything."""
        levels = []
        for names in levels_of(request, self._fleet):
            ranked, out = self._fleet.rank(request, names, self._clock())
            levels.append(
                {
                    "asked": [
                        {"cluster": r.cluster, "score": r.score, "rttMs": r.rtt_ms} for r in ranked
                    ],
                    "leftOut": out,
                }
            )
        return {"levels": levels}

    async def list_(self, http: web.Request) -> web.StreamResponse:
        who, query = _user(http), http.query
        limit = _number(query.get("limit", "50"), "limit", MAX_PAGE)
        before = query.get("continue")
        user = None if self._tokens.open else who.owner.user
        page = await self._transactions.run(
            lambda c: repository.page(
                c,
                user=user,
                state=query.get("state"),
                before=None if before is None else _number(before, "continue", 2**62),
                limit=limit,
            )
        )
        return _json({"items": [_summary(r) for r in page.requests], "continue": page.next})

    async def read(self, http: web.Request) -> web.StreamResponse:
        case = await self._own(http)
        notes = await self._transactions.run(lambda c: repository.notes(c, case.request.id))
        return _json(
            {
                **_summary(case.request),
                "levels": case.request.levels,
                "leftOut": case.request.excluded,
                "attempts": [_attempt(one) for one in case.attempts],
                "history": [{"at": note.at, "text": note.text} for note in notes],
            }
        )

    async def cancel(self, http: web.Request) -> web.StreamResponse:
        """202: it is over once nothing of it is left in any cluster."""
        case = await self._own(http)
        await self._worker.cancel(case.request.id)
        return _json({"id": case.request.id}, 202)

    async def watch(self, http: web.Request) -> web.StreamResponse:
        """Server-sent events: the request's history as it grows, until it is over."""
        case = await self._own(http)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        sent = _number(http.headers.get("Last-Event-ID", "0"), "Last-Event-ID", 2**62)
        request_id = case.request.id
        with contextlib.suppress(ConnectionResetError):
            while True:
                state, notes = await self._transactions.run(
                    lambda c: (repository.state(c, request_id), repository.notes(c, request_id))
                )
                for number, note in enumerate(notes[sent:], sent + 1):
                    data = _encode({"at": note.at, "text": note.text}).decode()
                    await response.write(f"id: {number}\ndata: {data}\n\n".encode())
                sent = len(notes)
                if state is None or state in FINAL:
                    await response.write(b"event: end\ndata: {}\n\n")
                    break
                await asyncio.sleep(WATCH_INTERVAL_S)
        return response

    async def _own(self, http: web.Request) -> Case:
        """The request of the path, where it is the caller's. Others do not learn that it exists."""
        who = _user(http)
        case = await self._transactions.run(lambda c: repository.case(c, http.match_info["id"]))
        if case is None or (not self._tokens.open and case.request.owner.user != who.owner.user):
            raise web.HTTPNotFound(reason="there is no such request")
        return case

    # -- clusters and files ----------------------------------------------------------------

    async def clusters(self, http: web.Request) -> web.StreamResponse:
        _user(http)
        now = self._clock()
        items = [
            {
                "name": name,
                "location": known.report.location,
                "lost": self._fleet.lost(name, now),
                "heardSecondsAgo": round(max(now - known.heard_at, 0.0), 1),
                "nodes": sum(shape.count for shape in known.report.shapes),
                "rttsMs": known.report.rtts_ms,
            }
            for name, known in sorted(self._fleet.clusters.items())
        ]
        return _json({"items": items})

    async def abandon(self, http: web.Request) -> web.StreamResponse:
        """What only a person knows: that nothing runs in a lost cluster any more."""
        _user(http)
        name = http.match_info["name"]
        if name not in self._fleet.clusters:
            raise web.HTTPNotFound(reason="there is no such cluster")
        if not self._fleet.lost(name, self._clock()):
            raise web.HTTPConflict(reason=f"cluster {name} is there: only a lost one is abandoned")
        return _json({"requests": await self._worker.abandon(name)})

    async def file(self, http: web.Request) -> web.StreamResponse:
        """The YAML of a request, for agents."""
        if not http[WHO].agent and not self._tokens.open:
            raise web.HTTPForbidden(reason="files are for agents")
        file_id = http.match_info["id"]
        sealed = await self._transactions.run(lambda c: repository.sealed(c, file_id))
        if sealed is None:
            raise web.HTTPNotFound(reason="there is no such file")
        return web.Response(text=self._seal.open(sealed), content_type="application/yaml")

    # -- around ----------------------------------------------------------------------------

    def _authenticate(self) -> Any:
        @web.middleware
        async def authenticate(http: web.Request, handler: Handler) -> web.StreamResponse:
            if http.path not in OPEN:
                who = self._tokens.identify(http.headers.get("Authorization", ""))
                if who is None:
                    raise web.HTTPUnauthorized(
                        reason="a bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
                    )
                http[WHO] = who
            return await handler(http)

        return authenticate

    def _errors(self) -> Any:
        @web.middleware
        async def errors(
            http: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            try:
                return await handler(http)
            except web.HTTPException as error:
                kept = {k: v for k, v in error.headers.items() if k == "WWW-Authenticate"}
                return _error(error.status, error.reason, kept)
            except GschError as error:
                return _error(error.status, str(error))

        return errors


def _user(http: web.Request) -> Identity:
    """Who asks, where that is a user and no agent."""
    who = http[WHO]
    if who.agent:
        raise web.HTTPForbidden(reason="an agent's token reads files only")
    return who


def _number(text: str, name: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise submit.BadRequest(f"{name}: a number of at most {most}, not {text[:40]!r}")
    return int(text)


def _summary(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "state": request.state,
        "policy": request.policy,
        "mode": request.mode,
        "namespace": request.namespace,
        "user": request.owner.user,
        "workspace": request.owner.workspace,
        "project": request.owner.project,
        "queue": request.queue,
        "failures": request.fail_count,
        "message": request.message,
        "createdAt": request.created_at,
        "finishedAt": request.finished_at,
    }


def _attempt(attempt: Any) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "cluster": attempt.cluster,
        "round": attempt.round,
        "level": attempt.level,
        "state": attempt.state,
        "node": attempt.node,
        "score": attempt.score,
        "rttMs": attempt.rtt_ms,
        "fits": attempt.fits,
        "message": attempt.message,
        "askedAt": attempt.asked_at,
        "endedAt": attempt.ended_at,
    }


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=_encode(body), status=status, headers=headers, content_type="application/json"
    )


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json({"error": {"code": status, "message": message}}, status, headers)
