"""Requests for forwarded pods: made by the agent of the pod's cluster, one for each of its
tries."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from sqlalchemy import Connection
from store.transactions import Transactions

from federation import repository
from federation.documents import BadDocument
from federation.forwarding.requests import PodRequest, RequestRefused
from federation.front.tokens import Identity
from federation.progress import Progress
from federation.request import AttemptState, Case, Owner, State
from federation.submit import BadRequest, Submission, read_body
from serving.security import Handler

CreateRequest = Callable[[Identity, Submission, bytes, str | None], Awaitable[str]]
"""Takes a request, and returns its id once it is committed."""


class ForwardedPods:
    """What the layer keeps of the pods of all clusters. Raises DatabaseUnavailable."""

    def __init__(
        self, transactions: Transactions, progress: Progress, create: CreateRequest
    ) -> None:
        self._transactions, self._progress, self._create = transactions, progress, create

    async def make(self, cluster: str, uid: str, number: int, submission: Submission) -> PodRequest:
        """The one there is, though what its pod refers to has changed since; or a new one. Raises
        BadRequest, BadDocument."""
        existing = await self.get(cluster, uid, number)
        if existing is not None:
            return existing
        body = msgspec.json.encode(submission)
        try:
            request_id = await self._create(
                Identity(_owner(cluster), forwards=True), submission, body, _key(uid, number)
            )
        except web.HTTPConflict:
            made = await self.get(cluster, uid, number)
            if made is None:
                raise
            return made
        return PodRequest(request_id, State.QUEUED)

    async def get(self, cluster: str, uid: str, number: int) -> PodRequest | None:
        def read(connection: Connection) -> Case | None:
            user = _owner(cluster).user
            request_id = repository.id_of_key(connection, user, _key(uid, number))
            return None if request_id is None else repository.case(connection, request_id)

        case = await self._transactions.run(read)
        return None if case is None else _answer(case)

    async def cancel(self, cluster: str, uid: str, number: int) -> PodRequest | None:
        existing = await self.get(cluster, uid, number)
        if existing is None or existing.state in (State.CANCELED, State.FAILED):
            return existing
        await self._progress.cancel(existing.id)
        return await self.get(cluster, uid, number)

    def of(self, cluster: str) -> "PodRequestsHere":
        """Of one cluster, for an agent in this process."""
        return PodRequestsHere(self, cluster)


class PodRequestsHere:
    """PodRequests without a front in between."""

    def __init__(self, pods: ForwardedPods, cluster: str) -> None:
        self._pods, self._cluster = pods, cluster

    async def make(self, uid: str, number: int, submission: Submission) -> PodRequest:
        try:
            return await self._pods.make(self._cluster, uid, number, submission)
        except (BadRequest, BadDocument) as error:
            raise RequestRefused(str(error)) from error

    async def get(self, uid: str, number: int) -> PodRequest | None:
        return await self._pods.get(self._cluster, uid, number)

    async def cancel(self, uid: str, number: int) -> PodRequest | None:
        return await self._pods.cancel(self._cluster, uid, number)


def add_to(
    routes: web.UrlDispatcher, pods: ForwardedPods, who: Callable[[web.Request], Identity]
) -> None:
    """The routes under /api/v1/forwarded, for the agents of the clusters that they name."""
    path = "/api/v1/forwarded/{cluster}/{uid}/{number}"

    def path_params(http: web.Request) -> tuple[str, str, int]:
        cluster, uid, number = (http.match_info[key] for key in ("cluster", "uid", "number"))
        identity = who(http)
        if identity.named and identity.agent != cluster:
            raise web.HTTPForbidden(reason=f"pods of cluster {cluster} are for its agent")
        if not number.isascii() or not number.isdigit():
            raise web.HTTPNotFound(reason="there is no such try")
        return cluster, uid, int(number)

    def answered(
        lookup: Callable[[str, str, int], Awaitable[PodRequest | None]],
    ) -> Handler:
        async def handle(http: web.Request) -> web.StreamResponse:
            request = await lookup(*path_params(http))
            if request is None:
                raise web.HTTPNotFound(reason="the pod has no such request")
            return _json(request)

        return handle

    async def put(http: web.Request) -> web.StreamResponse:
        return _json(await pods.make(*path_params(http), read_body(await http.read())))

    routes.add_put(path, put)
    routes.add_get(path, answered(pods.get))
    routes.add_delete(path, answered(pods.cancel))


def _json(request: PodRequest) -> web.Response:
    return web.Response(body=msgspec.json.encode(request), content_type="application/json")


def _owner(cluster: str) -> Owner:
    return Owner(f"cluster:{cluster}")


def _key(uid: str, number: int) -> str:
    return f"pod/{uid}/{number}"


def _answer(case: Case) -> PodRequest:
    request = case.request
    placed = [one for one in case.attempts if one.state is AttemptState.SUCCEEDED]
    cluster = placed[-1].cluster if placed else ""
    return PodRequest(request.id, request.state, cluster, request.message)
