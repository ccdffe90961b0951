"""Joint placement against trying everything, and on the examples that it exists for."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.joint.solver import Edge, Problem, solve


def brute(problem: Problem) -> float:
    nodes = range(problem.alone.shape[1])
    return min(problem.cost(one) for one in itertools.product(nodes, repeat=problem.pods))


@st.composite
def problems(draw: st.DrawFn, forest: bool = False) -> Problem:
    pods, nodes = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    at = rng.uniform(0, 50, size=(nodes, 2))
    distance = np.linalg.norm(at[:, None] - at[None], axis=2)
    alone = np.where(rng.random((pods, nodes)) < 0.15, np.inf, rng.uniform(0, 20, (pods, nodes)))
    edges = []
    for one, other in itertools.combinations(range(pods), 2):
        joined = one == (other - 1) // 2 if forest else draw(st.booleans())
        if joined:
            apart = not forest and draw(st.booleans())
            edges.append(Edge(one, other, float(rng.uniform(0, 10)), apart))
    free = rng.integers(1, 4, size=(nodes, 1)) if not forest else np.full((nodes, 1), pods)
    return Problem(alone, distance, edges, np.ones((pods, 1), np.int64), free)


@settings(max_examples=60, deadline=None)
@given(problems(forest=True))
def test_a_forest_with_room_is_placed_as_well_as_can_be(problem: Problem) -> None:
    found = solve(problem)
    least = brute(problem)
    if found is None:
        assert least == np.inf
    else:
        assert problem.cost(found) == pytest.approx(least)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_any_small_graph_is_placed_as_well_as_can_be(problem: Problem) -> None:
    found = solve(problem)
    least = brute(problem)
    if found is None:
        assert least == np.inf
    else:
        assert problem.cost(found) == pytest.approx(least, rel=1e-4, abs=1e-4)


def chain(alone: list[list[float]], distance: list[list[int]], apart: bool) -> Problem:
    pods, nodes = np.array(alone).shape
    edges = [Edge(i, i + 1, 1.0, apart) for i in range(pods - 1)]
    if apart:
        edges += [
            Edge(i, j, 0.0, True) for i, j in itertools.combinations(range(pods), 2) if j > i + 1
        ]
    one = np.ones((pods, 1), np.int64)
    return Problem(
        np.array(alone, float), np.array(distance, float), edges, one, np.full((nodes, 1), pods)
    )


def test_three_stages_on_different_nodes_go_in_the_order_of_the_line() -> None:
    """Nodes on a line, 5 ms apart: A → B → C in that order costs 10 ms, a bad order 15."""
    line = [[0, 5, 10], [5, 0, 5], [10, 5, 0]]
    problem = chain([[0.0, 1, 2], [0, 0, 0], [0, 0, 0]], line, apart=True)
    assert solve(problem) == [0, 1, 2]
    assert problem.cost([0, 2, 1]) == 15


def test_stages_that_may_share_a_node_do() -> None:
    line = [[0, 5, 10], [5, 0, 5], [10, 5, 0]]
    assert solve(chain([[0.0, 5, 10], [0, 0, 0], [0, 0, 0]], line, apart=False)) == [0, 0, 0]


def test_a_large_pipeline_is_placed_in_bounded_time_and_memory() -> None:
    """Two stages of sixteen replicas that all talk to one another: the program would be huge."""
    rng = np.random.default_rng(5)
    at = rng.uniform(0, 50, size=(150, 2))
    distance = np.linalg.norm(at[:, None] - at[None], axis=2)
    edges = [Edge(i, 16 + j, 0.1) for i in range(16) for j in range(16)]
    alone = rng.uniform(0, 5, size=(32, 150))
    needs = np.ones((32, 1), np.int64)
    problem = Problem(alone, distance, edges, needs, np.full((150, 1), 2))
    started = time.process_time()
    tracemalloc.start()
    found = solve(problem)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None
    assert np.isfinite(problem.cost(found))
    assert peak < 64 * 2**20
    assert time.process_time() - started < 20


def test_a_hundred_nodes_and_a_graph_with_cycles_are_decided_in_time() -> None:
    rng = np.random.default_rng(3)
    at = rng.uniform(0, 50, size=(100, 2))
    distance = np.linalg.norm(at[:, None] - at[None], axis=2)
    edges = [Edge(i, (i + 1) % 6, 1.0 + i, different_nodes=True) for i in range(6)]
    edges += [Edge(0, 3, 4.0), Edge(1, 4, 2.0)]
    alone = rng.uniform(0, 30, size=(6, 100))
    free = rng.integers(1, 3, size=(100, 1))
    problem = Problem(alone, distance, edges, np.ones((6, 1), np.int64), free)
    found = solve(problem)
    assert found is not None
    assert np.isfinite(problem.cost(found))
    # No single pod can move and gain.
    for pod in range(6):
        for node in range(100):
            moved = [*found[:pod], node, *found[pod + 1 :]]
            assert problem.cost(moved) >= problem.cost(found) - 1e-6
