"""Carrying a pod's VolumePlan out: claims get their volumes before the pod gets its node.

Source: upstream's BindPodVolumes. Volumes are promised to claims, claims get the node that they
are to be provisioned for; the controllers do the rest, and their result is waited for.
"""

import asyncio
from typing import Any

import msgspec
import numpy as np
import structlog

from cluster.api.client import MERGE_PATCH, ApiClient, TransportError
from cluster.api.reflector import Backoff
from cluster.objects.core import Bookmark, ObjectMeta, Pod
from cluster.objects.keys import ObjectKey
from cluster.state.snapshot import Snapshot
from cluster.state.storage import SELECTED_NODE, VolumePlan, bound
from filters.common.node_selectors import matches_selector
from scheduler.binding.object_waiters import ObjectWaiters, WaitedObject

log = structlog.get_logger(__name__)

BIND_TIMEOUT = 600.0
"""Seconds that volumes may take to be bound or made; upstream's bindTimeoutSeconds."""
POLL_INTERVAL_S = 60.0
"""For so long a plan waits for its own objects before it looks again anyway."""
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"

_encode = msgspec.json.Encoder().encode


class VolumesNotBound(Exception):
    """The plan cannot be carried out; the pod has to be decided anew."""


class VolumeBinder:
    """Writes plans, each write in one of `slots`, and waits for their objects."""

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        waiters: ObjectWaiters,
        slots: asyncio.Semaphore,
    ) -> None:
        self._client, self._snapshot = client, snapshot
        self._waiters, self._slots = waiters, slots

    async def bind(self, pod: Pod, plan: VolumePlan, within_s: float = BIND_TIMEOUT) -> None:
        """Until every claim of the plan is bound, for at most `within_s`. Raises
        VolumesNotBound."""
        written: dict[str, int] = {}
        for volume, claim in plan.bindings:
            written[volume] = await self._promise(volume, claim)
        for claim in plan.provisions:
            written[claim] = await self._select(claim, plan.node)
        try:
            async with asyncio.timeout(within_s):
                while not self._done(pod, plan, written):
                    await self._waiters.wait(_objects(pod, plan), POLL_INTERVAL_S)
        except TimeoutError:
            raise VolumesNotBound(
                f"volumes of pod {pod.key} not bound within {within_s:g} s"
            ) from None

    async def _promise(self, volume: str, claim: str) -> int:
        """Write the claim into the volume; the version makes sure that nobody else did.

        Returns the volume's new version.
        """
        storage = self._snapshot.storage
        pv, pvc = storage.volumes.get(volume), storage.claims.get(claim)
        if pv is None or pvc is None:
            raise VolumesNotBound(f"volume {volume} or claim {claim} is gone")
        meta = pvc.metadata
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        }
        body: dict[str, Any] = {
            "metadata": {"resourceVersion": pv.metadata.resource_version},
            "spec": {"claimRef": reference},
        }
        if pv.spec.claim_ref is None:
            body["metadata"]["annotations"] = {BOUND_BY_CONTROLLER: "yes"}
        return await self._patch(f"/api/v1/persistentvolumes/{volume}", body)

    async def _select(self, claim: str, node: str) -> int:
        """Tell the claim's provisioner for which node its volume is; the claim's new version."""
        pvc = self._snapshot.storage.claims.get(claim)
        if pvc is None:
            raise VolumesNotBound(f"claim {claim} is gone")
        body = {
            "metadata": {
                "resourceVersion": pvc.metadata.resource_version,
                "annotations": {SELECTED_NODE: node},
            }
        }
        path = ObjectKey.parse(claim).path(resource="persistentvolumeclaims")
        return await self._patch(path, body)

    async def _patch(self, path: str, body: dict[str, Any]) -> int:
        backoff = Backoff()
        for _ in range(5):
            try:
                async with self._slots:
                    reply = await self._client.request("PATCH", path, _encode(body), MERGE_PATCH)
            except TransportError as error:
                # A patch that went through makes the next one a 409, and the pod is tried again.
                why = str(error)
            else:
                if reply.ok:
                    return _version(reply.decode(Bookmark).metadata)
                why = f"{reply.status} {reply.error.message}"
                if reply.status < 500 and reply.status != 429:
                    break
            await asyncio.sleep(backoff.next())
        raise VolumesNotBound(f"{path}: {why}")

    def _done(self, pod: Pod, plan: VolumePlan, written: dict[str, int]) -> bool:
        """Whether all claims are bound. Raises VolumesNotBound where one never will be so.

        What the watch shows from before our own writing says nothing.
        """
        if not self._snapshot.holds(pod.key, pod.metadata.uid):
            raise VolumesNotBound(f"pod {pod.key} is gone")
        if self._snapshot.row(plan.node) is None:
            raise VolumesNotBound(f"node {plan.node} is gone")
        bindings = all(self._is_bound(v, c, plan.node, written) for v, c in plan.bindings)
        return bindings and all(self._is_made(c, plan.node, written) for c in plan.provisions)

    def _is_bound(self, volume: str, key: str, node: str, written: dict[str, int]) -> bool:
        """Whether the claim has the volume that was promised to it."""
        storage = self._snapshot.storage
        pv, claim = storage.volumes.get(volume), storage.claims.get(key)
        if pv is None or claim is None:
            raise VolumesNotBound(f"volume {volume} or claim {key} is gone")
        reference = pv.spec.claim_ref
        shown = _version(pv.metadata) >= written[volume]
        if shown and (reference is None or reference.uid != claim.metadata.uid):
            raise VolumesNotBound(f"volume {volume} was taken from claim {key} again")
        if not shown or not bound(claim):
            return False
        self._check_reach(volume, node)
        return True

    def _is_made(self, key: str, node: str, written: dict[str, int]) -> bool:
        """Whether the claim's volume was provisioned."""
        claim = self._snapshot.storage.claims.get(key)
        if claim is None:
            raise VolumesNotBound(f"claim {key} is gone")
        shown = _version(claim.metadata) >= written[key]
        if shown and claim.annotations.get(SELECTED_NODE) != node:
            # This is how a provisioner says that it could not.
            raise VolumesNotBound(f"provisioning failed for claim {key} on node {node}")
        if not shown or not bound(claim):
            return False
        self._check_reach(claim.spec.volume_name, node)
        return True

    def _check_reach(self, volume: str, node: str) -> None:
        pv = self._snapshot.storage.volumes.get(volume)
        affinity = pv.spec.node_affinity if pv else None
        row = self._snapshot.row(node)
        if affinity is None or affinity.required is None or row is None:
            return
        view = self._snapshot.view(np.array([row]))
        if not matches_selector(affinity.required, view, self._snapshot).all():
            raise VolumesNotBound(f"volume {volume} cannot be reached from node {node}")


def _objects(pod: Pod, plan: VolumePlan) -> list[WaitedObject]:
    """Whose changes may carry the plan on, or end it."""
    claims = [claim for _, claim in plan.bindings] + list(plan.provisions)
    return [
        ("Pod", pod.key),
        ("Node", plan.node),
        *(("PersistentVolume", volume) for volume, _ in plan.bindings),
        *(("PersistentVolumeClaim", claim) for claim in claims),
    ]


def _version(metadata: ObjectMeta) -> int:
    """Resource versions of one kind can be compared as numbers (KEP-5504)."""
    return int(metadata.resource_version or 0)
