"""Virtual nodes: each stands for another cluster, and proxies of pods that run there are bound to
it.

Nothing else gets there: the node is tainted, and offers room for no pod, so that not even what
tolerates every taint is scheduled to it. Proxies are bound by the agent itself.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from cluster.api.client import MERGE_PATCH, ApiClient, ApiError, with_query
from cluster.api.event_recorder import micro_time
from cluster.errors import GschError
from cluster.objects.core import ObjectMeta
from federation.settings import NO_KUBELET, KubeletSettings

log = structlog.get_logger(__name__)

CLUSTER_LABEL = "gsch.io/cluster"
"""Label of a virtual node, and key of its taint: the cluster that it stands for."""
SILENT_AFTER_S = 40.0
"""Seconds without word of a cluster after which its node is not ready, as the node controller has
it for kubelets."""
HEARTBEAT_S = 5.0
STATUS_INTERVAL_S = 20.0
"""Seconds after which a status that did not change is written again: should somebody remove the
node, it is back before the pod garbage collector takes its pods."""
LEASE_SECONDS = 40
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class _Node(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _NodeList(msgspec.Struct, frozen=True):
    items: list[_Node] = []


def node_of(cluster: str) -> str:
    """The name of the node that stands for the cluster."""
    return f"gsch-{cluster}"


class VirtualNodes:
    """Of the cluster behind `client`. Raises ApiError, TransportError."""

    def __init__(
        self,
        client: ApiClient,
        kubelet: KubeletSettings = NO_KUBELET,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._kubelet, self._clock = client, kubelet, clock
        self._heard: dict[str, float] = {}
        """By cluster that has a node, when it was last heard of."""
        self._written: dict[str, tuple[bool, float]] = {}
        """Whether its node says that it is ready, and since when that stands there."""

    @property
    def clusters(self) -> list[str]:
        return list(self._heard)

    async def load(self) -> None:
        """Those that an agent before us made. Their clusters have a while to be heard."""
        reply = await self._client.request(
            "GET", with_query("/api/v1/nodes", {"labelSelector": CLUSTER_LABEL})
        )
        if not reply.ok:
            raise ApiError(reply, "list virtual nodes")
        for node in reply.decode(_NodeList).items:
            cluster = (node.metadata.labels or {})[CLUSTER_LABEL]
            if node.metadata.name == node_of(cluster):
                self._heard.setdefault(cluster, self._clock())

    def heard(self, cluster: str) -> None:
        """Its agent is there."""
        if cluster in self._heard:
            self._heard[cluster] = self._clock()

    async def ensure(self, cluster: str) -> str:
        """The node's name, made and ready where it was not there."""
        if cluster not in self._heard:
            reply = await self._client.request("POST", "/api/v1/nodes", _body(cluster))
            if not reply.ok and reply.status != 409:
                raise ApiError(reply, f"make node {node_of(cluster)}")
            self._heard[cluster] = self._clock()
            await self._beat(cluster)
        return node_of(cluster)

    async def run(self) -> None:
        """For ever."""
        while True:
            for cluster in self.clusters:
                try:
                    await self._beat(cluster)
                except GschError as error:
                    log.warning("virtual node not kept", cluster=cluster, error=str(error))
            await asyncio.sleep(HEARTBEAT_S)

    async def _beat(self, cluster: str) -> None:
        """The Lease says that we are here; the node's condition, whether its cluster is."""
        ready = self._clock() - self._heard[cluster] < SILENT_AFTER_S
        written, at = self._written.get(cluster, (None, 0.0))
        if written is not ready or self._clock() - at > STATUS_INTERVAL_S:
            path = f"/api/v1/nodes/{node_of(cluster)}/status"
            status = _status(ready, self._kubelet)
            reply = await self._client.request("PATCH", path, {"status": status}, MERGE_PATCH)
            if reply.status == 404:
                # Somebody removed it. Proxies are bound to it: it has to be there.
                del self._heard[cluster]
                self._written.pop(cluster, None)
                await self.ensure(cluster)
                return
            if not reply.ok:
                raise ApiError(reply, f"write the status of node {node_of(cluster)}")
            self._written[cluster] = ready, self._clock()
            if written is not ready:
                log.info("virtual node", cluster=cluster, ready=ready)
        await self._renew(node_of(cluster))

    async def _renew(self, name: str) -> None:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": micro_time(),
            },
        }
        spec = {"spec": lease["spec"]}
        reply = await self._client.request("PATCH", f"{LEASES}/{name}", spec, MERGE_PATCH)
        if reply.status == 404:
            reply = await self._client.request("POST", LEASES, lease)
        if not reply.ok and reply.status != 409:
            raise ApiError(reply, f"renew the Lease of node {name}")


def _body(cluster: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node_of(cluster),
            "labels": {
                CLUSTER_LABEL: cluster,
                "kubernetes.io/role": "virtual",
                "node.kubernetes.io/exclude-from-external-load-balancers": "true",
            },
        },
        "spec": {"taints": [{"key": CLUSTER_LABEL, "value": cluster, "effect": "NoSchedule"}]},
    }


def _status(ready: bool, kubelet: KubeletSettings) -> Mapping[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    nothing = {"cpu": "0", "memory": "0", "pods": "0"}
    message = "the cluster's agent reports" if ready else "nothing is heard of the cluster's agent"
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "reason": "ClusterHeard" if ready else "ClusterSilent",
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    status: dict[str, Any] = {
        "capacity": nothing,
        "allocatable": nothing,
        "conditions": [condition],
        "nodeInfo": {
            "kubeletVersion": "gsch",
            "operatingSystem": "linux",
            "architecture": "",
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": "",
            "osImage": "a cluster, by gsch",
            "containerRuntimeVersion": "",
            "kubeProxyVersion": "",
        },
    }
    if kubelet.address:
        status["addresses"] = [{"type": "InternalIP", "address": kubelet.address}]
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": kubelet.port}}
    return status
