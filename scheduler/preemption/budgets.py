"""PodDisruptionBudgets as preemption asks them: whose removal would violate one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.objects.api_objects import PodDisruptionBudget
from cluster.objects.keys import ObjectKey
from cluster.objects.label_selectors import Selector, selector_of
from cluster.state.pod_index import Shape
from cluster.state.records import PodRecord


@dataclass(frozen=True, slots=True)
class Budget:
    """Whose pods it guards, how many may go, and the names of those that are on their way out."""

    name: str
    selector: Selector
    allowed: int
    disrupted: frozenset[str]


class Budgets:
    """All budgets of a cluster at one moment. What guards a pod is worked out once for all pods
    that look the same."""

    def __init__(self, budgets: Iterable[PodDisruptionBudget]) -> None:
        self._of_namespace: dict[str, list[Budget]] = {}
        self._guarding: dict[Shape, list[Budget]] = {}
        for budget in budgets:
            selector = selector_of(budget.spec.selector)
            # Upstream: a budget without requirements guards nobody.
            if selector.everything or selector.nothing:
                continue
            status = budget.status
            entry = Budget(
                budget.metadata.name,
                selector,
                status.disruptions_allowed,
                frozenset(status.disrupted_pods or ()),
            )
            self._of_namespace.setdefault(budget.metadata.namespace, []).append(entry)

    def violating(self, records: Sequence[PodRecord]) -> frozenset[str]:
        """Keys of the pods whose removal, in this order, some budget does not allow."""
        if not self._of_namespace:
            return frozenset()
        removed: Counter[tuple[str, str]] = Counter()
        violating = set()
        for record in records:
            name = ObjectKey.parse(record.key).name
            for budget in self._guards(record.shape):
                if name in budget.disrupted:
                    continue
                key = record.shape.namespace, budget.name
                removed[key] += 1
                if removed[key] > budget.allowed:
                    violating.add(record.key)
        return frozenset(violating)

    def _guards(self, shape: Shape) -> list[Budget]:
        guards = self._guarding.get(shape)
        if guards is None:
            budgets = self._of_namespace.get(shape.namespace, ()) if shape.labels else ()
            guards = [budget for budget in budgets if budget.selector.matches(shape.labels)]
            self._guarding[shape] = guards
        return guards
