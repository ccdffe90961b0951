"""Pods that are to run in another cluster: each stays here as proxy, bound to a virtual node.

A proxy has a finalizer of ours, so that it is not gone before its copy is. Its request is made once
for each try (the pod's uid and a number, kept in an annotation); where the request is completed
here, the pod is left to this cluster's own scheduler. What the copy's cluster reports is written to
the proxy's status; nothing is deleted or failed because something was not heard."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from cluster.api.client import MERGE_PATCH, STRATEGIC_PATCH, ApiClient, ApiError
from cluster.api.reflector import Backoff, EventType, Reflector
from cluster.errors import GschError, PodRejected
from cluster.objects.core import ObjectMeta, Pod
from federation.forwarding.mirrored_status import mirrored_status
from federation.forwarding.objects_along import MissingObject, ObjectsAlong
from federation.forwarding.pod_documents import FINALIZER, Origin, references_of, text_of
from federation.forwarding.proxy_pod import REQUEST, TRY, ProxyPod, global_config, submission_of
from federation.forwarding.requests import PodRequest, PodRequests, RequestRefused
from federation.forwarding.virtual_nodes import VirtualNodes, node_of
from federation.forwarding.wire import CopiesBody, CopyState, WantedBody, WantedCopy
from federation.request import State
from federation.streams.kubelet_server import ProxyOf
from scheduler.config.gschconfig import GschConfig
from scheduler.config.pod_info import REQUEST_LABEL

log = structlog.get_logger(__name__)

ENABLED = "gsch.io/forwarding=enabled"
"""Label of the namespaces whose pods may be forwarded."""
MANAGED = "gsch.io/forwarded"
"""Label of proxies, by which they are found wherever they are."""
UNMANAGED = {
    "metadata": {
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
        "labels": {MANAGED: None},
    }
}
POLL_INTERVAL_S, MAX_POLL_INTERVAL_S = 1.0, 10.0
"""Seconds between looks at a request that is not over: a tenth of the time that the pod has waited
by then, within these."""
RETRY_AFTER_S = 30.0
"""Seconds after which a pod that no cluster took is tried again."""
REFUSED = (400, 403, 422)
"""Answers of the API server that stay the same however often it is asked."""


class _Namespace(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


Report = Callable[[Pod, str, str, bool], None]
"""(pod, reason, text, whether it is a warning): an event of the pod."""
AskAgain = Callable[[str, WantedBody], Awaitable[None]]


class Proxies:
    """Of one cluster. `routable` are the clusters whose pod addresses are reached from here."""

    def __init__(
        self,
        cluster: str,
        client: ApiClient,
        requests: PodRequests,
        nodes: VirtualNodes,
        ask_again: AskAgain,
        report: Report,
        routable: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._client, self._requests = cluster, client, requests
        self._nodes, self._ask_again, self._report = nodes, ask_again, report
        self._routable, self._along, self._clock = routable, ObjectsAlong(client), clock
        self._enabled: set[str] = set()
        self._watched: set[str] = set()
        """Namespaces that are or were enabled: proxies are followed to their end."""
        self._pods: dict[str, ProxyPod] = {}
        """By uid, those that have to do with us."""
        self._followers: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._retry_at: dict[str, float] = {}
        """By uid, when a pod that no cluster took is tried again."""
        self._since: dict[str, float] = {}
        """By uid, when its request was first looked at."""
        self._asked: set[str] = set()
        """The uids of bound proxies whose copies were asked for since we began."""
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """For ever."""
        namespaces: Reflector[_Namespace] = Reflector(
            self._client,
            "/api/v1/namespaces",
            _Namespace,
            self._namespace_changed,
            label_selector=ENABLED,
        )
        # Also where forwarding is enabled no more: they are followed to their end.
        proxies: Reflector[ProxyPod] = Reflector(
            self._client, "/api/v1/pods", ProxyPod, self._proxy_changed, label_selector=MANAGED
        )
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._nodes.load()
            group.create_task(self._nodes.run())
            group.create_task(proxies.run())
            await namespaces.run()

    # -- what is watched -------------------------------------------------------------------

    def _namespace_changed(
        self, kind: EventType, old: _Namespace | None, new: _Namespace | None
    ) -> None:
        assert self._group is not None  # noqa: S101 - `run` set it
        if new is None:
            self._enabled.discard(old.metadata.name if old else "")
            return
        name = new.metadata.name
        self._enabled.add(name)
        if name not in self._watched:
            self._watched.add(name)
            pods: Reflector[ProxyPod] = Reflector(
                self._client, f"/api/v1/namespaces/{name}/pods", ProxyPod, self._pod_changed
            )
            self._group.create_task(pods.run())

    def _proxy_changed(self, kind: EventType, old: ProxyPod | None, new: ProxyPod | None) -> None:
        pod = new or old
        # Of namespaces that are watched we hear already, and twice could be in the wrong order.
        if pod is not None and pod.metadata.namespace not in self._watched:
            self._pod_changed(kind, old, new)

    def _pod_changed(self, kind: EventType, old: ProxyPod | None, new: ProxyPod | None) -> None:
        pod = new or old
        assert pod is not None  # noqa: S101 - one of them is there
        uid = pod.metadata.uid
        if new is None or not self._concerns_us(new):
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = new
        follower = self._followers.get(uid)
        if follower is not None:
            follower[1].set()
        elif uid in self._pods and self._group is not None:
            changed = asyncio.Event()
            task = self._group.create_task(self._follow(uid, changed))
            self._followers[uid] = task, changed

    def _concerns_us(self, pod: ProxyPod) -> bool:
        if pod.managed:
            return True
        if pod.spec.node_name or pod.metadata.deletion_timestamp or pod.terminal:
            return False
        if pod.metadata.namespace not in self._enabled:
            return False
        return REQUEST_LABEL not in (pod.metadata.labels or {}) and global_config(pod) is not None

    # -- one proxy -------------------------------------------------------------------------

    async def _follow(self, uid: str, changed: asyncio.Event) -> None:
        backoff = Backoff()
        try:
            while (pod := self._pods.get(uid)) is not None:
                changed.clear()
                try:
                    async with self._lock(uid):
                        delay = await self._reconcile(pod)
                    backoff.reset()
                except GschError as error:
                    log.warning("forwarded pod", pod=pod.key, error=str(error))
                    delay = backoff.next()
                except Exception:
                    # A bug costs one pod, and not the agent.
                    log.exception("forwarded pod", pod=pod.key)
                    delay = RETRY_AFTER_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await changed.wait()
        finally:
            self._followers.pop(uid, None)
            self._locks.pop(uid, None)
            self._retry_at.pop(uid, None)
            self._since.pop(uid, None)
            self._asked.discard(uid)

    def _lock(self, uid: str) -> asyncio.Lock:
        return self._locks.setdefault(uid, asyncio.Lock())

    async def _reconcile(self, pod: ProxyPod) -> float | None:
        """One step towards what is to be; seconds until the next one, None for not before the pod
        changes."""
        if pod.metadata.deletion_timestamp:
            return await self._end(pod)
        node = pod.spec.node_name
        if node:
            return await self._bound(pod, node)
        if pod.terminal:
            return None
        if not pod.managed:
            marks = {"finalizers": [FINALIZER], "labels": {MANAGED: "true"}}
            await self._patch(pod, {"metadata": marks}, STRATEGIC_PATCH)
        try:
            request = await self._request(pod)
        except (PodRejected, RequestRefused, MissingObject) as error:
            self._report(pod, "NotForwarded", str(error), True)
            return RETRY_AFTER_S
        if request.state is State.COMPLETED:
            return await self._place(pod, request)
        if request.over:
            return await self._try_again(pod, request)
        return self._poll_interval(pod)

    def _poll_interval(self, pod: ProxyPod) -> float:
        now = self._clock()
        waited = now - self._since.setdefault(pod.metadata.uid, now)
        return min(max(waited / 10, POLL_INTERVAL_S), MAX_POLL_INTERVAL_S)

    async def _try_again(self, pod: ProxyPod, request: PodRequest) -> float | None:
        """With a new request, after a while."""
        uid, now = pod.metadata.uid, self._clock()
        retry_at = self._retry_at.setdefault(uid, now + RETRY_AFTER_S)
        if now < retry_at:
            self._report(pod, "NotForwarded", f"no cluster took the pod: {request.message}", True)
            return retry_at - now
        del self._retry_at[uid]
        number = str(pod.number + 1)
        await self._patch(pod, {"metadata": {"annotations": {TRY: number, REQUEST: None}}})
        return None

    async def _request(self, pod: ProxyPod) -> PodRequest:
        """The pod's request, made where there is none."""
        uid = pod.metadata.uid
        if REQUEST in pod.annotations:
            request = await self._requests.get(uid, pod.number)
            if request is not None:
                return request
        raw = await self._read(pod)
        origin = Origin(self._cluster, pod.metadata.namespace, pod.metadata.name, uid)
        objects = await self._along.read(origin.namespace, references_of(raw))
        config = global_config(pod) or GschConfig()
        submission = submission_of(config, text_of(raw, origin, objects), origin)
        request = await self._requests.make(uid, pod.number, submission)
        await self._patch(pod, {"metadata": {"annotations": {REQUEST: request.id}}})
        return request

    async def _place(self, pod: ProxyPod, request: PodRequest) -> float | None:
        """Bind the proxy to the virtual node of the cluster that took it."""
        if request.cluster == self._cluster:
            # Its own scheduler binds it; the label that lets it do so is the agent's to write.
            return None
        node = await self._nodes.ensure(request.cluster)
        meta = pod.metadata
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        reply = await self._client.request("POST", f"{pod.path}/binding", binding)
        if not reply.ok and reply.status not in (404, 409):
            raise ApiError(reply, f"bind {pod.key}")
        if reply.ok:
            self._report(pod, "Forwarded", f"runs in cluster {request.cluster}", False)
        return None

    async def _bound(self, pod: ProxyPod, node: str) -> float | None:
        cluster = self._cluster_of(node)
        if cluster is None:
            # Left to this cluster, and bound by its scheduler: it is a pod like any other.
            await self._patch(pod, UNMANAGED, STRATEGIC_PATCH)
        elif pod.metadata.uid not in self._asked:
            # What was reported before it was bound, or to an agent before us, is reported again.
            await self._want([pod], cluster)
            self._asked.add(pod.metadata.uid)
        return None

    async def _end(self, pod: ProxyPod) -> float | None:
        """The proxy goes once its copy has gone."""
        cluster = self._cluster_of(pod.spec.node_name)
        uid = pod.metadata.uid
        if cluster is not None or not pod.spec.node_name:
            request = await self._requests.cancel(uid, pod.number)
            if request is not None and request.state not in (State.CANCELED, State.FAILED):
                return self._poll_interval(pod)
        if cluster is not None:
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            reply = await self._client.request("DELETE", pod.path, options)
            if not reply.ok and reply.status not in (404, 409):
                raise ApiError(reply, f"delete {pod.key}")
        await self._patch(pod, UNMANAGED, STRATEGIC_PATCH)
        return None

    def find(self, namespace: str, name: str) -> ProxyOf | None:
        """The proxy of this name, where its copy runs elsewhere."""
        for pod in self._pods.values():
            if (pod.metadata.namespace, pod.metadata.name) == (namespace, name):
                cluster = self._cluster_of(pod.spec.node_name)
                if cluster is not None and REQUEST in pod.annotations:
                    proxy = f"{pod.key}/{pod.metadata.uid}"
                    return ProxyOf(cluster, pod.spec.node_name, proxy, pod.annotations[REQUEST])
        return None

    def _cluster_of(self, node: str) -> str | None:
        """The cluster for which the node stands; None for a real one."""
        return next((c for c in self._nodes.clusters if node_of(c) == node), None)

    # -- what the copies' clusters report --------------------------------------------------

    async def take(self, body: CopiesBody) -> None:
        """Return once it is written to the proxies' status."""
        self._nodes.heard(body.cluster)
        if body.started:
            proxies = [
                pod for pod in self._pods.values() if pod.spec.node_name == node_of(body.cluster)
            ]
            await self._want(proxies, body.cluster)
        for copy in body.copies:
            uid = copy.proxy.rpartition("/")[2]
            async with self._lock(uid):
                await self._mirror(copy, body.cluster, uid)
            if uid not in self._followers:
                self._locks.pop(uid, None)
        for event in body.events:
            pod = self._pods.get(event.proxy.rpartition("/")[2])
            if pod is not None and pod.annotations.get(REQUEST) == event.request_id:
                text = f"cluster {body.cluster}: {event.message}"
                self._report(pod, event.reason, text, event.type == "Warning")

    async def _want(self, pods: list[ProxyPod], cluster: str) -> None:
        """Ask for the state of these pods' copies."""
        wanted = [
            WantedCopy(f"{pod.key}/{pod.metadata.uid}", pod.annotations[REQUEST])
            for pod in pods
            if REQUEST in pod.annotations and not pod.terminal
        ]
        if wanted:
            await self._ask_again(cluster, WantedBody(self._cluster, wanted))

    async def _mirror(self, copy: CopyState, cluster: str, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod is None or pod.terminal or pod.annotations.get(REQUEST) != copy.request_id:
            # Another's, or finished: a completed pod stays completed.
            return
        if pod.spec.node_name != node_of(cluster):
            # Not bound yet: it is asked for again then.
            return
        if copy.deleted and pod.metadata.deletion_timestamp:
            return
        status = mirrored_status(copy, cluster, routable=cluster in self._routable)
        if status is None:
            return
        reply = await self._client.request(
            "PATCH",
            f"{pod.path}/status",
            {"metadata": {"uid": uid}, "status": status},
            MERGE_PATCH,
        )
        if reply.status in REFUSED:
            # Asked again it would be refused again, and keep all other copies waiting.
            text = f"the status of its copy was not taken: {reply.error.message}"
            self._report(pod, "NotMirrored", text, True)
        # 409: a pod of the same name has taken its place.
        elif not reply.ok and reply.status not in (404, 409):
            raise ApiError(reply, f"write the status of {pod.key}")

    # -- reading and writing ---------------------------------------------------------------

    async def _read(self, pod: ProxyPod) -> dict[str, Any]:
        reply = await self._client.request("GET", pod.path)
        if not reply.ok:
            raise ApiError(reply, f"read {pod.key}")
        raw: dict[str, Any] = msgspec.json.decode(reply.body)
        return raw

    async def _patch(
        self, pod: ProxyPod, body: Mapping[str, Any], content_type: str = MERGE_PATCH
    ) -> None:
        """Of this very pod, and of none that has taken its name."""
        metadata = {**body["metadata"], "uid": pod.metadata.uid}
        reply = await self._client.request("PATCH", pod.path, {"metadata": metadata}, content_type)
        if not reply.ok and reply.status not in (404, 409):
            raise ApiError(reply, f"write {pod.key}")
