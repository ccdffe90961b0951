"""One scheduling attempt: a pod on its way from the queue to an outcome."""

from dataclasses import dataclass

from cluster.objects.core import Pod
from filters.common.plugin import PodInfo
from scheduler.cycle.framework import Framework
from scheduler.queue.scheduling_queue import QueuedPod


@dataclass(frozen=True, slots=True)
class SchedulingAttempt:
    """The pod, as it was read when the attempt began at `started` (`time.perf_counter`)."""

    queued: QueuedPod
    info: PodInfo
    framework: Framework
    started: float

    @property
    def pod(self) -> Pod:
        """The pod as the API server has it now."""
        return self.queued.pod

    @property
    def key(self) -> str:
        return self.queued.key
