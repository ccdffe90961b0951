"""Numbers by node label, against a dictionary that is walked anew for every question."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.state.by_label import ByLabel, Label
from cluster.state.snapshot import Snapshot
from tests.harness.make import node, snapshot

NODES = st.sampled_from([f"n{i}" for i in range(5)])
LABELS = st.sampled_from([("zone", "a"), ("zone", "b"), ("rack", "a")])
KEYS = st.sampled_from([f"k{i}" for i in range(6)])


def entries(column: ByLabel) -> Counter[tuple[int, int, int]]:
    """(row, number, id) of every entry, in any order."""
    return Counter(zip(*(values.tolist() for values in column.entries()), strict=True))


class AgainstADictionary(RuleBasedStateMachine):
    """Whatever comes and goes, entries are on exactly the nodes that carry their label."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = Snapshot()
        self.column = ByLabel(self.snapshot)
        self.nodes: dict[str, dict[str, str]] = {}
        self.known: dict[str, tuple[Label, int, int]] = {}

    @rule(name=NODES, zone=st.sampled_from([None, "a", "b"]), rack=st.sampled_from([None, "a"]))
    def set_node(self, name: str, zone: str | None, rack: str | None) -> None:
        given = {"zone": zone, "rack": rack}
        labels = {key: value for key, value in given.items() if value is not None}
        self.snapshot.set_node(node(name, labels=labels))
        self.nodes[name] = labels

    @rule(name=NODES)
    def remove_node(self, name: str) -> None:
        self.snapshot.remove_node(name)
        self.nodes.pop(name, None)

    @rule(key=KEYS, label=LABELS, number=st.integers(0, 9), id_=st.integers(0, 3))
    def set(self, key: str, label: Label, number: int, id_: int) -> None:
        self.column.set(key, label, number, id_)
        self.known[key] = label, number, id_

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        self.column.discard(key)
        self.known.pop(key, None)

    @invariant()
    def entries_are_those_of_the_dictionary(self) -> None:
        expected = Counter(
            (self.snapshot.row(name), number, id_)
            for (key, value), number, id_ in self.known.values()
            for name, labels in self.nodes.items()
            if labels.get(key) == value
        )
        assert entries(self.column) == expected
        assert len(self.column) == len(self.known)


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_more_entries_than_the_first_columns_hold_are_all_kept() -> None:
    found = snapshot(*(node(f"n{i}", labels={"host": f"h{i}"}) for i in range(40)))
    column = ByLabel(found)
    for number in range(40):
        column.set(f"k{number}", ("host", f"h{number}"), number, number)
    assert entries(column) == Counter((n, n, n) for n in range(40))


def test_a_key_that_left_gives_its_place_to_the_next_one() -> None:
    found = snapshot(node("a", labels={"zone": "x"}))
    column = ByLabel(found)
    column.set("old", ("zone", "x"), 1, 1)
    column.discard("old")
    column.discard("old")
    column.set("new", ("zone", "x"), 2, 2)
    assert entries(column) == Counter([(0, 2, 2)])
