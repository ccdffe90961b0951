"""The HTTP server of every process here: aiohttp on the event loop that owns the data."""

import asyncio
import signal
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from cluster.errors import GschError
from serving.security import Handler, ServingError

log = structlog.get_logger(__name__)

OPEN = ("/livez", "/readyz")
"""Paths that are answered without a token."""
KEEP_ALIVE_S = 120.0
"""Seconds for which an idle connection is kept; kube-scheduler's own limit is 90."""
HEADER_TIMEOUT_S = 10.0
"""Seconds in which a new connection has to bring its first request's head."""
MAX_CONNECTIONS = 512
SHUTDOWN_S = 10.0

Health = Callable[[], str]
"""Empty when all is well, else what is wrong."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens; port 0 takes any. `name` is what error messages begin with."""

    name: str
    address: str
    port: int
    tls: ssl.SSLContext | None = None


class HttpServer:
    """Serves an application until stopped.

    A connection without a request within HEADER_TIMEOUT_S is closed, and beyond MAX_CONNECTIONS
    requests get 503.
    """

    def __init__(self, application: web.Application, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._silent: dict[int, asyncio.TimerHandle] = {}
        """By connection without a request yet, the timer that closes it."""
        # Outermost: what is refused further in has been heard, and counts.
        application.middlewares.insert(0, self._admit())
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        self._listening: asyncio.Server | None = None
        self.address: tuple[str, int] | None = None

    async def start(self) -> None:
        """Listen. Raises ServingError where the address is not to be had."""
        endpoint = self._endpoint
        await self._runner.setup()
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                self._connected, endpoint.address, endpoint.port, ssl=endpoint.tls
            )
        except OSError as error:
            await self._runner.cleanup()
            raise ServingError(
                f"{endpoint.name}: cannot listen on {endpoint.address}:{endpoint.port}: "
                f"{error.strerror or error}"
            ) from error
        host, port = self._listening.sockets[0].getsockname()[:2]
        self.address = host, port
        log.info("serving", host=host, port=port, tls=endpoint.tls is not None)

    async def stop(self) -> None:
        """Let requests under way end, for a while."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    def _connected(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None  # noqa: S101 - it is there from `setup` on
        protocol = server()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(HEADER_TIMEOUT_S, self._close_silent, protocol)
        self._silent[id(protocol)] = timer
        return protocol

    def _close_silent(self, protocol: Any) -> None:
        if self._silent.pop(id(protocol), None) is not None:
            protocol.force_close()

    def _admit(self) -> Any:
        @web.middleware
        async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
            timer = self._silent.pop(id(request.protocol), None)
            if timer is not None:
                timer.cancel()
            server = self._runner.server
            if server is not None and len(server.connections) > MAX_CONNECTIONS:
                return web.Response(status=503, text="too many connections\n")
            try:
                return await handler(request)
            except GschError as error:
                return web.Response(status=error.status, text=f"{error}\n")

        return admit


def health(check: Health) -> Handler:
    """200 and `ok`, or 503 and what is wrong."""

    async def answer(_: web.Request) -> web.Response:
        problem = check()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    return answer


def content(read: Callable[[], bytes], content_type: str) -> Handler:
    """What `read` returns at the moment of the request."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=read(), headers={"Content-Type": content_type})

    return answer


def on_signals(stop: Callable[[], object]) -> None:
    """Have SIGTERM and SIGINT call `stop`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


async def run_until_stopped(*works: Coroutine[Any, Any, Any]) -> None:
    """Until SIGTERM or SIGINT, or until one of the works ends: raises what it raised."""
    stopped = asyncio.Event()
    on_signals(stopped.set)
    tasks = [asyncio.create_task(work) for work in works]
    stopping = asyncio.create_task(stopped.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
