"""Messages between the layer and the clusters' agents: GS's envelope and codes, with our additions.

    {"source": {"type", "object"}, "target": {"type", "object"}, "hcode", "lcode", "msg"}

`hcode` says what is meant, `lcode` 1 that it is a request and 2 that it is a reply. Ours adds an
`attempt` to every `msg` (a message without one comes from a worker or front of GS), and the codes
REPORT, PODS, NODES, COPIES, WANTED_COPIES, STREAM and REVOKE. YAML is never part of a message: it
is fetched by `file_id`."""

from enum import IntEnum
from typing import Any

import msgspec

GLOBAL_TOPIC = "gedge-global-gsch-topic"
"""Of messages to several clusters; those to one go to a topic that is named as the cluster."""
REPORT_TOPIC = "gedge-global-api-topic"
"""Reports of the agents."""
REPLY_TOPIC = "gsch-replies"
"""Replies to our own workers, keyed by request id."""
MAX_BYTES = 512 * 1024
VERSION = 1
"""Of the messages; one without it is of this one."""
MAX_SHOWN = 2000
"""Bytes that are kept of a message that nobody can read."""


class Code(IntEnum):
    """hcode. 100 to 140, 220 and 410 are ours."""

    REPORT = 100
    PODS = 110
    NODES = 115
    COPIES = 120
    WANTED_COPIES = 130
    STREAM = 140
    LATENCY = 200
    APPLY_LATENCY = 210
    REVOKE = 220
    RESOURCES = 300
    APPLY_MOST = 310
    APPLY_SELECTED = 400
    APPLY_SET = 410
    PROJECT = 520
    POD = 530
    ERROR = 900


APPLY_CODES = (Code.APPLY_LATENCY, Code.APPLY_MOST, Code.APPLY_SELECTED, Code.APPLY_SET)
REQUEST, REPLY = 1, 2


class MalformedMessage(ValueError):
    """The bytes are no message; the text says where they stop making sense."""


class End(msgspec.Struct, frozen=True):
    """Whom a message comes from, or is for."""

    type: str = "none"
    object: Any = None


class Message(msgspec.Struct, frozen=True):
    """One message, decoded."""

    hcode: int
    lcode: int
    msg: dict[str, Any]
    source: End = End()
    target: End = End()
    work_info: dict[str, Any] | None = None

    @property
    def request_id(self) -> str:
        """In either spelling."""
        value = self.msg.get("request_id", self.msg.get("requestID", ""))
        return value if isinstance(value, str) else ""

    @property
    def attempt(self) -> int | None:
        """None in a message of a GS worker."""
        value = self.msg.get("attempt")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


class _Wire(msgspec.Struct):
    hcode: int | str
    lcode: int | str
    msg: dict[str, Any] = {}
    source: End = End()
    target: End = End()
    work_info: dict[str, Any] | None = None
    version: int = VERSION


_decode = msgspec.json.Decoder(_Wire).decode
_encode = msgspec.json.Encoder().encode


def decode(body: bytes) -> Message:
    """Raises MalformedMessage. Codes may be numbers, or hex digits in text (`0x00c8`)."""
    if len(body) > MAX_BYTES:
        raise MalformedMessage(f"{len(body)} bytes, at most {MAX_BYTES} are read")
    try:
        wire = _decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
    if wire.version != VERSION:
        raise MalformedMessage(f"version {wire.version} is not known here, {VERSION} is")
    hcode, lcode = _code(wire.hcode, "hcode"), _code(wire.lcode, "lcode")
    return Message(hcode, lcode, wire.msg, wire.source, wire.target, wire.work_info)


def encode(message: Message) -> bytes:
    return _encode(message)


def to_cluster(cluster: str, code: Code, msg: dict[str, Any]) -> Message:
    """A request of the layer to one cluster's agent."""
    return Message(code, REQUEST, msg, End("none"), End("cluster", cluster))


def reply_to(request: Message, cluster: str, msg: dict[str, Any]) -> Message:
    """A cluster's answer; with the code of the request, unless it is an error."""
    code = Code.ERROR if msg.get("result") == "error" else request.hcode
    given = {"request_id": request.request_id, "attempt": request.attempt, **msg}
    body = {key: value for key, value in given.items() if value is not None}
    return Message(code, REPLY, body, End("cluster", cluster), request.source, request.work_info)


def unreadable(body: bytes, problem: str) -> Message:
    """A message that nobody can act on, for the layer to set aside."""
    text = body[:MAX_SHOWN].decode("utf-8", "replace")
    return Message(Code.ERROR, REPLY, {"result": "error", "message": problem, "body": text})


def reply_topic(request: Message) -> str:
    """Where the answer goes: our own topic, the one that the message names, or, for a message of a
    GS worker, the one that is named as the request."""
    named = request.msg.get("reply_to")
    if isinstance(named, str) and named:
        return named
    return REPLY_TOPIC if request.attempt is not None else request.request_id


def _code(value: int | str, name: str) -> int:
    if isinstance(value, int):
        return value
    try:
        return int(value, 16) if value.lower().startswith("0x") else int(value)
    except ValueError as error:
        raise MalformedMessage(f"{name}: {value!r} is neither a number nor hex digits") from error
