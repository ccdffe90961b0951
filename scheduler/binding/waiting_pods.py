"""Pods that are held by `permit`: allowed, rejected, or timed out (upstream's waitingPodsMap)."""

import asyncio
from dataclasses import dataclass, field

from cluster.objects.core import Pod
from filters.common.handle import WaitingPod
from scheduler.cycle.reservation import PluginRefused


@dataclass(slots=True)
class _Waiting:
    pod: Pod
    node: str
    pending: set[str]
    answer: asyncio.Future[None]
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class WaitingPods:
    """By uid. A pod leaves when every plugin that holds it allowed it, or one rejected it."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def all(self) -> list[WaitingPod]:
        return [
            WaitingPod(one.pod, one.node, frozenset(one.pending)) for one in self._waiting.values()
        ]

    def hold(self, pod: Pod, node: str, waits: dict[str, float]) -> None:
        """From now on the pod waits for these plugins, for each at most so many seconds."""
        loop = asyncio.get_running_loop()
        uid = pod.metadata.uid
        if uid in self._waiting:
            for timer in self._waiting[uid].timers:
                timer.cancel()
        waiting = _Waiting(pod, node, set(waits), loop.create_future())
        self._waiting[uid] = waiting
        waiting.timers = [
            loop.call_later(seconds, self.reject, uid, name, f"not allowed within {seconds:g} s")
            for name, seconds in waits.items()
        ]

    async def wait(self, uid: str) -> None:
        """Until the pod may go on. Raises PluginRefused."""
        waiting = self._waiting[uid]
        try:
            await waiting.answer
        finally:
            for timer in waiting.timers:
                timer.cancel()
            if self._waiting.get(uid) is waiting:
                del self._waiting[uid]

    def allow(self, uid: str, plugin: str) -> bool:
        """The plugin holds the pod no more; whether the pod waited for it."""
        waiting = self._waiting.get(uid)
        if waiting is None or plugin not in waiting.pending:
            return False
        waiting.pending.discard(plugin)
        if not waiting.pending and not waiting.answer.done():
            waiting.answer.set_result(None)
        return True

    def reject(self, uid: str, plugin: str, reason: str) -> bool:
        """The pod is not to run where it waits; whether it waited for this plugin."""
        waiting = self._waiting.get(uid)
        if waiting is None or plugin not in waiting.pending or waiting.answer.done():
            return False
        waiting.answer.set_exception(PluginRefused(plugin, reason))
        return True
