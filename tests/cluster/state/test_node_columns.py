"""Nodes as columns: what an update changes, and which rows are given back."""

from typing import Any

import msgspec
import pytest

from cluster.objects.core import ContainerImage, Node
from cluster.objects.quantity import QuantityError
from cluster.state.node_columns import FIRST_CAPACITY, Change, NodeColumns, without_images
from tests.harness.make import node

TAINT: Any = {"key": "k", "value": "v", "effect": "NoSchedule"}


def columns(*nodes: Node) -> NodeColumns:
    found = NodeColumns()
    for one in nodes:
        found.set_node(one)
    return found


def with_status(plain: Node, **fields: Any) -> Node:
    return msgspec.structs.replace(plain, status=msgspec.structs.replace(plain.status, **fields))


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (node("a"), Change.NONE),
        (node("a", cpu="8"), Change.ALLOCATABLE),
        (node("a", cpu="4000m"), Change.NONE),
        (node("a", labels={"x": "1"}), Change.LABELS),
        (node("a", taints=[TAINT]), Change.TAINTS),
        (node("a", unschedulable=True), Change.TAINTS),
        (with_status(node("a"), declared_features=["F"]), Change.FEATURES),
        (with_status(node("a"), images=[ContainerImage(["i"], 1)]), Change.NONE),
        (node("a", cpu="8", labels={"x": "1"}), Change.ALLOCATABLE | Change.LABELS),
    ],
)
def test_an_update_says_what_it_changed(new: Node, expected: Change) -> None:
    found = columns(node("a"))
    version = found.version
    assert found.set_node(new) is expected
    assert found.changed_since(version).tolist() == ([0] if expected else [])


def test_a_new_node_and_one_that_goes_say_so() -> None:
    found = columns()
    assert Change.ADDED in found.set_node(node("a"))
    assert found.remove_node("a") is Change.REMOVED
    assert found.remove_node("a") is Change.NONE
    assert found.node("a") is None


def test_a_node_whose_quantities_cannot_be_read_leaves_its_row_as_it_was() -> None:
    found = columns(node("a", cpu="4"))
    with pytest.raises(QuantityError):
        found.set_node(node("a", cpu="four", labels={"x": "1"}))
    with pytest.raises(QuantityError):
        found.set_node(node("b", cpu="four"))
    assert found.view().allocatable("cpu").tolist() == [4000]
    assert found.row("b") is None
    assert "x" not in found.labels


def test_rows_at_the_end_are_given_back_and_holes_are_filled_first() -> None:
    found = columns(node("a"), node("b"), node("c"))
    found.remove_node("a")
    assert (len(found), found.node_count) == (3, 2)
    found.remove_node("c")
    assert (found.names, found.node_count) == (["", "b"], 1)
    found.set_node(node("d"))
    assert (found.row("d"), found.names) == (0, ["d", "b"])
    found.remove_node("b")
    found.remove_node("d")
    assert len(found) == 0
    found.set_node(node("e"))
    assert found.row("e") == 0


def test_what_no_node_has_any_more_leaves_no_column_behind() -> None:
    found = columns(node("a", labels={"x": "1"}, nvidia__gpu="2", taints=[TAINT]), node("b"))
    assert "nvidia/gpu" in found.resource_names
    found.set_node(node("a"))
    assert "nvidia/gpu" not in found.resource_names
    assert "x" not in found.labels
    assert found.taint_sets.in_use == 0
    assert found.label_values("x").in_use == 0
    found.remove_node("a")
    found.remove_node("b")
    assert not found.labels
    assert set(found.resource_names) == {"cpu", "memory", "ephemeral-storage", "pods"}


def test_an_extended_resource_of_zero_makes_no_column() -> None:
    found = columns(node("a", nvidia__gpu="0"))
    assert "nvidia/gpu" not in found.resource_names


def test_nodes_with_a_label_are_found_by_its_value_as_labels_change() -> None:
    found = columns(node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}), node("c"))
    assert list(found.with_label("zone", "1")) == [0]
    assert list(found.with_label("zone", "3")) == []
    found.set_node(node("c", labels={"zone": "1"}))
    assert list(found.with_label("zone", "1")) == [0, 2]
    found.remove_node("a")
    assert list(found.with_label("zone", "1")) == [2]


def test_more_nodes_than_the_first_columns_hold_keep_all_that_is_known_of_them() -> None:
    count = FIRST_CAPACITY + 6
    found = columns(
        *(
            node(
                f"n{i}",
                cpu=str(i + 1),
                labels={"i": str(i)},
                unschedulable=i % 2 == 1,
                taints=[TAINT] if i % 3 == 0 else None,
            )
            for i in range(count)
        )
    )
    assert found.capacity >= count
    view = found.view()
    assert view.allocatable("cpu").tolist() == [1000 * (i + 1) for i in range(count)]
    assert view.unschedulable.tolist() == [i % 2 == 1 for i in range(count)]
    assert [bool(number) for number in view.taint_set] == [i % 3 == 0 for i in range(count)]
    column = view.label("i")
    assert column is not None
    values = found.label_values("i").values
    assert [values[number] for number in column] == [str(i) for i in range(count)]
    assert view.allocatable("never/offered").tolist() == [0] * count


def test_rows_that_changed_long_ago_are_told_too() -> None:
    found = columns(node("a"), node("b"), node("c"))
    version = found.version
    found.set_node(node("b", labels={"x": "0"}))
    for number in range(1, 3000):
        found.set_node(node("c", labels={"x": str(number)}))
    assert found.changed_since(version).tolist() == [1, 2]


def test_versions_are_as_before_once_a_question_is_over() -> None:
    found = columns(node("a"), node("b"))
    version = found.version
    with found.versions_kept():
        found.set_node(node("a", cpu="8"))
        found.set_node(node("a"))
        assert found.changed_since(version).tolist() == [0]
    assert found.version == version
    assert found.changed_since(version).tolist() == []
    found.set_node(node("b", cpu="8"))
    assert found.changed_since(version).tolist() == [1]


def test_a_node_is_kept_without_its_images() -> None:
    bare = node("a")
    assert without_images(bare) is bare
    assert without_images(with_status(bare, images=[ContainerImage(["i"], 1)])) == bare
