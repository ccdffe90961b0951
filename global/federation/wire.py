"""What is said to agents about a request, and what their replies mean."""

from typing import Any

import msgspec

from federation.exchange import (
    Answer,
    Apply,
    Ask,
    Done,
    Offer,
    Refusal,
    Revoke,
    Send,
    Stopped,
)
from federation.fleet import Report
from federation.messages import Code, Message, encode, to_cluster
from federation.policies import base_of
from federation.request import LOW_LATENCY, SELECTED, SET, AttemptState, Request

GPU = "nvidia.com/gpu"
MAX_TEXT = 2000
"""Characters of an agent's explanation that are kept."""


class OrderBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every `msg` says of a request that an agent is to look at."""

    request_id: str
    attempt: int
    file_id: str
    policy: str
    mode: str = "default"
    namespace: str = "default"
    node: str = ""
    source_cluster: str = ""
    source_node: str = ""
    source_pod: str = ""


class AskBody(OrderBody, frozen=True, omit_defaults=True):
    """`msg` of 200 and 300: does the request fit, where, and how well? The room is held."""

    partial: bool = False
    """Whether it is enough that some of the pods fit."""
    GPUFilter: str = "unnecessary"


class ApplyBody(OrderBody, frozen=True, omit_defaults=True):
    """`msg` of 210, 310, 400 and 410: carry the request out."""

    replicas: int | None = None
    accept_within_s: float = 30.0
    cluster_lost: str = "keep"


class RevokeBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """`msg` of 220: undo the attempt, and refuse what comes of it later."""

    request_id: str
    attempt: int
    keep_claims: bool = True
    held_only: bool = False
    """Nothing was applied under this attempt, nor will be: there is only room to give back."""
    close: bool = False
    """The request is over and forgotten: nothing has to be remembered of it any more."""


class HeardBody(msgspec.Struct, frozen=True):
    """`msg` of the reply to a report: the layer has heard it."""

    number: int
    agent: str


class ResultBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """`msg.result` of a reply, with GS's fields and ours."""

    status: str = "success"
    """`success`, `fail` or `cancel`."""
    error_msg: str = ""
    cluster_name: str = ""
    node_name: str = ""
    cpu: int = 0
    memory: int = 0
    gpu: int = msgspec.field(default=0, name=GPU)
    score: float = 0.0
    fits: int = 0
    rtt_ms: float | None = None
    stopped: bool = False
    """Of 220: nobody asked; the agent was cut off and stopped the copy by itself."""


def apply_code(request: Request) -> Code:
    if base_of(request.policy) == LOW_LATENCY:
        return Code.APPLY_LATENCY
    if request.policy in SELECTED:
        return Code.APPLY_SELECTED
    return Code.APPLY_SET if request.policy == SET else Code.APPLY_MOST


def message(request: Request, send: Send) -> tuple[str, bytes]:
    """(topic, body) of what is to be sent."""
    attempt = send.attempt
    common: dict[str, Any] = {
        "request_id": request.id,
        "attempt": attempt.number,
        "file_id": request.file_id,
        "policy": base_of(request.policy),
        "mode": request.mode,
        "namespace": request.namespace,
        "node": request.node,
        "source_cluster": request.source.cluster,
        "source_node": request.source.node,
        "source_pod": request.source.pod,
    }
    body: AskBody | ApplyBody | RevokeBody
    match send:
        case Ask():
            by_latency = base_of(request.policy) == LOW_LATENCY
            code = Code.LATENCY if by_latency else Code.RESOURCES
            needed = any(needs.requests.get(GPU) for needs in request.pods)
            gpus = "necessary" if needed else "unnecessary"
            body = AskBody(**common, partial=request.divided, GPUFilter=gpus)
        case Apply():
            code = apply_code(request)
            body = ApplyBody(
                **common,
                replicas=attempt.replicas,
                accept_within_s=request.accept_within_s,
                cluster_lost=request.cluster_lost,
            )
        case Revoke():
            code = Code.REVOKE
            released = attempt.state in (AttemptState.RELEASED, AttemptState.REFUSED)
            body = RevokeBody(request.id, attempt.number, request.keep_claims, held_only=released)
    msg: dict[str, Any] = msgspec.to_builtins(body)
    return attempt.cluster, encode(to_cluster(attempt.cluster, code, msg))


def close(request_id: str, cluster: str) -> bytes:
    """Have an agent forget a request that is over."""
    body = RevokeBody(request_id, 0, close=True)
    return encode(to_cluster(cluster, Code.REVOKE, msgspec.to_builtins(body)))


def report_of(message: Message) -> Report:
    """A cluster's report. Raises ValueError."""
    if message.hcode != Code.REPORT:
        raise ValueError(f"hcode {message.hcode} is no report")
    try:
        return msgspec.convert(message.msg, Report)
    except msgspec.ValidationError as error:
        raise ValueError(f"msg: {error}") from error


def answer_of(reply: Message) -> Answer:
    """What an agent's reply means. Raises ValueError for one that means nothing."""
    if reply.hcode == Code.ERROR:
        return Refusal(str(reply.msg.get("message", "the agent gave no reason"))[:MAX_TEXT])
    given = reply.msg.get("result")
    if isinstance(given, str):
        # GS's older agents.
        given = {"status": given}
    try:
        result = msgspec.convert(given, ResultBody, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"msg.result: {error}") from error
    if result.status != "success":
        return Refusal(result.error_msg[:MAX_TEXT] or result.status)
    if reply.hcode in (Code.LATENCY, Code.RESOURCES):
        return Offer(result.node_name, result.score, result.fits, result.rtt_ms)
    if result.stopped:
        return Stopped()
    return Done(result.node_name)
