"""What an agent asks another one for when somebody wants to look into a forwarded pod."""

import msgspec

from federation.messages import Code, End, Message, to_cluster

UPGRADE_HEADERS = (
    "upgrade", "x-stream-protocol-version", "sec-websocket-key", "sec-websocket-version",
    "sec-websocket-protocol", "sec-websocket-extensions",
)  # fmt: skip
"""Headers of a stream's request, and no others: lower case."""
SUBRESOURCES = ("log", "exec", "attach", "portforward")
"""Of a pod, that are reached through streams."""


class StreamRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`msg` of 140, from the cluster of a proxy to that of its copy."""

    id: str
    """Where both ends meet: unguessable."""
    cluster: str
    """Of the proxy."""
    proxy: str
    """`namespace/name/uid` of the proxy."""
    request_id: str
    subresource: str
    method: str = "GET"
    query: list[tuple[str, str]] = []
    headers: list[tuple[str, str]] = []
    """Those that say what the connection is upgraded to."""


class StreamAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The first bytes of a stream: whether what follows is the API server's."""

    status: int
    message: str = ""


def stream_message(target: str, request: StreamRequest) -> Message:
    message = to_cluster(target, Code.STREAM, msgspec.to_builtins(request))
    return msgspec.structs.replace(message, source=End("cluster", request.cluster))
