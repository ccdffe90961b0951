"""Whether a request fits, by the cluster's own filters, and the room that is held for it.

Held room is assumed in the agent's snapshot like a pod whose bind is on the way, so that no two
requests are promised the same.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from cluster.errors import PodRejected
from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from federation.documents import Document, pod_of
from federation.wire import GPU, ResultBody
from filters.common.plugin import PodInfo
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle, FitError

HOLD_S = 120.0
"""Seconds after which held room is given back, though nobody took or released it."""
MODES = {"gpu": (GPU,), "cpu": ("cpu",), "memory": ("memory",)}
"""By mode, which resources make up the score; of any other mode cpu and memory."""
CANNOT_FIT = "no node of the cluster fits"


@dataclass(slots=True)
class _Held:
    attempt: int
    until: float
    keys: list[tuple[str, str]] = field(default_factory=list)
    """(pod, uid) of what is assumed."""


class Room:
    """What is promised of one cluster's snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        framework: Framework,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot, self._framework, self._clock = snapshot, framework, clock
        self._cycle = Cycle(snapshot)
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        """Requests for which room is held."""
        return len(self._held)

    def ask(
        self,
        request_id: str,
        attempt: int,
        documents: Sequence[Document],
        *,
        mode: str = "default",
        partial: bool = False,
    ) -> ResultBody:
        """Place the pods of these objects one after another, and hold what was found."""
        self.release(request_id)
        self.expire()
        held = _Held(attempt, self._clock() + HOLD_S)
        self._held[request_id] = held
        new_claims = self._new_claims(documents)
        node, score, rtt, fits, why = "", 0.0, None, 0, ""
        for document in documents:
            for number in range(document.replicas if document.template is not None else 0):
                pod = _without_claims(pod_of(document), new_claims)
                pod = _held_pod(pod, request_id, f"{document.name}-{number}")
                placed = self._place(document, pod, held, mode)
                if isinstance(placed, str):
                    why = why or placed
                    break
                fits += 1
                if not node:
                    node, score, rtt = placed.node, placed.score, placed.rtt_ms
        if why and not (partial and fits):
            self.release(request_id)
            return ResultBody(status="fail", error_msg=why)
        return self._result(node, score, rtt, fits)

    def release(self, request_id: str, attempt: int | None = None) -> None:
        """Give back what is held for the request; of this attempt only, where one is given."""
        held = self._held.get(request_id)
        if held is None or (attempt is not None and held.attempt != attempt):
            return
        del self._held[request_id]
        for key, uid in held.keys:
            self._snapshot.forget(key, uid)

    def expire(self) -> None:
        now = self._clock()
        for request_id in [r for r, held in self._held.items() if held.until < now]:
            self.release(request_id)

    def _new_claims(self, documents: Sequence[Document]) -> set[str]:
        """Names of claims that come with the request, and are not there yet."""
        there = self._snapshot.storage.claims
        return {
            document.name
            for document in documents
            if document.kind == "PersistentVolumeClaim"
            and f"{document.body['metadata'].get('namespace', 'default')}/{document.name}"
            not in there
        }

    def _place(self, document: Document, pod: Pod, held: _Held, mode: str) -> "_Placed | str":
        """One pod; or why it has no node."""
        try:
            info = pod_info(pod)
        except PodRejected as error:
            return f"{document.kind} {document.name}: {error}"
        decision = self._cycle.decide(self._framework, info)
        if isinstance(decision, FitError):
            return f"{document.kind} {document.name}: {decision.diagnosis.message}"
        row = decision.row
        score = self._fullness(info, row, mode)
        times = self._framework.latency.times(info, self._snapshot)
        self._snapshot.assume(pod, info.needs, row)
        held.keys.append((pod.key, pod.metadata.uid))
        rtt = None if times is None or np.isnan(times[row]) else float(times[row])
        return _Placed(self._snapshot.names[row], score, rtt)

    def _fullness(self, info: PodInfo, row: int, mode: str) -> float:
        """How full (0..100) the node is with the pod, over the resources of the mode."""
        view = self._snapshot.view(np.array([row]))
        shares = []
        for name in MODES.get(mode, ("cpu", "memory")):
            offered = int(view.allocatable(name)[0])
            used = int(view.requested(name)[0]) + info.needs.requests.get(name, 0)
            shares.append(min(used / offered, 1.0) if offered else 0.0)
        return round(100.0 * sum(shares) / len(shares), 3)

    def _result(self, node: str, score: float, rtt: float | None, fits: int) -> ResultBody:
        row = self._snapshot.row(node)
        if row is None:
            # Nothing of the request is a pod.
            return ResultBody(fits=fits)
        view = self._snapshot.view(np.array([row]))
        free = {name: max(int(view.free(name)[0]), 0) for name in ("cpu", "memory", GPU)}
        return ResultBody(
            node_name=node,
            cpu=free["cpu"],
            memory=free["memory"],
            gpu=free[GPU],
            score=score,
            fits=fits,
            rtt_ms=rtt,
        )


@dataclass(frozen=True, slots=True)
class _Placed:
    node: str
    score: float
    rtt_ms: float | None


def _without_claims(pod: Pod, names: set[str]) -> Pod:
    """Without the volumes of these claims: they are made with the pod, where it then is."""
    volumes = [
        volume
        for volume in pod.spec.volumes or []
        if volume.persistent_volume_claim is None
        or volume.persistent_volume_claim.claim_name not in names
    ]
    spec = msgspec.structs.replace(pod.spec, volumes=volumes)
    return msgspec.structs.replace(pod, spec=spec)


def _held_pod(pod: Pod, request_id: str, name: str) -> Pod:
    """Under a name that no real pod has, since a slash cannot be part of one, and no other
    request's."""
    uid = f"{request_id}/{name}"
    meta = msgspec.structs.replace(pod.metadata, name=f"held/{uid}", uid=uid)
    return msgspec.structs.replace(pod, metadata=meta)
