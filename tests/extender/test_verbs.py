"""Ranks: close values stay in order, and what does not differ is not said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.verbs import MAX_SCORE, _ranked

UNKNOWN = int(np.iinfo(np.int64).min)


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([5, 5, 5], [0, 0, 0]),
        ([1, 2, 3], [0, 1, 2]),
        ([-30, -2, -1], [0, 1, 2]),
        ([UNKNOWN, 7, 8], [0, 1, 2]),
        ([UNKNOWN, UNKNOWN], [0, 0]),
        (list(range(13)), [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ([], []),
    ],
)
def test_ranks(values: list[int], ranks: list[int]) -> None:
    assert _ranked(np.array(values, np.int64)).tolist() == ranks


@given(st.lists(st.integers(-1000, 1000), max_size=40))
def test_a_better_node_never_ranks_lower(values: list[int]) -> None:
    ranks = _ranked(np.array(values, np.int64)).tolist()
    assert all(0 <= rank <= MAX_SCORE for rank in ranks)
    for one, mine in zip(values, ranks, strict=True):
        for other, theirs in zip(values, ranks, strict=True):
            assert (one <= other) or mine >= theirs
            if one == max(values) and other < one:
                assert mine > theirs
