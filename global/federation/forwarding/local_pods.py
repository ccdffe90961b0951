"""Pods that asked for the global layer and were placed in their own cluster: no copy is made, their
cluster's scheduler binds them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cluster.api.client import MERGE_PATCH, ApiClient, ApiError
from cluster.objects.core import ObjectMeta
from federation.documents import FORWARDED_FROM, Document
from federation.forwarding.pod_documents import FINALIZER, PROXY
from scheduler.config.pod_info import REQUEST_LABEL

BIND_ON_ITS_WAY_S = 2.0
"""Seconds in which a bind that was on its way when the label was removed has arrived."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A pod, and which of those that ever had its name."""

    namespace: str
    name: str
    uid: str

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _Meta(ObjectMeta, frozen=True):
    finalizers: list[str] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _Spec = _Spec()


def own_proxy(documents: Sequence[Document], cluster: str, namespace: str) -> Proxy | None:
    """The pod of this cluster and namespace for which the documents were made; None where they are
    another's."""
    for document in documents:
        meta = document.body["metadata"]
        text = (meta.get("annotations") or {}).get(PROXY)
        source = (meta.get("labels") or {}).get(FORWARDED_FROM)
        if document.kind == "Pod" and text and source == cluster:
            of, _, rest = str(text).partition("/")
            name, _, uid = rest.partition("/")
            return Proxy(namespace, name, uid) if of == namespace else None
    return None


class LocalPods:
    """Of one cluster. Raises ApiError, TransportError."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def leave(self, proxy: Proxy, request_id: str) -> str:
        """To this cluster's scheduler; why that cannot be, empty where it is done."""
        pod = await self._read(proxy)
        if pod is None:
            return f"pod {proxy.namespace}/{proxy.name} is no more"
        if FINALIZER not in (pod.metadata.finalizers or ()):
            return f"pod {proxy.namespace}/{proxy.name} is not one that is forwarded"
        if pod.spec.node_name:
            return ""
        return await self._label(proxy, request_id)

    async def take_back(self, proxy: Proxy) -> str:
        """Not to this cluster any more; or the node to which it is bound already."""
        pod = await self._read(proxy)
        if pod is None:
            return ""
        if not pod.spec.node_name:
            await self._label(proxy, None)
            await asyncio.sleep(BIND_ON_ITS_WAY_S)
            pod = await self._read(proxy)
        return pod.spec.node_name if pod is not None else ""

    async def _label(self, proxy: Proxy, value: str | None) -> str:
        body = {"metadata": {"uid": proxy.uid, "labels": {REQUEST_LABEL: value}}}
        reply = await self._client.request("PATCH", proxy.path, body, MERGE_PATCH)
        if reply.status in (404, 409):
            return f"pod {proxy.namespace}/{proxy.name} is no more"
        if not reply.ok:
            raise ApiError(reply, f"write {proxy.namespace}/{proxy.name}")
        return ""

    async def _read(self, proxy: Proxy) -> _Pod | None:
        reply = await self._client.request("GET", proxy.path)
        if reply.status == 404:
            return None
        if not reply.ok:
            raise ApiError(reply, f"read {proxy.namespace}/{proxy.name}")
        pod = reply.decode(_Pod)
        return pod if pod.metadata.uid == proxy.uid else None
