"""What scheduling reads of a pending pod: whose it is, and what its gschConfig asks for."""

from cluster.errors import PodRejected
from cluster.objects.core import Pod
from cluster.objects.quantity import QuantityError
from filters.common.plugin import PodInfo
from scheduler.config import gschconfig
from scheduler.config.gschconfig import LOW_LATENCY, GschConfig

REQUEST_LABEL = "gsch.io/request"
"""Label of a pod that the global layer placed in this cluster: the id of its request."""


class WaitsForGlobal(PodRejected):
    """The pod is for the global layer to place, which has not placed it here."""

    event = reason = "WaitingForGlobalScheduler"


class InvalidResources(PodRejected):
    """What the pod requests cannot be read."""


NO_GLOBAL_LAYER = (
    'gschConfig asks for type "global": the global layer decides where this pod goes, by an agent '
    "of this cluster and in namespaces that are labelled gsch.io/forwarding=enabled; until then it "
    'stays Pending (type "local" places it in this cluster)'
)


def pod_info(pod: Pod) -> PodInfo:
    """Raises PodRejected."""
    try:
        return _pod_info(pod, gschconfig.of_pod(pod))
    except QuantityError as error:
        raise InvalidResources(str(error)) from error


def _pod_info(pod: Pod, config: GschConfig | None) -> PodInfo:
    if config is None:
        return PodInfo.of(pod)
    if config.scope == "global" and REQUEST_LABEL not in (pod.metadata.labels or {}):
        raise WaitsForGlobal(NO_GLOBAL_LAYER)
    if config.priority != LOW_LATENCY:
        return PodInfo.of(pod, policy=config.priority)
    return PodInfo.of(
        pod,
        policy=LOW_LATENCY,
        max_latency_ms=config.max_latency_ms,
        weights=config.weights,
        member=config.member,
        **_nearness(config, pod.metadata.namespace),
    )


def _nearness(config: GschConfig, namespace: str) -> dict[str, str]:
    if config.pod_name and config.mode != "fromnode":
        name = config.pod_name
        return {"near_pod": name if "/" in name else f"{namespace}/{name}"}
    return {"near_node": config.source_node} if config.source_node else {}


def changed_for_scheduling(old: Pod, new: Pod) -> bool:
    """Whether an update of a pending pod is more than a status that somebody wrote."""
    return (
        old.spec != new.spec
        or old.metadata.labels != new.metadata.labels
        or old.status.resources != new.status.resources
    )
