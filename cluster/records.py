"""What a pod holds on a node, and what one asks for."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.objects import Pod
from cluster.pod_index import Shape
from cluster.requests import CPU, MEMORY, PODS, nonzero_requests, pod_requests


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
    """The pod's requests with the one pod slot that it takes. Raises QuantityError."""
    requests = {name: amount for name, amount in pod_requests(pod).items() if amount}
    requests[PODS] = 1
    nonzero = nonzero_requests(pod)
    return PodAmounts(requests, (nonzero.get(CPU, 0), nonzero.get(MEMORY, 0)))
