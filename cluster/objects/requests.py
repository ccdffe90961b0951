"""What a pod asks for, summed over its containers as kube-scheduler sums it.

Source: k8s.io/component-helpers/resource `PodRequests` (KEP-753 sidecars, KEP-2837 pod-level
resources, KEP-1287 in-place resize, KEP-688 overhead).
"""

from collections.abc import Iterable, Mapping

from cluster.objects.core import Container, ContainerStatus, Pod, Quantities
from cluster.objects.quantity import NANO, ceil_div, nano

CPU, MEMORY, EPHEMERAL_STORAGE, PODS = "cpu", "memory", "ephemeral-storage", "pods"

# What a container that names no request counts as when nodes are scored (upstream's
# DefaultMilliCPURequest and DefaultMemoryRequest: 100m and 200 MiB).
NONZERO_DEFAULTS = {CPU: NANO // 10, MEMORY: 200 * 1024**2 * NANO}

# Larger than any machine, and small enough that a thousand of them, or a hundredfold, stay
# within int64: the snapshot's sums and score products cannot overflow.
CEILING = 2**53

Nanos = dict[str, int]


def pod_requests(pod: Pod) -> dict[str, int]:
    """Requests by resource name: milli-CPU for cpu, bytes or counts for the rest."""
    return _units(_effective(pod, {}))


def nonzero_requests(pod: Pod) -> dict[str, int]:
    """As `pod_requests`, with upstream's defaults where a container names no cpu or memory."""
    return _units(_effective(pod, NONZERO_DEFAULTS))


def amounts(quantities: Quantities | None) -> dict[str, int]:
    """A node's allocatable in the units of `pod_requests`."""
    return _units(_nanos(quantities))


def written(resource: str, amount: int) -> str:
    """An amount of `pod_requests` as people write it: 500m, 2, 1.5Gi."""
    if resource == CPU:
        return f"{amount}m" if amount % 1000 else str(amount // 1000)
    if resource in (MEMORY, EPHEMERAL_STORAGE) or resource.startswith("hugepages-"):
        for unit, size in (("Gi", 1024**3), ("Mi", 1024**2), ("Ki", 1024)):
            if amount >= size:
                whole = f"{amount // size}{unit}"
                return whole if amount % size == 0 else f"{round(amount / size, 2):g}{unit}"
    return str(amount)


def supports_pod_level(resource: str) -> bool:
    """Whether `spec.resources` may set this resource for the pod as a whole (KEP-2837)."""
    return resource in (CPU, MEMORY) or resource.startswith("hugepages-")


def _effective(pod: Pod, missing: Mapping[str, int]) -> Nanos:
    total = _containers(pod, missing)
    level = pod.spec.resources
    if level is not None and level.requests:
        wanted = {k: v for k, v in _nanos(level.requests).items() if supports_pod_level(k)}
        status = pod.status.resources
        if wanted and status is not None:
            allocated = pod.status.allocated_resources
            wanted = _resized(pod, level.requests, status.requests, allocated)
        total.update((k, v) for k, v in wanted.items() if supports_pod_level(k))
    _add(total, _nanos(pod.spec.overhead))
    return total


def _containers(pod: Pod, missing: Mapping[str, int]) -> Nanos:
    spec = pod.spec
    statuses = _statuses(pod.status.container_statuses, pod.status.init_container_statuses)
    total: Nanos = {}
    for container in spec.containers:
        _add(total, _container(pod, container, statuses, missing))
    sidecars: Nanos = {}
    peak: Nanos = {}
    for container in spec.init_containers or ():
        sidecar = container.restart_policy == "Always"
        wanted = _container(pod, container, statuses if sidecar else {}, missing)
        if sidecar:
            _add(total, wanted)
            _add(sidecars, wanted)
            wanted = sidecars
        else:
            _add(wanted, sidecars)
        _raise_to(peak, wanted)
    _raise_to(total, peak)
    return total


def _container(
    pod: Pod,
    container: Container,
    statuses: Mapping[str, ContainerStatus],
    missing: Mapping[str, int],
) -> Nanos:
    spec = container.resources.requests if container.resources else None
    status = statuses.get(container.name)
    if status is not None and status.resources is not None:
        wanted = _resized(pod, spec, status.resources.requests, status.allocated_resources)
    else:
        wanted = _nanos(spec)
    for resource, default in missing.items():
        wanted.setdefault(resource, default)
    return wanted


def _resized(
    pod: Pod, spec: Quantities | None, actual: Quantities | None, allocated: Quantities | None
) -> Nanos:
    """The most of what is asked, in force and allocated; an infeasible resize asks in vain."""
    pending = next((c for c in pod.status.conditions or () if c.type == "PodResizePending"), None)
    infeasible = pending is not None and pending.reason == "Infeasible"
    result = {} if infeasible else _nanos(spec)
    _raise_to(result, _nanos(actual))
    _raise_to(result, _nanos(allocated))
    return result


def _statuses(*groups: list[ContainerStatus] | None) -> dict[str, ContainerStatus]:
    return {status.name: status for group in groups for status in group or ()}


def _nanos(quantities: Quantities | None) -> Nanos:
    return {k: nano(v) for k, v in quantities.items()} if quantities else {}


def _add(total: Nanos, more: Mapping[str, int]) -> None:
    for resource, amount in more.items():
        total[resource] = total.get(resource, 0) + amount


def _raise_to(total: Nanos, floor: Mapping[str, int]) -> None:
    for resource, amount in floor.items():
        total[resource] = max(total.get(resource, 0), amount)


def _units(nanos: Mapping[str, int]) -> dict[str, int]:
    return dict(_in_units(nanos.items()))


def _in_units(nanos: Iterable[tuple[str, int]]) -> Iterable[tuple[str, int]]:
    for resource, amount in nanos:
        unit = NANO // 1000 if resource == CPU else NANO
        yield resource, min(ceil_div(amount, unit), CEILING)
