"""What a verb does: decisions by `extender.verbs`, and binds through the API server."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from cluster.errors import PodRejected
from cluster.objects.core import ObjectMeta, Pod, PodSpec
from cluster.state.snapshot import Snapshot
from extender.api import (
    BindingArgs,
    BindingResult,
    ExtenderArgs,
    FilterResult,
    HostPriority,
    PreemptionArgs,
    PreemptionResult,
)
from extender.verbs import UNKNOWN_NODE, Verbs, requested
from filters.common.plugin import PodInfo
from scheduler.binding.pod_binder import Binder, Outcome

MAX_REMEMBERED_PODS = 4096
ASSUME_TTL_S = 900.0
"""Seconds that a successful bind may go unseen by the watch before its room is given back."""
CATCH_UP_S = 0.25
"""For so long a refusal waits for a watch that is behind."""
POLL_INTERVAL_S = 0.005
MAX_NODES_CHECKED = 4
"""Refused nodes whose pods are read from the API server to find out whether the watch is behind."""
MAX_NAMED = 20

RunningOn = Callable[[str], Awaitable[set[str] | None]]
"""The uids of the pods that run on a node by the API server's word; None where it does not say."""


class ExtenderService:
    """The four verbs over a snapshot that watches feed."""

    def __init__(
        self, snapshot: Snapshot, verbs: Verbs, binder: Binder, running_on: RunningOn
    ) -> None:
        self._snapshot, self._verbs, self._binder = snapshot, verbs, binder
        self._running_on = running_on
        self._asked: OrderedDict[str, Pod] = OrderedDict()

    async def filter(self, args: ExtenderArgs) -> FilterResult:
        """Raises BadRequest. What is wrong with the pod goes into `error`, for its event.

        kube-scheduler sends nodes that have room in its own eyes, and holds its loop until it has
        the answer. So a refusal waits for the watch only where the cache can be shown to be behind:
        a node is not known yet, or pods that are counted here are gone at the API server. To refuse
        at once then would make kube-scheduler preempt pods for room that is there."""
        self._remember(args.pod)
        version, result = self._snapshot.version, self._filter(args)
        if not await self._behind(args, result):
            return result
        deadline = time.monotonic() + CATCH_UP_S
        while True:
            # The event may have come while the API server was asked.
            if self._snapshot.version != version:
                version, result = self._snapshot.version, self._filter(args)
            if result.node_names or time.monotonic() >= deadline:
                break
            await asyncio.sleep(POLL_INTERVAL_S)
        unknown = self._verbs.unknown(requested(args))
        if unknown and not result.node_names and len(unknown) == len(result.failed_nodes or ()):
            # An error has kube-scheduler try again; as a refusal it would wait for some event.
            return FilterResult(error=f"{UNKNOWN_NODE}: {', '.join(unknown[:MAX_NAMED])}")
        return result

    async def _behind(self, args: ExtenderArgs, result: FilterResult) -> bool:
        """Whether the cache lags behind what kube-scheduler has seen."""
        if result.error or result.node_names:
            return False
        if self._verbs.unknown(requested(args)):
            return True
        refused = list(result.failed_nodes or ())
        if not refused or len(refused) > MAX_NODES_CHECKED:
            # Of so many nodes not each can have lost a pod just now: the two differ in their rules.
            return False
        return any(await asyncio.gather(*map(self._has_ghosts, refused)))

    async def _has_ghosts(self, node: str) -> bool:
        """Whether a pod is counted on the node that the API server does not have there any more."""
        row = self._snapshot.row(node)
        if row is None:
            return False
        counted = {record.uid for record in self._snapshot.pods_on(row) if not record.assumed}
        running = await self._running_on(node)
        return running is not None and not counted <= running

    def _filter(self, args: ExtenderArgs) -> FilterResult:
        try:
            return self._verbs.filter(args)
        except PodRejected as error:
            return FilterResult(error=str(error))

    def has_policy(self, pod: Pod) -> bool:
        """Whether the pod's gschConfig ranks nodes. Raises PodRejected."""
        return bool(self._verbs.info(pod).policy)

    def prioritize(self, args: ExtenderArgs) -> list[HostPriority]:
        """Raises BadRequest, PodRejected."""
        return self._verbs.prioritize(args)

    def preempt(self, args: PreemptionArgs) -> PreemptionResult:
        """Raises BadRequest, PodRejected."""
        return self._verbs.preempt(args)

    async def bind(self, args: BindingArgs) -> BindingResult:
        """Bind the pod, and count it on its node (where that is known yet) before the watch
        does."""
        row = self._snapshot.row(args.node)
        asked = self._asked.pop(args.pod_uid, None)
        pod = asked or Pod(ObjectMeta(args.pod_name, args.pod_namespace, args.pod_uid), PodSpec([]))
        if (
            asked is not None
            and row is not None
            and not self._snapshot.holds(asked.key, args.pod_uid)
        ):
            self._snapshot.assume(asked, PodInfo.of(asked).needs, row)
        result = await self._binder.bind(pod, args.node)
        if result.outcome is Outcome.BOUND:
            self._snapshot.bound(pod.key, args.pod_uid, time.monotonic() + ASSUME_TTL_S)
            return BindingResult()
        self._snapshot.forget(pod.key, args.pod_uid)
        return BindingResult(f"{result.outcome.value}: {result.why}")

    def _remember(self, pod: Pod) -> None:
        """A pod that is bound next may be one that the watch has not shown yet."""
        self._asked[pod.metadata.uid] = pod
        if len(self._asked) > MAX_REMEMBERED_PODS:
            self._asked.popitem(last=False)
