"""What pods hold, against sums that are computed anew from all of them."""

from collections import Counter

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.state.pod_index import Shape
from cluster.state.pod_ledger import PodLedger
from cluster.state.records import PodRecord

FIRST = 4
PRIORITIES = [-5, 0, 7]
NAMESPACES = ["shop", "bank"]
RESOURCES = ["cpu", "memory", "pods"]
REQUESTS = st.sampled_from([{"pods": 1}, {"pods": 1, "cpu": 250}, {"pods": 1, "memory": 3}])


def record(
    name: str,
    namespace: str = "shop",
    priority: int = 0,
    requests: dict[str, int] | None = None,
    group: str = "",
) -> PodRecord:
    shape = Shape(b"", namespace, priority, {}, False, (), (), (), ())
    key = f"{namespace}/{name}"
    asked = requests or {"pods": 1}
    return PodRecord(key, f"uid-{name}", "node", priority, asked, (0, 0), shape, group=group)


class AgainstSums(RuleBasedStateMachine):
    """Whatever pods come and go, every number is the sum over the pods that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = PodLedger(FIRST)
        self.capacity, self.rows = FIRST, 0
        self.here: dict[str, tuple[PodRecord, int]] = {}

    @rule()
    def add_row(self) -> None:
        if self.rows == self.capacity:
            self.capacity *= 2
            self.ledger.grow(self.capacity)
        self.ledger.add_row()
        self.rows += 1

    @rule()
    def drop_last_row(self) -> None:
        if self.rows and all(row != self.rows - 1 for _, row in self.here.values()):
            self.ledger.drop_last_row()
            self.rows -= 1

    @rule(
        name=st.sampled_from(["a", "b", "c", "d"]),
        namespace=st.sampled_from(NAMESPACES),
        priority=st.sampled_from(PRIORITIES),
        requests=REQUESTS,
        group=st.sampled_from(["", "shop/team"]),
        place=st.integers(0, 99),
    )
    def add(
        self,
        name: str,
        namespace: str,
        priority: int,
        requests: dict[str, int],
        group: str,
        place: int,
    ) -> None:
        new = record(name, namespace, priority, requests, group)
        if self.rows and new.key not in self.here:
            self.ledger.add(new, place % self.rows)
            self.here[new.key] = new, place % self.rows

    @rule(place=st.integers(0, 99))
    def remove(self, place: int) -> None:
        if self.here:
            gone, row = self.here.pop(sorted(self.here)[place % len(self.here)])
            self.ledger.remove(gone, row)

    @invariant()
    def sums_hold(self) -> None:
        there = list(self.here.values())
        assert self.ledger.records == {found.key: found for found, _ in there}
        assert self.ledger.members == Counter(found.group for found, _ in there if found.group)
        least = min((found.priority for found, _ in there), default=2**31)
        assert self.ledger.least_priority == least
        for row in range(self.rows):
            on_row = {found.key: found for found, at in there if at == row}
            assert self.ledger.on_row(row) == on_row

    @invariant()
    def sums_below_a_priority_hold(self) -> None:
        for priority in (*PRIORITIES, 8):
            for resource in RESOURCES:
                expected = np.zeros(self.rows, np.int64)
                for found, row in self.here.values():
                    if found.priority < priority:
                        expected[row] += found.requests.get(resource, 0)
                below = self.ledger.requested_below(priority, resource)
                assert below.tolist() == expected.tolist()

    @invariant()
    def sums_of_a_namespace_hold(self) -> None:
        for namespace in NAMESPACES:
            expected: Counter[str] = Counter()
            for found, _ in self.here.values():
                if found.shape.namespace == namespace:
                    expected.update(found.requests)
            assert dict(self.ledger.requested_in(namespace)) == dict(expected)


TestAgainstSums = AgainstSums.TestCase
TestAgainstSums.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_an_empty_ledger_holds_nothing_below_any_priority() -> None:
    ledger = PodLedger(FIRST)
    ledger.add_row()
    assert ledger.least_priority == 2**31
    assert ledger.requested_below(10, "cpu").tolist() == [0]
    assert dict(ledger.requested_in("shop")) == {}
