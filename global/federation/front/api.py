"""`/api/v1`: requests (create, list, read, explain, cancel, watch), clusters, and files for agents.

Errors are JSON, `{"error": {"code", "message"}}`, with the status that fits.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import structlog
from aiohttp import web
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from store.sealing import Seal
from store.transactions import Transactions

from federation import (
    callbacks,
    pods,
    poison,
    policies,
    registered_policies,
    repository,
    submit,
)
from federation.documents import Document
from federation.fleet import Fleet
from federation.front import forwarded, openapi, records, streams
from federation.front.clusters import ClusterRoutes
from federation.front.errors import answer_errors, json_response
from federation.front.forwarded import ForwardedPods
from federation.front.legacy import LegacyFront
from federation.front.policies import PolicyRoutes
from federation.front.tokens import Identity, Tokens
from federation.levels import levels_of
from federation.live import QUEUE, Live
from federation.messages import MAX_SHOWN
from federation.platform_services import PlatformServices
from federation.progress import Progress
from federation.registered_policies import PolicyRegistry
from federation.request import FINAL, Case, Request, State
from federation.scaling import WorkerCounts
from federation.settings import ScalingSettings
from federation.streams.rendezvous import MeetingPoint
from federation.yaml_cache import YamlCache
from serving.http_server import OPEN, content, health
from serving.security import Handler

log = structlog.get_logger(__name__)

MAX_BODY = 2 * 1024 * 1024
"""Bytes of a request's body; its YAML may have half of that."""
MAX_KEY = 255
MAX_PAGE = 500
MAX_PODS = 2000
WATCH_INTERVAL_S = 2.0
"""Seconds after which a watched request is looked at, though nobody said that it changed."""
WHO: web.RequestKey[Identity] = web.RequestKey("who", Identity)


Keep = Callable[[str, int, list[Document]], None]
"""Is given a request's file id, its size in characters and its documents."""


class Front:
    """The handlers, over the database. Workers carry requests on."""

    def __init__(
        self,
        transactions: Transactions,
        seal: Seal,
        fleet: Fleet,
        progress: Progress,
        live: Live,
        tokens: Tokens,
        *,
        allow_private: bool = False,
        legacy: bool = False,
        serves_workers: bool = False,
        console_url: str = "",
        yaml_cache: YamlCache | None = None,
        keep: Keep | None = None,
        scaling_settings: ScalingSettings = ScalingSettings(),
        registry: PolicyRegistry | None = None,
        services: PlatformServices | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`allow_private`: callbacks may go to private addresses. `legacy`: GS's routes too.
        `serves_workers`: agents take messages of GS's workers, over Kafka."""
        self._transactions, self._seal, self._fleet = transactions, seal, fleet
        self._progress, self._live, self._tokens, self._clock = progress, live, tokens, clock
        self._allow_private, self._yaml_cache = allow_private, yaml_cache
        self._keep = keep
        self.forwarded = ForwardedPods(transactions, progress, self._create)
        self.meeting_point = MeetingPoint()
        workers = WorkerCounts(transactions, scaling_settings)
        self._policies = PolicyRoutes(
            transactions, workers, registry, _user, serves_workers=serves_workers
        )
        self._clusters = ClusterRoutes(transactions, fleet, progress, _user, clock)
        self._legacy = None
        if legacy:
            self._legacy = LegacyFront(
                transactions, fleet, progress, self._create, _user, console_url, workers, services
            )

    def application(
        self, metrics: Callable[[], bytes], problem: Callable[[], str]
    ) -> web.Application:
        """`problem` says why this process cannot do its work; empty where it can."""
        checks: list[Any] = [
            answer_errors,
            self._authenticate(),
            openapi.refuse_unknown_queries,
        ]
        application = web.Application(client_max_size=MAX_BODY, middlewares=checks)
        routes = application.router
        routes.add_get("/livez", health(lambda: ""))
        routes.add_get("/readyz", health(problem))
        routes.add_get("/metrics", content(metrics, "text/plain; version=0.0.4"))
        routes.add_post("/api/v1/requests", self.create)
        routes.add_get("/api/v1/requests", self.list_)
        routes.add_get("/api/v1/requests/{id}", self.read)
        routes.add_delete("/api/v1/requests/{id}", self.cancel)
        routes.add_get("/api/v1/requests/{id}/events", self.watch)
        routes.add_get("/api/v1/requests/{id}/pods", self.pods_of)
        routes.add_get("/api/v1/pods", self.pods)
        routes.add_get("/api/v1/set-aside", self.set_aside)
        routes.add_get("/api/v1/files/{id}", self.file)
        forwarded.add_to(routes, self.forwarded, lambda http: http[WHO])
        self._policies.add_to(routes)
        self._clusters.add_to(routes)
        openapi.add_to(routes)
        streams.add_to(routes, self.meeting_point, lambda http: http[WHO])
        if self._legacy is not None:
            self._legacy.add_to(routes)
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
        if http.query.get("dryRun") == "All":
            request, _ = await self._checked(who, given)
            return json_response(await asyncio.to_thread(self._dry_run, request))
        request_id = await self._create(who, given, body, key)
        location = {"Location": f"/api/v1/requests/{request_id}"}
        return json_response(records.Created(request_id), 201, location)

    async def _checked(
        self, who: Identity, given: submit.Submission
    ) -> tuple[Request, list[Document]]:
        if given.callback_url:
            callbacks.check(given.callback_url, self._allow_private)
        names = frozenset(self._fleet.clusters)
        registered: list[str] = []
        if given.policy not in policies.names():
            registered = await self._transactions.run(registered_policies.registered_names)
        # YAML of a megabyte takes its time: not on the loop.
        return await asyncio.to_thread(
            submit.request_of, given, who.owner, names, self._clock(), who.forwards, registered
        )

    async def _create(
        self, who: Identity, given: submit.Submission, body: bytes, key: str | None
    ) -> str:
        """The id of the request, once it is committed with its YAML."""
        request, documents = await self._checked(who, given)
        sealed, digest = self._seal.seal(given.yaml), repository.digest(body)

        def work(connection: Connection) -> str:
            if request.policy not in policies.names():
                registered_policies.check_registered(connection, request.policy)
            return repository.create(connection, request, sealed, digest, key)

        try:
            try:
                made = await self._transactions.run(work)
            except IntegrityError:
                # The same key, by another front at this moment: it is there now.
                made = await self._transactions.run(work)
        except repository.Conflict:
            raise web.HTTPConflict(
                reason="this Idempotency-Key was used for another body"
            ) from None
        if self._keep is not None:
            self._keep(request.file_id, len(given.yaml), documents)
        if self._yaml_cache is not None:
            await self._yaml_cache.put(request.file_id, given.yaml)
        await self._live.publish([QUEUE])
        return made

    def _dry_run(self, request: Request) -> records.Ranking:
        """Which clusters would be asked, level by level, without placing anything."""
        levels = []
        for names in levels_of(request, self._fleet):
            ranked, out = policies.rank(self._fleet, request, names, self._clock())
            asked = [records.AskedCluster(r.cluster, r.score, r.rtt_ms) for r in ranked]
            levels.append(records.RankedLevel(asked, out))
        return records.Ranking(levels)

    async def list_(self, http: web.Request) -> web.StreamResponse:
        who, query = _user(http), http.query
        limit = _number(query.get("limit", "50"), "limit", MAX_PAGE)
        before, state = query.get("continue"), query.get("state")
        if state is not None and state not in set(State):
            raise web.HTTPBadRequest(reason=f"state: {state!r} is none: one of {', '.join(State)}")
        user = None if self._tokens.open else who.owner.user
        page = await self._transactions.run(
            lambda c: repository.page(
                c,
                user=user,
                state=state,
                before=None if before is None else _number(before, "continue", 2**62),
                limit=limit,
            )
        )
        items = [records.summary_of(request) for request in page.requests]
        return json_response(records.RequestPage(items, page.next))

    async def read(self, http: web.Request) -> web.StreamResponse:
        case = await self._own(http)
        entries = await self._transactions.run(
            lambda c: repository.history_entries(c, case.request.id)
        )
        history = [records.HistoryRecord(entry.at, entry.text) for entry in entries]
        return json_response(records.record_of(case.request, case.attempts, history))

    async def cancel(self, http: web.Request) -> web.StreamResponse:
        """202: it is over once nothing of it is left in any cluster."""
        case = await self._own(http)
        await self._progress.cancel(case.request.id)
        return json_response(records.Created(case.request.id), 202)

    async def watch(self, http: web.Request) -> web.StreamResponse:
        """Server-sent events: the request's history as it grows, until it is over."""
        case = await self._own(http)
        sent = _number(http.headers.get("Last-Event-ID", "0"), "Last-Event-ID", 2**62)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(http)
        request_id = case.request.id
        with contextlib.suppress(ConnectionError):
            while True:
                state, entries = await self._transactions.run(
                    partial(_since, request_id=request_id, after=sent)
                )
                for entry in entries:
                    data = msgspec.json.encode({"at": entry.at, "text": entry.text}).decode()
                    await response.write(f"id: {entry.id}\ndata: {data}\n\n".encode())
                    sent = entry.id
                if state is None or state in FINAL:
                    await response.write(b"event: end\ndata: {}\n\n")
                    break
                await self._live.wait(request_id, WATCH_INTERVAL_S)
                if http.transport is None or http.transport.is_closing():
                    break
        return response

    async def pods_of(self, http: web.Request) -> web.StreamResponse:
        """The request's pods, as their clusters report them."""
        case = await self._own(http)
        return await self._pods(http, [case.request.id])

    async def pods(self, http: web.Request) -> web.StreamResponse:
        """Pods of all the caller's requests, those of the newest first."""
        return await self._pods(http, None)

    async def _pods(self, http: web.Request, ids: list[str] | None) -> web.StreamResponse:
        who = _user(http)
        user = None if self._tokens.open else who.owner.user
        limit = _number(http.query.get("limit", "200"), "limit", MAX_PODS)
        items = await self._transactions.run(
            lambda c: pods.of_requests(c, user=user, ids=ids, limit=limit)
        )
        return json_response(records.PodPage(items))

    async def _own(self, http: web.Request) -> Case:
        """The request of the path, where it is the caller's. Others do not learn that it exists."""
        who = _user(http)
        case = await self._transactions.run(lambda c: repository.case(c, http.match_info["id"]))
        if case is None or (not self._tokens.open and case.request.owner.user != who.owner.user):
            raise web.HTTPNotFound(reason="there is no such request")
        return case

    # -- files -----------------------------------------------------------------------------

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

    async def set_aside(self, http: web.Request) -> web.StreamResponse:
        """Messages that nobody could read, the newest first."""
        _user(http)
        limit = _number(http.query.get("limit", "50"), "limit", MAX_PAGE)
        messages = await self._transactions.run(lambda c: poison.newest(c, limit))
        items = [
            records.SetAsideRecord(
                one.id,
                one.topic,
                one.at,
                one.problem,
                one.body[:MAX_SHOWN].decode("utf-8", "replace"),
            )
            for one in messages
        ]
        return json_response(records.SetAsideList(items))

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


def _since(
    connection: Connection, request_id: str, after: int
) -> tuple[State | None, list[repository.HistoryEntry]]:
    """State of the request, and the lines of its history beyond the one of this number."""
    entries = repository.history_entries(connection, request_id, after)
    return repository.state(connection, request_id), entries


def _user(http: web.Request) -> Identity:
    """Who asks, where that is a user and no agent."""
    who = http[WHO]
    if who.agent:
        raise web.HTTPForbidden(reason="an agent's token reads files only")
    return who


def _number(text: str, name: str, maximum: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > maximum:
        raise submit.BadRequest(f"{name}: a number of at most {maximum}, not {text[:40]!r}")
    return int(text)
