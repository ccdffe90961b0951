"""The binding cycle: one bind, whatever the API server or the network make of it.

A bind may succeed while its reply is lost, and a 409 may mean "already bound here". So the only
proof of an outcome is the pod itself: where the answer leaves a doubt, the pod is read, for as
long as it takes, before the room that it was promised is given back.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec
import structlog

from cluster.api.client import ApiClient, ReplyLost, TransportError
from cluster.api.reflector import Backoff
from cluster.objects.core import Pod
from cluster.objects.keys import ObjectKey

log = structlog.get_logger(__name__)

RETRY_FOR_S = 30.0
"""For so long a bind that the API server refuses for now is tried again on its node."""

_encode = msgspec.json.Encoder().encode


class Outcome(Enum):
    BOUND = "bound"
    """The pod is on the node that we chose."""
    TAKEN = "taken"
    """The pod is on another node: somebody else bound it."""
    DELETED = "gone"
    """The pod is deleted, or another one of the same name is there."""
    FAILED = "failed"
    """The pod is pending still; try again later."""


@dataclass(frozen=True, slots=True)
class BindResult:
    """What became of a bind, with the API server's words where it failed."""

    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """One try: whether only the pod can tell what happened, and whether trying again is in vain."""

    bound: bool = False
    why: str = ""
    doubtful: bool = False
    refused: bool = False
    pause: float | None = None


Slot = AbstractAsyncContextManager[Any]
"""Held while a request is out, so that no more than so many are; free while waiting to try
again."""


class Binder:
    """Binds pods to nodes. `observed` is the node that the watch shows for a pod: None where it
    shows none yet, empty where the pod is deleted."""

    def __init__(
        self,
        client: ApiClient,
        retry_for_s: float = RETRY_FOR_S,
        observed: Callable[[Pod], str | None] = lambda pod: None,
    ) -> None:
        self._client, self._retry_for_s, self._observed = client, retry_for_s, observed

    async def bind(
        self,
        pod: Pod,
        node: str,
        slot: Slot = nullcontext(),
        uncertain: Callable[[Pod, str], None] = lambda pod, why: None,
    ) -> BindResult:
        """Bring about that `pod` runs on `node`, or find out why not. Never raises for I/O.

        `uncertain` is called with the reason where the outcome cannot be read for now.
        """
        body = _binding(pod, node)
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_for_s
        while True:
            async with slot:
                answer = await self._attempt(f"{_pod_path(pod)}/binding", body)
            if answer.bound:
                return BindResult(Outcome.BOUND)
            if answer.doubtful:
                settled = await self._settle(pod, node, answer.why, uncertain)
                if settled is not None:
                    return settled
            if answer.refused or loop.time() >= deadline:
                return BindResult(Outcome.FAILED, answer.why)
            await asyncio.sleep(backoff.next() if answer.pause is None else answer.pause)

    async def _attempt(self, path: str, body: bytes) -> "_Answer":
        try:
            reply = await self._client.request("POST", path, body)
        except ReplyLost as error:
            return _Answer(why=str(error), doubtful=True)
        except TransportError as error:
            return _Answer(why=str(error))
        if reply.ok:
            return _Answer(bound=True)
        status = reply.error
        return _Answer(
            why=f"{reply.status} {status.message or status.reason}",
            # 409 may mean that an earlier try of ours succeeded, 404 that the pod was made anew;
            # after a 5xx nobody knows. 429 and other 4xx were not carried out.
            doubtful=reply.status in (404, 409) or reply.status >= 500,
            refused=reply.status < 500 and reply.status != 429,
            pause=reply.retry_after,
        )

    async def _settle(
        self, pod: Pod, node: str, why: str, uncertain: Callable[[Pod, str], None]
    ) -> BindResult | None:
        """Read the pod to learn what happened; None where it is pending still.

        Goes on for as long as it takes, and believes the watch as well: rights to read may be
        missing."""
        backoff = Backoff()
        while True:
            observed = self._observed(pod)
            if observed is not None:
                return _on_node(observed, node) if observed else BindResult(Outcome.DELETED, why)
            pause = None
            try:
                reply = await self._client.request("GET", _pod_path(pod))
                if reply.status == 404:
                    return BindResult(Outcome.DELETED, why)
                if reply.ok:
                    return _outcome(pod, reply.decode(Pod), node, why)
                problem, pause = f"{reply.status} {reply.error.message}", reply.retry_after
            except (TransportError, msgspec.DecodeError) as error:
                problem = str(error)
            log.warning("cannot read pod after a bind", pod=pod.key, error=problem)
            uncertain(pod, problem)
            await asyncio.sleep(backoff.next() if pause is None else pause)


def _outcome(pod: Pod, current: Pod, node: str, why: str) -> BindResult | None:
    if current.metadata.uid != pod.metadata.uid or current.metadata.deletion_timestamp:
        return BindResult(Outcome.DELETED, why)
    return _on_node(current.spec.node_name, node) if current.spec.node_name else None


def _on_node(actual: str, wanted: str) -> BindResult:
    if actual == wanted:
        return BindResult(Outcome.BOUND)
    return BindResult(Outcome.TAKEN, f"already on node {actual}")


def _binding(pod: Pod, node: str) -> bytes:
    meta = pod.metadata
    return _encode(
        {
            "apiVersion": "v1",
            "kind": "Binding",
            # The uid makes the API server refuse a pod that was made anew under this name.
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
    )


def _pod_path(pod: Pod) -> str:
    return ObjectKey.parse(pod.key).path()
