"""Which nodes hold an image, against a dictionary of what each node reported last."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.objects.core import ContainerImage
from cluster.state import images
from cluster.state.images import FEW, ImageIndex

ROWS = 6
SIZES = {"a": 100, "b": 200, "c": 300}


def held(*names: str) -> list[ContainerImage]:
    return [ContainerImage([name], SIZES[name]) for name in names]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, ROWS - 1),
            st.sets(st.sampled_from(sorted(SIZES))),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_sizes_are_those_of_the_nodes_latest_reports(steps: list[Any]) -> None:
    index = ImageIndex()
    latest: dict[int, set[str]] = {}
    for row, names, ask in steps:
        index.set(row, held(*names))
        latest[row] = names
        if ask:
            index.sizes("a", ROWS)
    for name, size in SIZES.items():
        expected = [size if name in latest.get(row, ()) else 0 for row in range(ROWS)]
        found = index.sizes(name, ROWS)
        assert (found.tolist() if found is not None else [0] * ROWS) == expected
        assert index.nodes_with(name) == sum(map(bool, expected))


def test_an_image_goes_by_each_of_its_names() -> None:
    index = ImageIndex()
    index.set(1, [ContainerImage(["app:1", "app@sha256:x"], 5), ContainerImage(None, 9)])
    for name in ("app:1", "app@sha256:x"):
        found = index.sizes(name, 2)
        assert found is not None
        assert found.tolist() == [0, 5]


def test_an_image_that_no_node_holds_any_more_has_no_sizes() -> None:
    index = ImageIndex()
    index.set(0, held("a", "b"))
    index.set(0, None)
    assert index.sizes("a", 1) is None
    assert index.nodes_with("a") == 0


def test_an_image_of_many_nodes_is_found_on_exactly_those() -> None:
    index = ImageIndex()
    rows = list(range(0, 10 * FEW, 3))
    for row in rows:
        index.set(row, held("a"))
    for row in rows[::2]:
        index.set(row, held("b"))
    found = index.sizes("a", 10 * FEW)
    assert found is not None
    assert np.flatnonzero(found).tolist() == rows[1::2]
    assert index.nodes_with("a") == len(rows[1::2])


def test_sizes_follow_the_number_of_rows() -> None:
    index = ImageIndex()
    index.set(0, held("a"))
    for rows in (1, 4, 2):
        found = index.sizes("a", rows)
        assert found is not None
        assert found.tolist() == [100] + [0] * (rows - 1)


def test_arrays_that_were_asked_for_long_ago_are_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "MAX_KEPT_BYTES", 2 * ROWS * 8)
    index = ImageIndex()
    index.set(0, held("a", "b", "c"))
    first = index.sizes("a", ROWS)
    index.sizes("b", ROWS)
    assert index.sizes("a", ROWS) is first
    index.sizes("c", ROWS)
    again = index.sizes("b", ROWS)
    assert again is not None
    assert again.tolist() == [200, 0, 0, 0, 0, 0]
    assert index.sizes("c", ROWS) is not None
