"""Round trips as a heat map and as a map of who is near whom."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from console.readings import RoundTrip
from console.shapes import EDGES, MAX_CELLS, heat, layout, natural
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["edge-10", "edge-2", "edge-1"], ["edge-1", "edge-2", "edge-10"]),
        (["b", "a1", "a"], ["a", "a1", "b"]),
        (["x", "10", "9"], ["9", "10", "x"]),
        (["n2-b", "n2-a", "n10-a"], ["n2-a", "n2-b", "n10-a"]),
    ],
)
def test_names_sort_by_the_numbers_in_them(names: list[str], expected: list[str]) -> None:
    assert sorted(names, key=natural) == expected


@given(st.lists(st.text(alphabet="ab0123456789²-", max_size=30)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    keys = [natural(name) for name in sorted(names, key=natural)]
    assert all(one <= other for one, other in pairwise(keys))


def test_a_heat_map_has_a_cell_for_every_pair_that_is_known() -> None:
    pairs = [
        RoundTrip("n10", "n2", 3.0),
        RoundTrip("n2", "n10", 1.23456),
        RoundTrip("n2", "n10", 3.23456),
    ]
    assert heat(pairs) == {
        "labels": ["n2", "n10"],
        "cells": [[None, 2.235], [3.0, None]],
        "members": 1,
    }
    assert heat([]) == {"labels": [], "cells": [], "members": 1}


def test_beyond_so_many_nodes_neighbours_by_name_share_a_row() -> None:
    count = 2 * MAX_CELLS + 1
    names = [f"n{i}" for i in range(count)]
    pairs = [RoundTrip("n0", name, float(i)) for i, name in enumerate(names) if i]
    found: Any = heat(pairs)
    assert found["members"] == 3
    assert len(found["labels"]) == len(found["cells"]) <= MAX_CELLS
    assert found["labels"][:2] == ["n0 … n2", "n3 … n5"]
    assert found["labels"][-1] == f"n{count - 1}"
    # Of n0 to n1 and n2, and of n0 to n3, n4 and n5.
    assert found["cells"][0][:2] == [1.5, 4.0]


def test_a_map_places_nodes_as_far_apart_as_their_round_trips_say() -> None:
    at = {f"n{i}": (10.0 * (i % 4), 10.0 * (i // 4)) for i in range(12)}
    pairs = [
        RoundTrip(a, b, 1.0 + float(np.hypot(x[0] - y[0], x[1] - y[1])))
        for a, x in at.items()
        for b, y in at.items()
        if a != b
    ]
    found: Any = layout(pairs)
    assert set(found["names"]) == set(at)
    place = {n: (x, y) for n, x, y in zip(found["names"], found["x"], found["y"], strict=True)}

    def apart(one: str, other: str) -> float:
        return float(np.hypot(*np.subtract(place[one], place[other])))

    assert apart("n0", "n11") > 2 * apart("n0", "n1")
    assert apart("n3", "n8") > 2 * apart("n3", "n2")


def test_lines_lead_from_every_node_to_its_nearest() -> None:
    pairs = [
        RoundTrip("a", "b", 1.0),
        RoundTrip("b", "a", 1.0),
        RoundTrip("a", "c", 5.0),
        RoundTrip("a", "d", 9.0),
        RoundTrip("a", "a", 0.0),
    ]
    found: Any = layout(pairs)
    lines = {tuple(sorted(found["names"][end] for end in ends)) for ends in found["edges"]}
    assert EDGES == 2
    assert lines == {("a", "b"), ("a", "c")}


def test_a_map_of_very_many_nodes_is_drawn_without_lines() -> None:
    pairs = [RoundTrip("n0", f"n{i}", float(i)) for i in range(1, 2 * MAX_CELLS + 1)]
    assert layout(pairs)["edges"] == []
    assert layout(pairs[:-1])["edges"] != []


def test_without_round_trips_there_is_nothing_to_draw() -> None:
    assert layout([]) == {"names": [], "x": [], "y": [], "edges": []}
