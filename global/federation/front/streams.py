"""Where agents bring the two ends of a stream together, each by a WebSocket of its own."""

from collections.abc import Callable

from aiohttp import web

from federation.front.tokens import Identity
from federation.streams.duplex import HEARTBEAT_S, MAX_MESSAGE, Duplex, WebSocketDuplex, splice
from federation.streams.rendezvous import MeetingPoint, NotMet

MAX_OPEN = 100
"""Streams that are open at once: each has two of the server's connections, and requests need some
of these too."""


def add_to(
    routes: web.UrlDispatcher, point: MeetingPoint, who: Callable[[web.Request], Identity]
) -> None:
    """The routes under /api/v1/streams, for agents alone."""
    path = "/api/v1/streams/{id}"
    open_streams: set[Duplex] = set()

    async def offer(http: web.Request) -> web.StreamResponse:
        """The agent of the cluster of a proxy. It says which it is, and its token has to agree."""
        source, target = http.query.get("source", ""), http.query.get("target", "")
        if _agent_of(who(http)) not in (None, source):
            raise web.HTTPForbidden(reason=f"streams of cluster {source} are for its agent")
        if len(open_streams) >= MAX_OPEN:
            raise web.HTTPServiceUnavailable(reason=f"{MAX_OPEN} streams are open already")
        try:
            end = point.offer(http.match_info["id"], source, target)
        except NotMet as error:
            raise web.HTTPConflict(reason=str(error)) from error
        open_streams.add(end)
        try:
            return await _carry(http, end)
        finally:
            open_streams.discard(end)

    async def accept(http: web.Request) -> web.StreamResponse:
        """The agent of the cluster of its copy. It hears first who has offered the stream."""
        try:
            source, end = point.accept(http.match_info["id"], _agent_of(who(http)))
        except NotMet as error:
            raise web.HTTPNotFound(reason=str(error)) from error
        return await _carry(http, end, source)

    routes.add_get(f"{path}/offer", offer)
    routes.add_get(f"{path}/accept", accept)


def _agent_of(identity: Identity) -> str | None:
    """The cluster whose agent asks; None where nobody has to say who he is."""
    if not identity.named:
        return None
    if not identity.agent:
        raise web.HTTPForbidden(reason="streams are for agents")
    return identity.agent


async def _carry(
    http: web.Request, end: Duplex, greeting: str | None = None
) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE, compress=False)
    try:
        await socket.prepare(http)
        if greeting is not None:
            await socket.send_str(greeting)
    except BaseException:
        await end.close()
        raise
    await splice(WebSocketDuplex(socket), end)
    return socket
