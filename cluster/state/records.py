"""What a pod holds on a node, and what one asks for."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.objects.core import Pod, PodCondition
from cluster.objects.requests import CPU, MEMORY, PODS, nonzero_requests, pod_requests
from cluster.state.pod_index import Shape


@dataclass(slots=True)
class PodRecord:
    """A pod that holds room on a node.

    `requests` is by resource, `nonzero` cpu and memory for scoring; `start_time` is RFC 3339, empty
    before the kubelet took it; `preempted` marks one whose deletion a scheduler asked for;
    `assumed` one that this scheduler placed and the API server has not confirmed yet.
    """

    key: str
    uid: str
    node: str
    priority: int
    requests: Mapping[str, int]
    nonzero: tuple[int, int]
    shape: Shape
    start_time: str = ""
    group: str = ""
    preempted: bool = False
    assumed: bool = False
    deadline: float | None = None


@dataclass(slots=True)
class PodAmounts:
    """What one pod asks for: by resource name, and cpu (milli) and memory for scoring."""

    requests: dict[str, int]
    nonzero: tuple[int, int] = (0, 0)


def amounts_of(pod: Pod) -> PodAmounts:
    """The pod's requests with the one pod slot that it takes. Raises QuantityError.

    Not to be written to: pods that are like the last one share its result.
    """
    global _last
    if _last is not None and _same_requests(_last[0], pod):
        return _last[1]
    requests = {name: amount for name, amount in pod_requests(pod).items() if amount}
    requests[PODS] = 1
    nonzero = nonzero_requests(pod)
    amounts = PodAmounts(requests, (nonzero.get(CPU, 0), nonzero.get(MEMORY, 0)))
    _last = pod, amounts
    return amounts


_last: tuple[Pod, PodAmounts] | None = None


def _resizes(pod: Pod) -> list[PodCondition]:
    return [c for c in pod.status.conditions or () if c.type == "PodResizePending"]


def _same_requests(one: Pod, other: Pod) -> bool:
    """Whether two pods differ in nothing that their requests are worked out from."""
    a, b = one.spec, other.spec
    x, y = one.status, other.status
    return (
        a.containers == b.containers
        and a.init_containers == b.init_containers
        and a.overhead == b.overhead
        and a.resources == b.resources
        and _resizes(one) == _resizes(other)
        and x.container_statuses == y.container_statuses
        and x.init_container_statuses == y.init_container_statuses
        and x.resources == y.resources
        and x.allocated_resources == y.allocated_resources
    )
