"""What went wrong, as an answer: JSON of our own, or of GS's shape under its prefix."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from store.transactions import DatabaseUnavailable

from cluster.errors import GschError

GS_PREFIX = "/GEP/"
GS_CODES = {
    400: "InvalidRequestContentException",
    404: "ResourceNotFoundException",
    405: "MethodNotAllowed",
}
RETRY_AFTER = "2"

_encode = msgspec.json.Encoder().encode


def json_response(
    body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=_encode(body), status=status, headers=headers, content_type="application/json"
    )


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every refusal as JSON that says what was wrong."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {k: v for k, v in error.headers.items() if k in ("WWW-Authenticate", "Allow")}
        return _error(request, error.status, error.reason, kept)
    except DatabaseUnavailable:
        message = "the database does not answer; nothing of this was done: try again"
        return _error(request, 503, message, {"Retry-After": RETRY_AFTER})
    except GschError as error:
        return _error(request, error.status, str(error), {})


def _error(http: web.Request, status: int, message: str, headers: dict[str, str]) -> web.Response:
    if http.path.startswith(GS_PREFIX):
        code = GS_CODES.get(status, "ServiceInternalException")
        return json_response({"Error": {"ErrorCode": code, "Message": message}}, status, headers)
    return json_response({"error": {"code": status, "message": message}}, status, headers)
