"""The pods of requests in one cluster: how many have a node, and what keeps the others."""

import asyncio
from collections import defaultdict

from cluster.objects.core import Pod
from cluster.state.snapshot import PodChange
from scheduler.config.pod_info import REQUEST_LABEL
from scheduler.queue.events import ClusterEvent


class RequestPods:
    """Listens to the cluster's feed and counts by request. A ClusterListener."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, str]] = defaultdict(dict)
        """By request and pod, the node; empty while it has none."""
        self._problems: dict[str, dict[str, str]] = defaultdict(dict)
        self._request_of: dict[str, str] = {}
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)

    def scheduled(self, request_id: str) -> dict[str, str]:
        """Node by pod."""
        return {pod: node for pod, node in self._nodes.get(request_id, {}).items() if node}

    def problem(self, request_id: str) -> str:
        """Why a pod of the request has no node yet; empty where nobody said so."""
        return next(iter(self._problems.get(request_id, {}).values()), "")

    async def wait_until_scheduled(self, request_id: str, number: int) -> None:
        """Until so many pods of the request have a node."""
        changed = asyncio.Event()
        self._waiters[request_id].add(changed)
        try:
            while len(self.scheduled(request_id)) < number:
                await changed.wait()
                changed.clear()
        finally:
            self._drop(request_id, changed)

    # -- of the feed -----------------------------------------------------------------------

    def pod_pending(self, old: Pod | None, new: Pod) -> None:
        request_id = self._record_node(new, "")
        if request_id:
            message = next(
                (c.message for c in new.status.conditions or () if c.type == "PodScheduled"), ""
            )
            if message:
                self._problems[request_id][new.key] = message

    def pod_bound(self, old: Pod | None, new: Pod, change: PodChange | None) -> None:
        request_id = self._record_node(new, new.spec.node_name)
        if request_id:
            self._forget_problem(request_id, new.key)

    def pod_deleted(self, pod: Pod, freed: bool) -> None:
        if pod.terminal and pod.spec.node_name:
            # It ran: a Job's pod that ended at once was scheduled all the same.
            self._record_node(pod, pod.spec.node_name)
            return
        request_id = self._request_of.pop(pod.key, "")
        if not request_id:
            return
        self._forget_problem(request_id, pod.key)
        pods = self._nodes[request_id]
        pods.pop(pod.key, None)
        if not pods:
            del self._nodes[request_id]
        for changed in self._waiters.get(request_id, ()):
            changed.set()

    def forget(self, request_id: str) -> None:
        """Nothing of the request is of interest any more."""
        self._nodes.pop(request_id, None)
        self._problems.pop(request_id, None)

    async def wait_for_deletion(self, request_id: str) -> None:
        """Until no pod of the request is left."""
        changed = asyncio.Event()
        self._waiters[request_id].add(changed)
        try:
            while self._nodes.get(request_id):
                await changed.wait()
                changed.clear()
        finally:
            self._drop(request_id, changed)

    def _drop(self, request_id: str, changed: asyncio.Event) -> None:
        self._waiters[request_id].discard(changed)
        if not self._waiters[request_id]:
            del self._waiters[request_id]

    def object_changed(self, kind: str, key: str) -> None:
        pass

    def cluster_changed(self, event: ClusterEvent) -> None:
        pass

    def _record_node(self, pod: Pod, node: str) -> str:
        request_id = (pod.metadata.labels or {}).get(REQUEST_LABEL, "")
        if not request_id:
            return ""
        self._request_of[pod.key] = request_id
        if self._nodes[request_id].get(pod.key) != node:
            self._nodes[request_id][pod.key] = node
            for changed in self._waiters.get(request_id, ()):
                changed.set()
        return request_id

    def _forget_problem(self, request_id: str, key: str) -> None:
        problems = self._problems.get(request_id)
        if problems is not None:
            problems.pop(key, None)
            if not problems:
                del self._problems[request_id]
