"""Carrying a preemption out: victims are told why, then deleted, each exactly as it was chosen."""

import asyncio
from datetime import UTC, datetime

import msgspec
import structlog

from cluster.api.client import STRATEGIC_PATCH, ApiClient, TransportError
from cluster.api.reflector import Backoff
from cluster.objects.keys import ObjectKey
from cluster.state.records import PodRecord

log = structlog.get_logger(__name__)

RETRY_FOR_S = 30.0
"""Seconds for which a call that fails for now is made again."""

_encode = msgspec.json.Encoder().encode


class EvictionFailed(Exception):
    """The API server did not let a victim go; the text has its words."""


async def evict(
    client: ApiClient, victim: PodRecord, scheduler: str, slots: asyncio.Semaphore
) -> None:
    """Mark the pod with the DisruptionTarget condition and delete it, with its grace period. Each
    request takes one of the slots, a pause between two of them none.

    A pod that is gone, or was made anew under its name, is left alone. Raises EvictionFailed.
    """
    path = ObjectKey.parse(victim.key).path()
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": f"{scheduler}: preempting to accommodate a higher priority pod",
        "lastProbeTime": None,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    # The uid makes the API server refuse both calls for a pod made anew under this name.
    marked = {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}
    if not await _call(client, slots, "PATCH", f"{path}/status", _encode(marked), STRATEGIC_PATCH):
        return
    only = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": victim.uid}}
    await _call(client, slots, "DELETE", path, _encode(only))


async def _call(
    client: ApiClient,
    slots: asyncio.Semaphore,
    method: str,
    path: str,
    body: bytes,
    type_: str = "application/json",
) -> bool:
    """Whether there is a pod still. Raises EvictionFailed."""
    backoff = Backoff()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RETRY_FOR_S
    while True:
        pause: float | None = None
        try:
            async with slots:
                reply = await client.request(method, path, body, content_type=type_)
        except TransportError as error:
            why = str(error)
        else:
            if reply.ok:
                return True
            if reply.status in (404, 409):
                return False
            why = f"{reply.status} {reply.error.message}"
            pause = reply.retry_after
            if reply.status < 500 and reply.status != 429:
                raise EvictionFailed(why)
        if loop.time() >= deadline:
            raise EvictionFailed(why)
        await asyncio.sleep(backoff.next() if pause is None else pause)
