"""What agents tell each other of forwarded pods, on the topic of the cluster that it is for."""

from typing import Any

import msgspec

from federation.messages import Code, End, Message, to_cluster


class CopyState(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How the copy of a forwarded pod is now."""

    proxy: str
    """`namespace/name/uid` of its proxy."""
    request_id: str
    node: str = ""
    status: dict[str, Any] = {}
    """The copy's own status, as its API server has it."""
    deleted: bool = False
    """The copy is no more."""


class CopyEvent(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An event of a copy."""

    proxy: str
    request_id: str
    type: str
    reason: str
    message: str


class CopiesBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`msg` of 120 from the cluster of copies to that of their proxies; without copies it only says
    that the agent is there."""

    cluster: str
    copies: list[CopyState] = []
    events: list[CopyEvent] = []
    """As far as they were seen: some may be missing, or come twice."""
    started: bool = False
    """The agent has just begun: what it reported before may have been lost."""


class WantedCopy(msgspec.Struct, frozen=True, rename="camel"):
    """A copy of which the cluster of its proxy wants to hear."""

    proxy: str
    request_id: str


class WantedBody(msgspec.Struct, frozen=True, rename="camel"):
    """`msg` of 130, the other way: report these copies again."""

    cluster: str
    """Who asks."""
    wanted: list[WantedCopy]


def copies_message(target: str, body: CopiesBody) -> Message:
    return _between(body.cluster, target, Code.COPIES, body)


def wanted_message(target: str, body: WantedBody) -> Message:
    return _between(body.cluster, target, Code.WANTED_COPIES, body)


def _between(source: str, target: str, code: Code, body: msgspec.Struct) -> Message:
    message = to_cluster(target, code, msgspec.to_builtins(body))
    return msgspec.structs.replace(message, source=End("cluster", source))
