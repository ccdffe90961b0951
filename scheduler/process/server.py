"""A scheduler's pages: health, metrics, latency, configuration and explanations."""

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from cluster.errors import ConfigError
from scheduler.config.configuration import Server
from scheduler.observe.metrics import CONTENT_TYPE
from serving.http_server import OPEN, Endpoint, Health, content, health
from serving.security import Handler, ServingError, bearer, tls

_KEY = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def application(
    token: bytes,
    *,
    live: Health,
    ready: Health,
    metrics: Callable[[], bytes],
    resources: Callable[[], bytes],
    latency: Callable[[], bytes],
    configuration: Callable[[], bytes],
    explain: Callable[[str], Awaitable[bytes]],
) -> web.Application:
    """A scheduler's pages. `live` and `ready` are what is wrong, empty when all is well."""
    app = web.Application(middlewares=[bearer(token, OPEN)])
    app.router.add_get("/livez", health(live))
    app.router.add_get("/readyz", health(ready))
    app.router.add_get("/metrics", content(metrics, CONTENT_TYPE))
    app.router.add_get("/metrics/resources", content(resources, CONTENT_TYPE))
    app.router.add_get("/latency", content(latency, "application/json"))
    app.router.add_get("/configz", content(configuration, "application/json"))
    app.router.add_get("/explain/{namespace}/{pod}", _explain(explain))
    return app


def endpoint(settings: Server) -> Endpoint:
    """Raises ConfigError."""
    try:
        context = tls(settings.tls_cert_file, settings.tls_private_key_file)
    except ServingError as error:
        raise ConfigError(f"server.tlsCertFile: {error}") from error
    return Endpoint("server", settings.bind_address, settings.port, context)


def _explain(explain: Callable[[str], Awaitable[bytes]]) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        key = f"{request.match_info['namespace']}/{request.match_info['pod']}"
        if not _KEY.fullmatch(key):
            raise web.HTTPBadRequest(text="not the name of a pod\n")
        return web.Response(body=await explain(key), content_type="application/json")

    return answer
