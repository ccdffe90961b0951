"""/livez, /readyz, /metrics, /configz and /explain by HTTP(S), with an optional bearer token."""

import hmac
import re
import ssl
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from cluster.client import TransportError
from scheduler.configuration import ConfigurationError, Server, token
from scheduler.explain import CannotExplain
from scheduler.metrics import CONTENT_TYPE

log = structlog.get_logger(__name__)

_KEY = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

OPEN = ("/livez", "/readyz")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

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
        configuration: Callable[[], bytes],
        explain: Callable[[str], Awaitable[bytes]],
    ) -> None:
        self._settings = settings
        self._tls = _tls(settings)
        self._token = token(settings.token_file, "server.tokenFile")
        application = web.Application(middlewares=[self._authorise])
        application.router.add_get("/livez", _health(live))
        application.router.add_get("/readyz", _health(ready))
        application.router.add_get("/metrics", _bytes(metrics, CONTENT_TYPE))
        application.router.add_get("/configz", _bytes(configuration, "application/json"))
        application.router.add_get("/explain/{namespace}/{pod}", _explain(explain))
        self._runner = web.AppRunner(application, access_log=None)
        self.address: tuple[str, int] | None = None

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._token and request.path not in OPEN:
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                return web.Response(
                    status=401,
                    text="a bearer token is needed\n",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        return await handler(request)

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


def _tls(settings: Server) -> ssl.SSLContext | None:
    if not settings.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_private_key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"server.tlsCertFile: {error}") from error
    return context
