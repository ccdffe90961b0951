"""Node selectors over label columns, against labels that are looked at one by one."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.objects.core import NodeSelector
from filters.common.node_selectors import matches_labels, matches_selector
from tests.harness.make import node, snapshot
from tests.harness.objects import expression

VALUES = ["1", "2", "-3", "+4", "05", "x", ""]
LABELLED = st.lists(
    st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(VALUES)), min_size=1, max_size=6
)
REQUIREMENTS = st.builds(
    expression,
    st.sampled_from(["a", "b", "never"]),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Strange"]),
    st.sampled_from(VALUES),
)


def met(requirement: Any, labels: dict[str, str]) -> bool:
    value, wanted = labels.get(requirement["key"]), requirement["values"]
    match requirement["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                number, bound = int(value or "x"), int(wanted[0])
            except ValueError:
                return False
            return number > bound if requirement["operator"] == "Gt" else number < bound
    return False


@settings(max_examples=100, deadline=None)
@given(LABELLED, st.lists(st.lists(REQUIREMENTS, max_size=3), max_size=3))
def test_a_node_is_meant_where_one_term_holds_as_a_whole(nodes: Any, terms: Any) -> None:
    found = snapshot(*(node(f"n{i}", labels=labels) for i, labels in enumerate(nodes)))
    raw = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    selector = msgspec.convert(raw, NodeSelector)
    expected = [
        any(term and all(met(one, labels) for one in term) for term in terms) for labels in nodes
    ]
    assert matches_selector(selector, found.view(), found).tolist() == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (expression("metadata.name", "In", "b"), [False, True]),
        (expression("metadata.name", "NotIn", "b"), [True, False]),
        (expression("metadata.name", "In", "ghost"), [False, False]),
        # One value, and these two operators, are all that the API takes.
        (expression("metadata.name", "In", "a", "b"), [False, False]),
        (expression("metadata.name", "Exists"), [False, False]),
    ],
)
def test_nodes_are_meant_by_name(field: Any, expected: list[bool]) -> None:
    found = snapshot(node("a"), node("b"))
    selector = msgspec.convert({"nodeSelectorTerms": [{"matchFields": [field]}]}, NodeSelector)
    assert matches_selector(selector, found.view(), found).tolist() == expected


def test_all_labels_of_a_node_selector_have_to_be_there() -> None:
    found = snapshot(node("a", labels={"x": "1", "y": "2"}), node("b", labels={"x": "1"}))
    view = found.view()
    assert matches_labels({"x": "1", "y": "2"}, view, found).tolist() == [True, False]
    assert matches_labels({}, view, found).tolist() == [True, True]
    assert matches_labels({"never": "1"}, view, found).tolist() == [False, False]
