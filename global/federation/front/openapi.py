"""The OpenAPI 3.1 document of `/api/v1`, made from the types that the handlers read and answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from federation.front.errors import json_response
from federation.front.records import (
    Abandoned,
    ClusterList,
    Created,
    NodeList,
    PodPage,
    PolicyList,
    PolicyRecord,
    Ranking,
    Refusal,
    RequestPage,
    RequestRecord,
    SetAsideList,
)
from federation.registered_policies import PolicyRegistration
from federation.request import State
from federation.scaling import WorkerCount
from federation.submit import Submission
from serving.security import Handler

PATH = "/api/v1/openapi.json"
VERSION = "v1"
REFERENCE = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class _Operation:
    """What one method of one path takes and answers. 401 may come from each, with tokens."""

    method: str
    path: str
    summary: str
    answers: dict[int, Any]
    """Type of the answer by status; text for what is no JSON."""
    query: tuple[dict[str, Any], ...] = ()
    header: tuple[dict[str, Any], ...] = ()
    body: Any = None
    refusals: tuple[int, ...] = (400,)


def _parameter(name: str, where: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": schema,
    }


def _number(name: str, description: str, maximum: int) -> dict[str, Any]:
    return _parameter(name, "query", description, type="integer", minimum=0, maximum=maximum)


_LIMIT = _number("limit", "How many at most.", 500)
_REQUEST = "/api/v1/requests/{id}"

OPERATIONS = (
    _Operation(
        "post",
        "/api/v1/requests",
        "Hand in Kubernetes objects, to be placed in one of several clusters.",
        {201: Created, 200: Ranking},
        query=(
            _parameter(
                "dryRun", "query", "`All`: say which clusters would be asked, and place nothing.",
                type="string", enum=["All"],
            ),
        ),
        header=(
            _parameter(
                "Idempotency-Key", "header",
                "The same key and body make one request; with another body the answer is 409.",
                type="string", minLength=1, maxLength=255,
            ),
        ),
        body=Submission,
        refusals=(400, 409, 413),
    ),
    _Operation(
        "get",
        "/api/v1/requests",
        "Requests of the caller, newest first.",
        {200: RequestPage},
        query=(
            _LIMIT,
            _number("continue", "Of the page before.", 2**62),
            _parameter("state", "query", "Only those.", type="string", enum=list(State)),
        ),
    ),
    _Operation(
        "get", _REQUEST, "A request, each cluster that was tried, and why.",
        {200: RequestRecord}, refusals=(404,),
    ),
    _Operation(
        "delete", _REQUEST, "Remove a request and all that it made. It is `canceled` once that is"
        " gone.",
        {202: Created}, refusals=(404,),
    ),
    _Operation(
        "get", f"{_REQUEST}/events", "Its history as server-sent events, until it is over.",
        {200: "text/event-stream"},
        header=(
            _parameter(
                "Last-Event-ID", "header", "Events after this one.",
                type="integer", minimum=0, maximum=2**62,
            ),
        ),
        refusals=(400, 404),
    ),
    _Operation(
        "get", f"{_REQUEST}/pods", "Its pods, as their clusters report them.", {200: PodPage},
        query=(_number("limit", "How many at most.", 2000),), refusals=(400, 404),
    ),
    _Operation(
        "get", "/api/v1/pods", "Pods of all requests of the caller.", {200: PodPage},
        query=(_number("limit", "How many at most.", 2000),),
    ),
    _Operation("get", "/api/v1/policies", "Policies.", {200: PolicyList}, refusals=()),
    _Operation(
        "put", "/api/v1/policies/{name}",
        "Register a policy: an image, and the Deployment of its workers.",
        {200: PolicyRecord, 201: PolicyRecord}, body=PolicyRegistration,
        refusals=(400, 409, 413, 422, 500),
    ),
    _Operation(
        "delete", "/api/v1/policies/{name}",
        "Remove a registered policy, whose requests are all finished, and its workers.",
        {200: PolicyRecord}, refusals=(404, 409, 500),
    ),
    _Operation(
        "put", "/api/v1/policies/{name}/workers",
        "Fix how many workers a policy has; null: as the age of its queue wants it.",
        {200: WorkerCount}, body=WorkerCount, refusals=(400, 404, 409),
    ),
    _Operation(
        "get", "/api/v1/clusters", "Clusters, and when they were heard of.", {200: ClusterList},
        refusals=(),
    ),
    _Operation(
        "get", "/api/v1/clusters/{name}/nodes", "A cluster's nodes.", {200: NodeList},
        refusals=(404,),
    ),
    _Operation(
        "post", "/api/v1/clusters/{name}/abandon",
        "Say that nothing runs in a lost cluster any more: its requests start elsewhere.",
        {200: Abandoned}, refusals=(404, 409),
    ),
    _Operation(
        "get", "/api/v1/set-aside", "Messages that nobody could read, the newest first.",
        {200: SetAsideList}, query=(_LIMIT,),
    ),
)  # fmt: skip


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    types = [Refusal, *_types(OPERATIONS)]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gsch global",
            "version": VERSION,
            "description": "Places Kubernetes workloads across clusters.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


_QUERIES = {
    (operation.method.upper(), operation.path): [given["name"] for given in operation.query]
    for operation in OPERATIONS
}


@web.middleware
async def refuse_unknown_queries(http: web.Request, handler: Handler) -> web.StreamResponse:
    """A parameter that is misspelt would be passed over, and the answer be another one."""
    resource = http.match_info.route.resource
    allowed = _QUERIES.get((http.method, resource.canonical if resource is not None else ""))
    if allowed is not None:
        for name in http.query:
            if name not in allowed:
                there = f"there are {', '.join(allowed)}" if allowed else "there is none"
                raise web.HTTPBadRequest(reason=f"query: {name[:40]!r} is not known; {there}")
    return await handler(http)


def add_to(routes: web.UrlDispatcher) -> None:
    made = document()

    async def answer(_: web.Request) -> web.StreamResponse:
        return json_response(made)

    routes.add_get(PATH, answer)


def _types(operations: Iterable[_Operation]) -> list[Any]:
    given = [
        kind
        for operation in operations
        for kind in (operation.body, *operation.answers.values())
        if kind is not None and not isinstance(kind, str)
    ]
    return list(dict.fromkeys(given))


def _described(operation: _Operation, by_type: dict[Any, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, kind in operation.answers.items():
        content = (
            {kind: {"schema": {"type": "string"}}}
            if isinstance(kind, str)
            else {"application/json": {"schema": by_type[kind]}}
        )
        answers[str(status)] = {"description": _described_status(status), "content": content}
    for status in (*operation.refusals, 401, 403, 503):
        answers[str(status)] = {
            "description": _described_status(status),
            "content": {"application/json": {"schema": by_type[Refusal]}},
        }
    in_path = [
        _parameter(part.strip("{}"), "path", "Its name or id.", type="string")
        for part in operation.path.split("/")
        if part.startswith("{")
    ]
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "parameters": [*in_path, *operation.query, *operation.header],
        "responses": answers,
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": by_type[operation.body]}},
        }
    return described


def _operation_id(operation: _Operation) -> str:
    parts = [part for part in operation.path.split("/")[3:] if not part.startswith("{")]
    return "_".join([operation.method, *parts]).replace("-", "_") + (
        "_one" if operation.path.endswith("}") else ""
    )


_STATUS = {
    200: "Done.", 201: "Committed.", 202: "Under way.",
    400: "Something does not hold; the message says what.", 401: "A bearer token is needed.",
    403: "This token may not.", 404: "There is none, or it is not the caller's.",
    409: "Not as things are.", 413: "The body is too large.",
    422: "The API server does not take it; the message has its words.",
    500: "The API server does not answer as it should.",
    503: "The database does not answer; nothing was done.",
}  # fmt: skip


def _described_status(status: int) -> str:
    return _STATUS[status]
