"""An HTTP server that plays an API server's misfortunes: what it answers is a script."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from aiohttp import web

from cluster.api.access import Access
from cluster.api.client import ApiClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, folder: Path) -> AsyncIterator[ApiClient]:
    """A client of a server that answers every request by `handler`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://{host}:{port}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig = folder / "kubeconfig.yaml"
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        async with ApiClient(Access(str(kubeconfig))) as client:
            yield client
    finally:
        await runner.cleanup()


def refusal(code: int, message: str = "no", **headers: str) -> web.Response:
    """A Status as the API server writes it."""
    body = {"kind": "Status", "code": code, "message": message, "reason": "Test"}
    return web.json_response(body, status=code, headers=headers)


def cut(request: web.Request) -> web.StreamResponse:
    """Close the connection without a word."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def lines(request: web.Request, *events: object, hold: float = 0.0) -> web.StreamResponse:
    """A watch that sends these events, stays open so long, and ends."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for event in events:
        raw = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
        await response.write(raw)
    await asyncio.sleep(hold)
    return response
