"""Health, metrics, latency, configuration and explanations by HTTP(S), with an optional token."""

import re
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from cluster.api.client import TransportError
from scheduler.config.configuration import ConfigurationError, Server, token
from scheduler.observe.metrics import CONTENT_TYPE
from scheduler.offline.explain import CannotExplain
from serving.security import Handler, ServingError, bearer, tls

log = structlog.get_logger(__name__)

_KEY = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

OPEN = ("/livez", "/readyz")

Health = Callable[[], str]
"""Empty when all is well, else what is wrong."""


class HttpServer:
    """Serves until stopped. `live` and `ready` answer with their text, 503 unless it is empty."""

    def __init__(
        self,
        settings: Server,
        *,
        live: Health,
        ready: Health,
        metrics: Callable[[], bytes],
        resources: Callable[[], bytes],
        latency: Callable[[], bytes],
        configuration: Callable[[], bytes],
        explain: Callable[[str], Awaitable[bytes]],
    ) -> None:
        self._settings = settings
        try:
            self._tls = tls(settings.tls_cert_file, settings.tls_private_key_file)
        except ServingError as error:
            raise ConfigurationError(f"server.tlsCertFile: {error}") from error
        asked = token(settings.token_file, "server.tokenFile")
        application = web.Application(middlewares=[bearer(asked, OPEN)])
        application.router.add_get("/livez", _health(live))
        application.router.add_get("/readyz", _health(ready))
        application.router.add_get("/metrics", _bytes(metrics, CONTENT_TYPE))
        application.router.add_get("/metrics/resources", _bytes(resources, CONTENT_TYPE))
        application.router.add_get("/latency", _bytes(latency, "application/json"))
        application.router.add_get("/configz", _bytes(configuration, "application/json"))
        application.router.add_get("/explain/{namespace}/{pod}", _explain(explain))
        self._runner = web.AppRunner(application, access_log=None)
        self.address: tuple[str, int] | None = None

    async def start(self) -> None:
        """Listen. Raises ConfigurationError where the address is not to be had."""
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self._settings.bind_address, self._settings.port, ssl_context=self._tls
        )
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"server: cannot listen on {self._settings.bind_address}:"
                f"{self._settings.port}: {error.strerror}"
            ) from error
        host, port = self._runner.addresses[0][:2]
        self.address = host, port
        log.info("serving", host=host, port=port, tls=self._tls is not None)

    async def stop(self) -> None:
        await self._runner.cleanup()


def _health(check: Health) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        problem = check()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    return answer


def _bytes(read: Callable[[], bytes], content_type: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=read(), headers={"Content-Type": content_type})

    return answer


def _explain(explain: Callable[[str], Awaitable[bytes]]) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        key = f"{request.match_info['namespace']}/{request.match_info['pod']}"
        if not _KEY.fullmatch(key):
            return web.Response(text="not the name of a pod\n", status=400)
        try:
            body = await explain(key)
        except CannotExplain as error:
            return web.Response(text=f"{error}\n", status=404)
        except TransportError as error:
            return web.Response(text=f"the API server cannot be asked: {error}\n", status=503)
        return web.Response(body=body, content_type="application/json")

    return answer
