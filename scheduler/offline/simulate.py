"""Decide pods of files against nodes of files with the very same core, and no cluster at all."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.errors import PodRejected
from cluster.objects.core import Pod
from cluster.objects.keys import ObjectKey
from cluster.objects.quantity import QuantityError
from cluster.state.resource_types import put
from cluster.state.snapshot import Snapshot, load
from filters.common.plugin import PodInfo
from latency.matrix import Matrix, Readings
from scheduler.config.configuration import Configuration
from scheduler.config.pod_info import WaitsForGlobal, pod_info
from scheduler.cycle import placement_reasons
from scheduler.cycle.framework import Framework, frameworks
from scheduler.cycle.reservation import PluginRefused, Reservation, reserve
from scheduler.cycle.scheduling_cycle import Cycle, FitError
from scheduler.joint.gangs import refused_group
from scheduler.joint.problem import Placed, plan_jointly
from scheduler.joint.solver import solve
from scheduler.offline.manifests import ManifestError, Objects

PLACED, PENDING, INVALID, GATED, RUNNING, OTHER_SCHEDULER = (
    "Placed", "Pending", "Invalid", "Gated", "Running", "Other scheduler",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placement:
    """One pod's fate. `node` is empty unless it is placed (or was running already)."""

    pod: str
    result: str
    node: str
    why: str

    def row(self) -> dict[str, Any]:
        return asdict(self)


def simulate(
    objects: Objects, configuration: Configuration, tick: Callable[[], None] = lambda: None
) -> tuple[list[Placement], Snapshot]:
    """QueueState every pending pod, the highest priority first, else in the order of the files.

    `tick` is called once a pod. Returns each pod's fate, and the cluster as it is then. Raises
    ManifestError for a node or a bound pod whose quantities cannot be read; a pending pod's own
    mistakes are its result.
    """
    try:
        snapshot = load(objects.nodes, objects.pods)
    except QuantityError as error:
        raise ManifestError(f"node or running pod: {error}") from error
    for kind, item in objects.others:
        put(snapshot, kind, item)
    matrix = Matrix()
    matrix.replace(Readings.of(objects.pairs))
    decider = _Decider(snapshot, configuration, matrix, objects.pods)
    results: dict[int, Placement] = {}
    order = sorted(range(len(objects.pods)), key=lambda i: (-objects.pods[i].spec.priority, i))
    waiting: list[int] = []
    for index in order:
        placement, again = decider.place(objects.pods[index])
        results[index] = placement
        if again:
            waiting.append(index)
        tick()
    # A pod that wants to be near another gets a second look once all have had their first.
    for index in waiting:
        results[index] = decider.place(objects.pods[index])[0]
    return [results[index] for index in range(len(objects.pods))], snapshot


class _Decider:
    def __init__(
        self,
        snapshot: Snapshot,
        configuration: Configuration,
        matrix: Matrix,
        pods: Sequence[Pod],
    ) -> None:
        self._snapshot, self._pods = snapshot, pods
        self._plans: dict[str, dict[str, Placed]] = {}
        self._gangs: dict[str, dict[str, Placement]] = {}
        self._reserved: dict[str, Reservation] = {}
        seed = 0 if configuration.seed is None else configuration.seed
        self._cycle = Cycle(snapshot, seed)
        self._frameworks = frameworks(configuration, matrix)

    def place(self, pod: Pod) -> tuple[Placement, bool]:
        """The pod's fate, and whether it waits for another pod to be placed."""
        key = pod.key
        framework = self._frameworks.get(pod.spec.scheduler_name)
        if pod.terminal or pod.spec.node_name:
            return Placement(key, RUNNING, pod.spec.node_name, ""), False
        if framework is None:
            name = pod.spec.scheduler_name
            return Placement(key, OTHER_SCHEDULER, "", f"schedulerName is {name}"), False
        if gated := framework.gated(pod):
            return Placement(key, GATED, "", gated), False
        try:
            info = pod_info(pod)
        except WaitsForGlobal as error:
            return Placement(key, PENDING, "", str(error)), False
        except PodRejected as error:
            return Placement(key, INVALID, "", str(error)), False
        if pod.group:
            return self._of_gang(pod), False
        return self._place(pod, info, framework)

    def _of_gang(self, pod: Pod) -> Placement:
        """All pending members are decided when the first comes: as many as are needed, or none."""
        if pod.group not in self._gangs:
            self._gangs[pod.group] = self._decide_gang(pod.group)
        return self._gangs[pod.group][pod.key]

    def _decide_gang(self, name: str) -> dict[str, Placement]:
        members = [
            pod
            for pod in self._pods
            if pod.group == name
            and not pod.terminal
            and not pod.spec.node_name
            and not pod.spec.scheduling_gates
        ]
        group = self._snapshot.groups.get(name)
        if group is None:
            why = f'waiting for pods\'s pod group "{ObjectKey.parse(name).name}" to appear'
            return {pod.key: Placement(pod.key, PENDING, "", why) for pod in members}
        if fields := group.spec.not_honoured:
            why = refused_group(name, fields)
            return {pod.key: Placement(pod.key, PENDING, "", why) for pod in members}
        results = {pod.key: self._place_member(pod) for pod in members}
        gang = group.spec.scheduling_policy.gang
        least = gang.min_count if gang is not None else 0
        placed = self._snapshot.ledger.members[name]
        if placed >= least:
            return results
        for pod in members:
            if pod.key in self._reserved:
                self._reserved.pop(pod.key).unreserve(self._snapshot)
            self._snapshot.forget(pod.key, pod.metadata.uid)
        kept = next((r.why for r in results.values() if r.result != PLACED), "")
        head = f"gang {name} needs {least} pods at once and {placed} fit"
        why = f"{head}: {kept}" if kept else head
        return {key: Placement(key, PENDING, "", why) for key in results}

    def _place_member(self, pod: Pod) -> Placement:
        framework = self._frameworks.get(pod.spec.scheduler_name)
        if framework is None:
            name = pod.spec.scheduler_name
            return Placement(pod.key, OTHER_SCHEDULER, "", f"schedulerName is {name}")
        try:
            info = pod_info(pod)
        except WaitsForGlobal as error:
            return Placement(pod.key, PENDING, "", str(error))
        except PodRejected as error:
            return Placement(pod.key, INVALID, "", str(error))
        return self._place(pod, info, framework)[0]

    def _place(self, pod: Pod, info: PodInfo, framework: Framework) -> tuple[Placement, bool]:
        key = pod.key
        placed = self._planned(pod, info, framework)
        row = self._snapshot.row(placed.node) if placed is not None else None
        decision = self._cycle.decide(framework, info, prefer=row)
        if isinstance(decision, FitError):
            waits = info.near_pod is not None and bool(decision.diagnosis.whole)
            return Placement(key, PENDING, "", decision.diagnosis.message), waits
        why = placement_reasons.why(framework, info, decision.trial, self._snapshot, decision.row)
        if placed is not None and decision.row == row:
            why = placed.message
        self._snapshot.assume(pod, info.needs, decision.row)
        try:
            self._reserved[key] = reserve(
                framework, decision.trial, info, self._snapshot, decision.row
            )
        except PluginRefused as refusal:
            self._snapshot.forget(key, pod.metadata.uid)
            return Placement(key, PENDING, "", f"{refusal.plugin}: {refusal}"), False
        return Placement(key, PLACED, self._snapshot.names[decision.row], why), False

    def _planned(self, pod: Pod, info: PodInfo, framework: Framework) -> Placed | None:
        """Where the pod's pipeline as a whole would have it: all its pods are there already."""
        if info.member is None:
            return None
        name = info.member.pipeline or pod.key
        if name not in self._plans:
            self._plans[name] = self._plan(name, framework)
        return self._plans[name].get(pod.key)

    def _plan(self, name: str, framework: Framework) -> dict[str, Placed]:
        waiting, placed = [], {}
        for pod in self._pods:
            if pod.terminal:
                continue
            try:
                info = pod_info(pod)
            except PodRejected:
                continue
            if info.member is None or (info.member.pipeline or pod.key) != name:
                continue
            if pod.spec.node_name:
                placed[pod.key] = info.member
            elif pod.spec.scheduler_name == framework.name:
                waiting.append(self._cycle.trial(framework, info))
        plan = plan_jointly(waiting, placed, self._snapshot, framework)
        nodes = solve(plan.problem) if plan is not None else None
        return plan.placed(nodes) if plan is not None and nodes else {}
