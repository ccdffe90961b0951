"""What the demo takes for success."""

import pytest

from lab.demo import rows


@pytest.mark.parametrize(
    ("outcome", "expected", "holds"),
    [
        (("a", "why"), "a", True),
        (("b", "why"), "a | b", True),
        (("b", "why"), "a", False),
        (("", "too large by 2"), "Pending: too large", True),
        (("", "something else"), "Pending: too large", False),
        (("a", ""), "Pending: too large", False),
    ],
)
def test_a_pod_ends_as_its_example_expects_or_does_not(
    outcome: tuple[str, str], expected: str, holds: bool
) -> None:
    assert [row.as_expected for row in rows({"p": outcome}, {"p": expected})] == [holds]


@pytest.mark.parametrize("expected", ["a", "Pending: too large"])
def test_a_pod_of_which_nothing_is_known_is_a_failure(expected: str) -> None:
    assert [row.as_expected for row in rows({}, {"p": expected})] == [False]
