"""What a pod's owner gets to read: its events and its PodScheduled condition."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from cluster.api.client import STRATEGIC_PATCH
from cluster.api.event_recorder import EventRecorder
from cluster.api.writer import ApiWriter, Write
from cluster.errors import PodRejected
from cluster.objects.core import ObjectMeta, Pod, PodSpec
from cluster.objects.keys import ObjectKey
from cluster.state.records import PodRecord

_encode = msgspec.json.Encoder().encode


class Reporter:
    """Writes events and conditions; unchanged ones are not written again."""

    def __init__(self, writer: ApiWriter) -> None:
        self._writer = writer
        self._events = EventRecorder(writer)
        self._written: dict[str, tuple[str, str, str, str]] = {}
        self._silent = True

    def enable(self) -> None:
        """Report from now on: before, another replica may have been the one to do so."""
        self._silent = False

    def assumed(self, key: str) -> None:
        """The pod has a node: what was to be written of its being unschedulable is no longer so."""
        self._writer.discard(f"condition {key}", order=key)

    def scheduled(self, pod: Pod, node: str) -> None:
        """The pod was bound. The API server itself sets the condition to True."""
        self._written.pop(pod.key, None)
        note = f"Successfully assigned {pod.key} to {node}"
        self._events.normal(pod, "Scheduled", "Binding", note, pod.spec.scheduler_name)

    def unschedulable(self, pod: Pod, message: str, nominated: str = "") -> None:
        """No node takes the pod: the text that kube-scheduler's users know, uncut.

        `nominated` is the node on which room is being made for it.
        """
        self._fail(pod, "FailedScheduling", "Unschedulable", message, nominated)

    def expect(self, pod: Pod, node: str) -> None:
        """The pod is about to be bound to the node, once plugins have done their part
        (KEP-5278)."""
        self._nomination(pod, node)

    def clear_nomination(self, pod: Pod) -> None:
        """No node is kept for the pod any more."""
        self._written.pop(pod.key, None)
        self._nomination(pod, None)

    def _nomination(self, pod: Pod, node: str | None) -> None:
        body = {"metadata": {"uid": pod.metadata.uid}, "status": {"nominatedNodeName": node}}
        path = ObjectKey.parse(pod.key).path("status")
        write = Write("PATCH", path, _encode(body), STRATEGIC_PATCH)
        # A condition that is still unsent may name the node: it goes out before, or not at all.
        self._writer.put(f"nomination {pod.key}", write, order=pod.key)

    def preempted(self, victim: PodRecord, preemptor: Pod, node: str) -> None:
        """The victim has to make room for another pod."""
        namespace, name = ObjectKey.parse(victim.key)
        pod = Pod(ObjectMeta(name, namespace, victim.uid), PodSpec([]))
        note = f"Preempted by pod {preemptor.metadata.uid} on node {node}"
        self._events.normal(pod, "Preempted", "Preempting", note, preemptor.spec.scheduler_name)

    def failed(self, pod: Pod, message: str) -> None:
        """The attempt itself failed; the pod is tried again."""
        self._fail(pod, "FailedScheduling", "SchedulerError", message)

    def rejected(self, pod: Pod, rejected: PodRejected) -> None:
        """The pod cannot be scheduled as it is written."""
        self._fail(pod, rejected.event, rejected.reason, str(rejected))

    def warning(self, pod: Pod, reason: str, message: str) -> None:
        """Something the owner should know that does not keep the pod from a node."""
        if not self._silent:
            self._events.warning(pod, reason, "Scheduling", message, pod.spec.scheduler_name)

    def normal(self, pod: Pod, reason: str, message: str) -> None:
        """Something good to know about a decision."""
        if not self._silent:
            self._events.normal(pod, reason, "Scheduling", message, pod.spec.scheduler_name)

    def deleted(self, pod: Pod) -> None:
        """Nothing about the pod is remembered."""
        self._written.pop(pod.key, None)
        self._events.forget(pod)

    def _fail(self, pod: Pod, event: str, reason: str, message: str, nominated: str = "") -> None:
        if self._silent:
            return
        self._events.warning(pod, event, "Scheduling", message, pod.spec.scheduler_name)
        self._condition(pod, reason, message, nominated)

    def _not_written(self, key: str) -> None:
        self._written.pop(key, None)

    def _condition(self, pod: Pod, reason: str, message: str, nominated: str) -> None:
        wanted = (pod.metadata.uid, reason, message, nominated)
        if self._written.get(pod.key) == wanted:
            return
        if not nominated and _has(pod, reason, message):
            return
        self._written[pod.key] = wanted
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "observedGeneration": pod.metadata.generation,
        }
        if not _is_false(pod):
            condition["lastTransitionTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # The uid makes the API server refuse the patch for a pod made anew under this name.
        status: dict[str, Any] = {"conditions": [condition]}
        if nominated:
            status["nominatedNodeName"] = nominated
        body = {"metadata": {"uid": pod.metadata.uid}, "status": status}
        path = ObjectKey.parse(pod.key).path("status")
        self._writer.put(
            f"condition {pod.key}",
            Write(
                "PATCH",
                path,
                _encode(body),
                STRATEGIC_PATCH,
                on_refused=lambda: self._not_written(pod.key),
            ),
            order=pod.key,
        )


def _has(pod: Pod, reason: str, message: str) -> bool:
    return any(
        c.type == "PodScheduled" and (c.status, c.reason, c.message) == ("False", reason, message)
        for c in pod.status.conditions or ()
    )


def _is_false(pod: Pod) -> bool:
    return any(
        c.type == "PodScheduled" and c.status == "False" for c in pod.status.conditions or ()
    )
