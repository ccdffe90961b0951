"""The smallest volume of each row, however offers come."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.common.smallest_volumes import SmallestVolumes

ROWS, VOLUMES = 4, 6
RANKS = np.array([5, -3, 9, 0, -7, 2], np.int64)
OFFERS = st.lists(
    st.tuples(st.integers(0, ROWS - 1), st.integers(1, 3), st.integers(0, VOLUMES - 1)),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(OFFERS, max_size=3))
def test_each_row_has_its_smallest_volume_and_of_equal_ones_that_of_the_lowest_rank(
    batches: list[list[tuple[int, int, int]]],
) -> None:
    found = SmallestVolumes(ROWS, RANKS)
    for batch in batches:
        rows, sizes, ids = (np.array([offer[i] for offer in batch], np.int64) for i in range(3))
        found.offer(rows, sizes, ids)
    expected = []
    for row in range(ROWS):
        mine = [
            (size, RANKS[id_], id_) for batch in batches for at, size, id_ in batch if at == row
        ]
        expected.append(min(mine)[2] if mine else -1)
    assert found.ids.tolist() == expected
