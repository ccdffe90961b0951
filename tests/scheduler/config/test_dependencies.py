"""What a pod says it talks to: how names and weights are read."""

from typing import Any

import pytest

from filters.common.member import Dependency, DependencyKind
from scheduler.config.dependencies import WINDOW, BadDependency, parse


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], ()),
        ("decode", (Dependency(DependencyKind.STAGE, "decode"),)),
        (["a", "b"],
         (Dependency(DependencyKind.STAGE, "a"), Dependency(DependencyKind.STAGE, "b"))),
        ({"stage": "a"}, (Dependency(DependencyKind.STAGE, "a"),)),
        # Pods and Services are of the pod's own namespace unless they say otherwise.
        ([{"pod": "cache"}], (Dependency(DependencyKind.POD, "shop/cache"),)),
        ([{"pod": "bank/cache"}], (Dependency(DependencyKind.POD, "bank/cache"),)),
        ([{"service": "db"}], (Dependency(DependencyKind.SERVICE, "shop/db"),)),
        ([{"node": "camera"}], (Dependency(DependencyKind.NODE, "camera"),)),
        # One name, two kinds.
        ([{"node": "x"}, "x"],
         (Dependency(DependencyKind.NODE, "x"), Dependency(DependencyKind.STAGE, "x"))),
        ([{"node": "n", "differentNode": True}], (Dependency(DependencyKind.NODE, "n", 1, True),)),
    ],
)  # fmt: skip
def test_an_entry_names_one_thing(value: Any, expected: Any) -> None:
    assert parse("$.dependsOn", value, "shop") == expected


@pytest.mark.parametrize(
    ("fields", "weight"),
    [
        ({}, 1),
        ({"callsPerSecond": 12}, 12),
        ({"callsPerSecond": 0}, 0),
        ({"bytesPerSecond": WINDOW * 5}, 5),
        ({"callsPerSecond": 2, "bytesPerSecond": WINDOW / 2}, 2.5),
        ({"callsPerSecond": None}, 1),
    ],
)
def test_a_weight_is_round_trips_a_second(fields: Any, weight: float) -> None:
    (found,) = parse("$", [{"node": "n", **fields}], "shop")
    assert found.weight == weight


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"node": ""}], "$[0].node: expected a name"),
        ([""], "$[0]: expected a name"),
        ([{"node": "x" * 508}], "$[0].node: expected a name"),
        ([{}], "$[0]: name one stage, pod, service or node"),
        ([{"node": "n", "callsPerSecond": 1e15}], "$[0]: more than 1e+09 round trips a second"),
        ([{"node": "n", "bytesPerSecond": 2e15}], "$[0].bytesPerSecond: a number from 0"),
        ([{"node": "n", "callsPerSecond": float("nan")}], "$[0].callsPerSecond: a number from 0"),
        ([{"pod": "p"}, {"pod": "shop/p"}], "$[1]: pod shop/p is named twice"),
        (None, "$[0]: expected the name of a stage, or an object"),
    ],
)
def test_an_entry_that_cannot_be_followed_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(BadDependency) as caught:
        parse("$", value, "shop")
    assert words in str(caught.value)
