"""Node selectors over label columns: each requirement is one array expression.

Source: k8s.io/component-helpers/scheduling/corev1/nodeaffinity. Terms are ORed, the requirements
of a term ANDed; a term without requirements matches nothing, and so does one that cannot be read.
"""

import re
from collections.abc import Iterable

import numpy as np

from cluster.objects.core import Labels, NodeSelector, NodeSelectorTerm, Requirement
from cluster.state.snapshot import Bools, Snapshot, View

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def matches_labels(labels: Labels, view: View, snapshot: Snapshot) -> Bools:
    """Which nodes carry all of these labels."""
    result = np.ones(len(view), np.bool_)
    for key, value in labels.items():
        result &= _in(key, [value], view, snapshot)
    return result


def matches_selector(selector: NodeSelector, view: View, snapshot: Snapshot) -> Bools:
    """Which nodes at least one term matches."""
    result = np.zeros(len(view), np.bool_)
    for term in selector.node_selector_terms:
        result |= matches_term(term, view, snapshot)
    return result


def matches_term(term: NodeSelectorTerm, view: View, snapshot: Snapshot) -> Bools:
    """Which nodes meet every requirement of the term."""
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    if not expressions and not fields:
        return np.zeros(len(view), np.bool_)
    result = np.ones(len(view), np.bool_)
    for requirement in expressions:
        result &= _matches(requirement, view, snapshot)
    for requirement in fields:
        result &= _matches_field(requirement, view, snapshot)
    return result


def _matches(requirement: Requirement, view: View, snapshot: Snapshot) -> Bools:
    key, values = requirement.key, requirement.values or []
    match requirement.operator:
        case "In":
            return _in(key, values, view, snapshot)
        case "NotIn":
            return ~_in(key, values, view, snapshot)
        case "Exists":
            return _present(key, view)
        case "DoesNotExist":
            return ~_present(key, view)
        case "Gt" | "Lt":
            return _compares(requirement, view, snapshot)
    return np.zeros(len(view), np.bool_)


def _in(key: str, values: Iterable[str], view: View, snapshot: Snapshot) -> Bools:
    column = view.label(key)
    if column is None:
        return np.zeros(len(view), np.bool_)
    wanted = [snapshot.label_values(key).find(value) for value in values]
    return column == wanted[0] if len(wanted) == 1 else np.isin(column, wanted)


def _present(key: str, view: View) -> Bools:
    column = view.label(key)
    return np.zeros(len(view), np.bool_) if column is None else column != 0


def _compares(requirement: Requirement, view: View, snapshot: Snapshot) -> Bools:
    """Gt and Lt, on labels that are integers; upstream parses both sides as int64."""
    column = view.label(requirement.key)
    values = requirement.values or []
    if column is None or len(values) != 1 or (bound := _int64(values[0])) is None:
        return np.zeros(len(view), np.bool_)
    greater = requirement.operator == "Gt"
    result = np.zeros(len(view), np.bool_)
    for value_id in np.unique(column).tolist():
        text = snapshot.label_values(requirement.key).values[value_id]
        number = None if text is None else _int64(text)
        if number is not None and (number > bound if greater else number < bound):
            result |= column == value_id
    return result


def _int64(text: str) -> int | None:
    if not _INTEGER.fullmatch(text) or len(text) > 20:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _matches_field(requirement: Requirement, view: View, snapshot: Snapshot) -> Bools:
    """`metadata.name`, the only field that nodes are selected by, with exactly one value."""
    values = requirement.values or []
    nothing = np.zeros(len(view), np.bool_)
    if len(values) != 1 or requirement.operator not in ("In", "NotIn"):
        return nothing
    named = view.is_row(snapshot.row(values[0])) if requirement.key == "metadata.name" else nothing
    return named if requirement.operator == "In" else ~named
