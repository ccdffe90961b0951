"""What a plugin gets from the scheduler that runs it (upstream's framework.Handle)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.objects.core import Pod
from cluster.state.storage import VolumePlan
from latency.matrix import Matrix


@dataclass(frozen=True, slots=True)
class WatchedKind:
    """A further kind that a plugin reads: `path` is its collection over all namespaces, `type` a
    msgspec struct with `metadata` and the fields that are read. It counts as empty where the API
    server does not have it."""

    path: str
    type: type[Any]


@dataclass(frozen=True, slots=True)
class WaitingPod:
    """A pod that `permit` of some plugin holds on its node, and the plugins that have not allowed
    it."""

    pod: Pod
    node: str
    pending: frozenset[str]


async def _not_here(*_: Any) -> Any:
    raise RuntimeError("there is no API server behind this framework")


@dataclass(slots=True)
class Handle:
    """`round_trips` are the measured times between nodes. The rest is there while a scheduler runs;
    files are decided without.

    `request` is (method, path, body) → `cluster.api.client.Reply`, for `pre_bind`; `bind_volumes`
    carries out a plan. `allow` and `reject` are (pod's uid, plugin's name[, reason]) and say
    whether the pod waited."""

    round_trips: Matrix = field(default_factory=Matrix)
    request: Callable[..., Awaitable[Any]] = _not_here
    bind_volumes: Callable[[Pod, VolumePlan, float], Awaitable[None]] = _not_here
    allow: Callable[[str, str], bool] = lambda uid, plugin: False
    reject: Callable[[str, str, str], bool] = lambda uid, plugin, reason: False
    waiting_pods: Callable[[], list[WaitingPod]] = list
    kinds: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def objects(self, path: str) -> Mapping[str, Any]:
        """The objects of a watched kind by `namespace/name` (`/name` without a namespace)."""
        return self.kinds.get(path, {})
