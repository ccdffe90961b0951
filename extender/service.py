"""What a verb does: decisions by `extender.verbs`, and binds through the API server."""

import asyncio
import time
from collections import OrderedDict

from cluster.objects import ObjectMeta, Pod, PodSpec
from cluster.snapshot import Snapshot
from extender.api import (
    BindingArgs,
    BindingResult,
    ExtenderArgs,
    FilterResult,
    HostPriority,
    PreemptionArgs,
    PreemptionResult,
)
from extender.verbs import BadRequest, Hindered, Verbs
from filters.framework import PodInfo
from scheduler.binding import Binder, Outcome

REMEMBERED = 4096
ASSUMED_FOR = 900.0
"""Seconds that a successful bind may go unseen by the watch before its room is given back."""
CATCH_UP = 0.25
"""Seconds that a refusal of every node waits for the watch to change the answer."""
LOOK_AGAIN = 0.01


class Service:
    """The four verbs over a snapshot that watches feed."""

    def __init__(self, snapshot: Snapshot, verbs: Verbs, binder: Binder) -> None:
        self._snapshot, self._verbs, self._binder = snapshot, verbs, binder
        self._asked: OrderedDict[str, Pod] = OrderedDict()

    async def filter(self, args: ExtenderArgs) -> FilterResult:
        """Raises BadRequest. What is wrong with the pod goes into `error`, for its event.

        kube-scheduler sends nodes that have room in its own eyes. Where none of them has room in
        ours, one of the two has not seen the latest change, and to refuse at once would make
        kube-scheduler preempt pods for room that is there.
        """
        self._remember(args.pod)
        patience = time.monotonic() + CATCH_UP
        while True:
            version = self._snapshot.version
            result = self._filter(args)
            if result.node_names or not result.failed_nodes:
                return result
            while self._snapshot.version == version:
                if time.monotonic() >= patience:
                    return result
                await asyncio.sleep(LOOK_AGAIN)

    def _filter(self, args: ExtenderArgs) -> FilterResult:
        try:
            return self._verbs.filter(args)
        except Hindered as error:
            return FilterResult(error=str(error))

    def has_policy(self, pod: Pod) -> bool:
        """Whether the pod's gschConfig ranks nodes. Raises BadRequest."""
        try:
            return bool(self._verbs.info(pod).policy)
        except Hindered as error:
            raise BadRequest(str(error)) from error

    def prioritize(self, args: ExtenderArgs) -> list[HostPriority]:
        """Raises BadRequest."""
        try:
            return self._verbs.prioritize(args)
        except Hindered as error:
            raise BadRequest(str(error)) from error

    def preempt(self, args: PreemptionArgs) -> PreemptionResult:
        """Raises BadRequest."""
        try:
            return self._verbs.preempt(args)
        except Hindered as error:
            raise BadRequest(str(error)) from error

    async def bind(self, args: BindingArgs) -> BindingResult:
        """Bind the pod, and count it on its node before the watch does. Raises BadRequest."""
        row = self._snapshot.row(args.node)
        if row < 0:
            raise BadRequest(f"no such node here: {args.node}")
        asked = self._asked.pop(args.pod_uid, None)
        pod = asked or Pod(ObjectMeta(args.pod_name, args.pod_namespace, args.pod_uid), PodSpec([]))
        if asked is not None:
            self._snapshot.assume(asked, PodInfo.of(asked).needs, row)
        result = await self._binder.bind(pod, args.node)
        if result.outcome is Outcome.BOUND:
            self._snapshot.bound(pod.key, args.pod_uid, time.monotonic() + ASSUMED_FOR)
            return BindingResult()
        self._snapshot.forget(pod.key, args.pod_uid)
        return BindingResult(f"{result.outcome.value}: {result.why}")

    def _remember(self, pod: Pod) -> None:
        """A pod that is bound next may be one that the watch has not shown yet."""
        self._asked[pod.metadata.uid] = pod
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
