"""The binding cycle: one bind, whatever the API server or the network make of it.

A bind may succeed while its reply is lost, and a 409 may mean "already bound here". So the only
proof of an outcome is the pod itself: where the answer leaves a doubt, the pod is read, for as
long as it takes, before the room that it was promised is given back.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum

import msgspec
import structlog

from cluster.client import ApiClient, ReplyLost, TransportError
from cluster.objects import Pod
from cluster.reflector import Backoff

log = structlog.get_logger(__name__)

PATIENCE = 30.0
"""Seconds for which a bind that the API server refuses for now is tried again on its node."""

_encode = msgspec.json.Encoder().encode


class Outcome(Enum):
    BOUND = "bound"
    """The pod is on the node that we chose."""
    TAKEN = "taken"
    """The pod is on another node: somebody else bound it."""
    GONE = "gone"
    """The pod is deleted, or another one of the same name is there."""
    FAILED = "failed"
    """The pod is pending still; try again later."""


@dataclass(frozen=True, slots=True)
class Bind:
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


class Binder:
    """Binds pods to nodes, a bounded number at a time."""

    def __init__(self, client: ApiClient, patience: float = PATIENCE) -> None:
        self._client, self._patience = client, patience

    async def bind(self, pod: Pod, node: str) -> Bind:
        """Bring about that `pod` runs on `node`, or find out why not. Never raises for I/O."""
        body = _binding(pod, node)
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while True:
            answer = await self._attempt(f"{_pod_path(pod)}/binding", body)
            if answer.bound:
                return Bind(Outcome.BOUND)
            if answer.doubtful:
                found = await self._settle(pod, node, answer.why)
                if found is not None:
                    return found
            if answer.refused or loop.time() >= deadline:
                return Bind(Outcome.FAILED, answer.why)
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

    async def _settle(self, pod: Pod, node: str, why: str) -> Bind | None:
        """Read the pod to learn what happened; None where it is pending still."""
        backoff = Backoff()
        while True:
            try:
                reply = await self._client.request("GET", _pod_path(pod))
            except TransportError as error:
                log.warning("cannot read pod after a bind", pod=pod.key, error=str(error))
                await asyncio.sleep(backoff.next())
                continue
            if reply.status == 404:
                return Bind(Outcome.GONE, why)
            if not reply.ok:
                await asyncio.sleep(reply.retry_after or backoff.next())
                continue
            try:
                current = reply.decode(Pod)
            except msgspec.DecodeError as error:
                log.warning("pod not readable after a bind", pod=pod.key, error=str(error))
                await asyncio.sleep(backoff.next())
                continue
            return _outcome(pod, current, node, why)


def _outcome(pod: Pod, current: Pod, node: str, why: str) -> Bind | None:
    if current.metadata.uid != pod.metadata.uid or current.metadata.deletion_timestamp:
        return Bind(Outcome.GONE, why)
    if current.spec.node_name == node:
        return Bind(Outcome.BOUND)
    if current.spec.node_name:
        return Bind(Outcome.TAKEN, f"already on node {current.spec.node_name}")
    return None


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
    return f"/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}"
