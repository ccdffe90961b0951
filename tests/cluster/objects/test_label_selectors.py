"""Label selectors as apimachinery reads them."""

from typing import Any

import msgspec
import pytest

from cluster.objects.core import LabelSelector
from cluster.objects.label_selectors import EVERYTHING, NOTHING, equal_to, same_values, selector_of
from tests.harness.objects import expression

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchExpressions": [expression("app", "In", "db", "web")]}, True),
        ({"matchExpressions": [expression("app", "NotIn", "web")]}, False),
        ({"matchExpressions": [expression("zone", "NotIn", "1")]}, True),
        ({"matchExpressions": [expression("zone", "Exists")]}, False),
        ({"matchExpressions": [expression("app", "Exists")]}, True),
        ({"matchExpressions": [expression("zone", "DoesNotExist")]}, True),
        ({"matchExpressions": [expression("app", "DoesNotExist")]}, False),
        ({"matchExpressions": [expression("app", "Like", "web")]}, False),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [expression("tier", "In", "x")]},
         False),
    ],
)  # fmt: skip
def test_all_requirements_have_to_hold(given: Any, matches: bool) -> None:
    assert selector_of(msgspec.convert(given, LabelSelector)).matches(LABELS) is matches


def test_no_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert selector_of(None) == NOTHING
    assert not NOTHING.matches({})
    assert not NOTHING.everything
    assert selector_of(LabelSelector()) == EVERYTHING == equal_to(None)
    assert EVERYTHING.everything


def test_both_selects_what_each_selects() -> None:
    both = equal_to({"app": "web"}).both(equal_to({"tier": "front"}))
    assert both == equal_to(LABELS)
    assert both.both(both) == both
    assert both.both(NOTHING) == NOTHING.both(both) == NOTHING


def test_selectors_of_equal_meaning_are_equal_whatever_their_order() -> None:
    one = LabelSelector(dict(LABELS), None)
    other = msgspec.convert(
        {"matchExpressions": [expression("tier", "In", "front"), expression("app", "In", "web")]},
        LabelSelector,
    )
    assert selector_of(one) == selector_of(other)
    assert hash(selector_of(one)) == hash(selector_of(other))


def test_values_of_keys_are_shared_or_differ_where_they_are_there() -> None:
    assert same_values(LABELS, ("app", "lacking")) == equal_to({"app": "web"})
    assert same_values(None, ("app",)) == EVERYTHING
    apart = same_values(LABELS, ("app",), "NotIn")
    assert not apart.matches({"app": "web"})
    assert apart.matches({"app": "db"})
