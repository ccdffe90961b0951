"""Which taints a toleration covers (core/v1 Toleration.ToleratesTaint)."""

from typing import Any

import pytest

from cluster.objects.core import Taint, Toleration
from filters.common.tolerations import any_tolerates, tolerates

TAINT = Taint("k", "NoSchedule", "5")


@pytest.mark.parametrize(
    ("fields", "covered"),
    [
        ({"key": "k", "value": "5"}, True),
        ({"key": "k", "operator": "Equal", "value": "5", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "5", "effect": "NoExecute"}, False),
        ({"key": "other", "value": "5"}, False),
        ({"key": "k"}, False),
        ({"value": "5"}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "k", "operator": "Exists", "value": "ignored"}, True),
        ({"key": "k", "operator": "Unknown", "value": "5"}, False),
        ({"key": "k", "operator": "Lt", "value": "6"}, True),
        ({"key": "k", "operator": "Lt", "value": "5"}, False),
        ({"key": "k", "operator": "Gt", "value": "4"}, True),
        ({"key": "k", "operator": "Gt", "value": "+4"}, False),
        ({"key": "k", "operator": "Gt", "value": "-9223372036854775808"}, True),
        ({"key": "k", "operator": "Gt", "value": "-9223372036854775809"}, False),
        ({"key": "k", "operator": "Lt", "value": "9223372036854775807"}, True),
        ({"key": "k", "operator": "Lt", "value": "9223372036854775808"}, False),
    ],
)
def test_a_toleration_covers_a_taint_by_key_value_and_effect(fields: Any, covered: bool) -> None:
    assert tolerates(Toleration(**fields), TAINT) is covered
    assert any_tolerates([Toleration("x", "Exists"), Toleration(**fields)], TAINT) is covered


def test_no_toleration_covers_nothing() -> None:
    assert not any_tolerates([], TAINT)
