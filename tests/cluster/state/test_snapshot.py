from typing import Any

import msgspec
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.objects.core import Pod
from cluster.state.records import amounts_of
from cluster.state.snapshot import Change, PodChange, Snapshot
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import row_of

NODES = st.sampled_from([f"n{i}" for i in range(5)])
PODS = st.sampled_from([f"p{i}" for i in range(8)])
CPU = st.sampled_from(["0", "100m", "1", "2500m"])


def bound(name: str, to: str, **fields: Any) -> Pod:
    found = pod(name, **fields)
    return msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, node_name=to))


class Accounting(RuleBasedStateMachine):
    """Whatever the order of events, a row's sums are those of the pods that are on it."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = Snapshot()
        self.nodes: set[str] = set()
        self.held: dict[str, tuple[str, int]] = {}

    @rule(name=NODES, cpu=st.sampled_from(["1", "4"]), zone=st.sampled_from(["a", "b", None]))
    def set_node(self, name: str, cpu: str, zone: str | None) -> None:
        self.snapshot.set_node(node(name, cpu=cpu, labels={"zone": zone} if zone else {}))
        self.nodes.add(name)

    @rule(name=NODES)
    def remove_node(self, name: str) -> None:
        self.snapshot.remove_node(name)
        self.nodes.discard(name)

    @rule(name=PODS, to=NODES, cpu=CPU)
    def set_pod(self, name: str, to: str, cpu: str) -> None:
        found = bound(name, to, requests={"cpu": cpu})
        self.snapshot.set_pod(found)
        self.held[found.key] = to, amounts_of(found).requests.get("cpu", 0)

    @rule(name=PODS, cpu=CPU)
    def assume_somewhere(self, name: str, cpu: str) -> None:
        found = pod(name, requests={"cpu": cpu})
        if found.key in self.held or not self.nodes:
            return
        to = min(self.nodes)
        needs = amounts_of(found)
        self.snapshot.assume(found, needs, row_of(self.snapshot, to))
        self.held[found.key] = to, needs.requests.get("cpu", 0)

    @rule(name=PODS)
    def forget(self, name: str) -> None:
        key = f"default/{name}"
        if key in self.snapshot.assumed:
            del self.held[key]
        self.snapshot.forget(key, f"uid-{name}")

    @rule(name=PODS)
    def remove_pod(self, name: str) -> None:
        self.snapshot.remove_pod(f"default/{name}")
        self.held.pop(f"default/{name}", None)

    @rule(amount=st.sampled_from([1, 100, 1000, 3000]))
    def ask_whether_all_have_enough(self, amount: int) -> None:
        """What is kept of the answer must hold through all that follows."""
        view = self.snapshot.view()
        if view.short_nowhere("cpu", amount):
            assert (view.free("cpu") >= amount)[view.valid].all()

    @invariant()
    def sums_hold(self) -> None:
        view = self.snapshot.view()
        assert self.snapshot.node_count == len(self.nodes) == int(view.valid.sum())
        for name in self.nodes:
            row = self.snapshot.row(name)
            here = [cpu for to, cpu in self.held.values() if to == name]
            assert view.requested("cpu")[row] == sum(here)
            assert view.requested("pods")[row] == len(here)
        assert set(self.snapshot.pods) == set(self.held)

    @invariant()
    def rows_of_removed_nodes_are_holes(self) -> None:
        for row, name in enumerate(self.snapshot.names):
            assert self.snapshot.view().valid[row] == (name in self.nodes)


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_heartbeat_changes_nothing_and_a_label_does() -> None:
    found = snapshot(node("a"))
    version = found.version
    assert found.set_node(node("a")) is Change.NONE
    assert found.version == version
    assert found.set_node(node("a", labels={"x": "1"})) is Change.LABELS
    assert found.changed_since(version).tolist() == [0]


def test_a_confirmed_pod_is_no_longer_assumed_and_does_not_expire() -> None:
    found = snapshot(node("a"))
    new = pod("p", requests={"cpu": "1"})
    found.assume(new, amounts_of(new), 0)
    found.bound(new.key, "uid-p", deadline=10.0)
    assert found.set_pod(bound("p", "a", requests={"cpu": "1"})) is PodChange.NONE
    assert found.expire(now=99.0) == []
    assert found.view().requested("cpu")[0] == 1000


def test_an_unconfirmed_pod_expires_after_its_deadline_only() -> None:
    found = snapshot(node("a"))
    new = pod("p", requests={"cpu": "1"})
    found.assume(new, amounts_of(new), 0)
    assert found.expire(now=1e9) == []
    found.bound(new.key, "uid-p", deadline=10.0)
    assert found.expire(now=9.0) == []
    assert found.expire(now=11.0) == ["default/p"]
    assert found.view().requested("cpu")[0] == 0


def test_a_pod_bound_elsewhere_moves_its_room() -> None:
    found = snapshot(node("a"), node("b"))
    new = pod("p", requests={"cpu": "1"})
    found.assume(new, amounts_of(new), row_of(found, "a"))
    assert found.set_pod(bound("p", "b", requests={"cpu": "1"})) is PodChange.REQUESTS
    assert found.view().requested("cpu").tolist() == [0, 1000]


def test_pods_that_come_before_their_node_are_counted_once_it_is_there() -> None:
    found = Snapshot()
    found.set_pod(bound("p", "late", requests={"cpu": "1"}))
    assert found.node_count == 0
    assert found.row("late") is None
    found.set_node(node("late"))
    assert found.view().requested("cpu")[found.row("late")] == 1000


def test_columns_grow_with_the_cluster() -> None:
    found = snapshot(*(node(f"n{i}", labels={"i": str(i)}) for i in range(300)))
    column = found.view().label("i")
    assert column is not None
    assert len(np.unique(column)) == 300
    assert found.row("n299") == 299


def test_a_pod_made_anew_under_the_name_keeps_its_room_when_the_old_one_is_forgotten() -> None:
    found = snapshot(node("a"))
    old = pod("p", requests={"cpu": "1"})
    new = msgspec.structs.replace(
        old, metadata=msgspec.structs.replace(old.metadata, uid="uid-new")
    )
    found.assume(old, amounts_of(old), 0)
    found.remove_pod(old.key)
    found.assume(new, amounts_of(new), 0)
    assert found.forget(old.key, "uid-p") is False
    assert found.view().requested("cpu")[0] == 1000
    assert found.forget(new.key, "uid-new") is True
    assert found.view().requested("cpu")[0] == 0


def test_a_pod_assumed_twice_is_counted_once() -> None:
    found = snapshot(node("a"), node("b"))
    new = pod("p", requests={"cpu": "1"})
    found.assume(new, amounts_of(new), 0)
    found.assume(new, amounts_of(new), 1)
    assert found.view().requested("cpu").tolist() == [0, 1000]
    assert found.view().requested("pods").tolist() == [0, 1]


def test_labels_that_the_api_server_adds_at_the_bind_are_assumed_once_it_is_seen_to_do_so() -> None:
    zone = {"topology.kubernetes.io/zone": "z1"}
    found = snapshot(node("a", labels=zone))
    changes = []
    for number in range(3):
        name = f"p{number}"
        found.assume(pod(name), amounts_of(pod(name)), 0)
        shown = bound(name, "a")
        labels = {"topology.kubernetes.io/zone": "z1"}
        meta = msgspec.structs.replace(shown.metadata, labels=labels)
        changes.append(found.set_pod(msgspec.structs.replace(shown, metadata=meta)))
    assert changes == [PodChange.LOOK, PodChange.NONE, PodChange.NONE]
    assert {record.shape.labels.get("topology.kubernetes.io/zone") for record in
            found.pods.values()} == {"z1"}  # fmt: skip
