"""The console's process: uvicorn over the front, until a signal."""

import asyncio
import contextlib
import signal
import socket

import structlog
import uvicorn

from console.front import ConsoleApp
from console.pages import application
from console.quiet_server import QuietServer
from console.settings import Cluster, SettingsError, SourceAddress
from console.sources import source_of

log = structlog.get_logger(__name__)


def serve(
    clusters: tuple[Cluster, ...],
    layer: SourceAddress | None,
    address: str,
    port: int,
    token: bytes,
    tls: tuple[str, str],
) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError."""
    sources = {cluster.name: source_of(cluster) for cluster in clusters}
    asyncio.run(_serve(application(clusters, sources, layer), address, port, token, tls))


async def _serve(
    pages: object, address: str, port: int, token: bytes, tls: tuple[str, str]
) -> None:
    front = ConsoleApp(pages, token, secure=bool(tls[0]))
    try:
        listening = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}:{port}: {error.strerror}") from error
    config = uvicorn.Config(
        front,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        ssl_certfile=tls[0] or None,
        ssl_keyfile=tls[1] or None,
    )
    server = QuietServer(config)

    def stop() -> None:
        front.closing.set()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    log.info("serving the console", host=address, port=listening.getsockname()[1])
    with contextlib.closing(listening):
        await server.serve([listening])
