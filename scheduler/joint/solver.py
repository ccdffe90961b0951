"""Joint placement: nodes for several pods that talk to one another, chosen together.

The cost of a placement is the sum over all pairs that talk of weight × round-trip time, in round
trips a second × ms, and of what each pod costs on its node by itself (its ties to pods that run
already). Where who-talks-to-whom is a forest (chains are), dynamic programming over nodes finds the
best placement. Where that one does not fit together (room, pods that may not share a node) or the
graph has cycles, a mixed-integer program (HiGHS, by scipy) decides over each pod's most promising
nodes, within a time limit.

Sources: Bellman (1957) for the recursion; the program is the linearised quadratic assignment of
Adams and Johnson (1994), whose relaxation is tight where the graph is a tree.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import structlog
from numpy.typing import NDArray

log = structlog.get_logger(__name__)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

CANDIDATES = 12
"""Nodes a pod that the program looks at, at first; a second try has four times as many."""
SECONDS = 0.5
"""Time that the solver gets; making its program comes on top, which VARIABLES bounds."""
VARIABLES = 20_000
BIG = 1e15


@dataclass(frozen=True, slots=True)
class Edge:
    """Pods `source` and `target` talk: so many round trips a second; `different_nodes`: not on one
    node."""

    source: int
    target: int
    weight: float
    different_nodes: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """m pods, n nodes, r resources.

    `alone` (m, n) is what a pod costs on a node by itself, inf where it does not fit; `distance`
    (n, n) in ms; `needs` (m, r) and `free` (n, r) in any one unit a resource.
    """

    alone: Floats
    distance: Floats
    edges: Sequence[Edge]
    needs: Ints
    free: Ints

    @property
    def pods(self) -> int:
        return len(self.alone)

    def cost(self, nodes: Sequence[int]) -> float:
        """What this placement costs; inf where it cannot be."""
        if not self._fits(nodes):
            return np.inf
        own = sum(float(self.alone[pod, node]) for pod, node in enumerate(nodes))
        return own + sum(
            e.weight * float(self.distance[nodes[e.source], nodes[e.target]]) for e in self.edges
        )

    def _fits(self, nodes: Sequence[int]) -> bool:
        if any(e.different_nodes and nodes[e.source] == nodes[e.target] for e in self.edges):
            return False
        used = np.zeros_like(self.free)
        np.add.at(used, list(nodes), self.needs)
        asked = used > 0
        return bool((used <= self.free)[asked].all())


def solve(problem: Problem, seconds: float = SECONDS) -> list[int] | None:
    """A node a pod; None where no placement of all of them was found.

    The result is the best there is where the graph is a forest and its best placement fits
    together, else the best that was found in time.
    """
    if not _solvable(problem):
        return None
    order = list(_forest(problem))
    down, choices = _recursion(problem, order)
    best = _read_off(problem, order, down, choices)
    if _is_forest(problem, order) and np.isfinite(problem.cost(best)):
        return best
    promise = _min_marginals(problem, order, down)
    solutions = [best]
    max_width = math.isqrt(VARIABLES // max(len(problem.edges), 1))
    for width in (CANDIDATES, 4 * CANDIDATES):
        # Fewer nodes than pods would leave no room; then what follows has to do.
        if max_width < min(width, problem.pods):
            break
        chosen = _program(problem, promise, min(max(width, 2 * problem.pods), max_width), seconds)
        if chosen is not None:
            solutions.append(chosen)
            break
    solutions.append(_greedily(problem))
    improved = [_improved(problem, one) for one in solutions if np.isfinite(problem.cost(one))]
    return min(improved, key=problem.cost) if improved else None


def solve_forest(problem: Problem) -> list[int] | None:
    """The best placement where the graph is a forest and its best one fits together, in some
    milliseconds; [] where some pod fits nowhere or there is none, None where it takes `solve`."""
    if not _solvable(problem):
        return []
    order = list(_forest(problem))
    if not _is_forest(problem, order):
        return None
    best = _read_off(problem, order, *_recursion(problem, order))
    return best if np.isfinite(problem.cost(best)) else None


def _solvable(problem: Problem) -> bool:
    """Whether there are pods, and each fits somewhere by itself."""
    return problem.pods > 0 and bool(np.isfinite(problem.alone).any(axis=1).all())


# -- forests -------------------------------------------------------------------------------


def _forest(problem: Problem) -> Iterator[tuple[int, Edge | None]]:
    """Pods parents first, each with the edge to its parent (None for a root).

    Of a graph with cycles, a spanning forest of the heaviest edges (Prim).
    """
    left = set(range(problem.pods))
    while left:
        reached = {min(left)}
        left -= reached
        yield min(reached), None
        while True:
            ways = [e for e in problem.edges if (e.source in reached) != (e.target in reached)]
            if not ways:
                break
            edge = max(ways, key=lambda e: e.weight)
            pod = edge.target if edge.source in reached else edge.source
            reached.add(pod)
            left.discard(pod)
            yield pod, edge


def _is_forest(problem: Problem, order: "Order") -> bool:
    return sum(edge is not None for _, edge in order) == len(problem.edges)


def _between(problem: Problem, edge: Edge) -> Floats:
    """(n, n): what the edge costs by the nodes of its two ends."""
    costs = edge.weight * problem.distance
    if edge.different_nodes:
        costs = costs.copy()
        np.fill_diagonal(costs, BIG)
    return costs


def _parent(edge: Edge, pod: int) -> int:
    return edge.source if edge.target == pod else edge.target


def _toward(problem: Problem, edge: Edge, pod: int) -> Floats:
    """As `_between`, with the parent's node as row and the pod's as column."""
    costs = _between(problem, edge)
    return costs if edge.target == pod else costs.T


Order = list[tuple[int, Edge | None]]


def _recursion(problem: Problem, order: Order) -> tuple[Floats, dict[int, NDArray[np.intp]]]:
    """`down` (m, n): the least cost of a pod's subtree by its node; and each pod's best node by its
    parent's."""
    down = problem.alone.copy()
    choices: dict[int, NDArray[np.intp]] = {}
    for pod, edge in reversed(order):
        if edge is not None:
            costs = _toward(problem, edge, pod) + down[pod][None, :]
            choices[pod] = costs.argmin(axis=1)
            down[_parent(edge, pod)] += costs.min(axis=1)
    return down, choices


def _read_off(
    problem: Problem, order: Order, down: Floats, choices: dict[int, NDArray[np.intp]]
) -> list[int]:
    nodes = [-1] * problem.pods
    for pod, edge in order:
        if edge is None:
            nodes[pod] = int(down[pod].argmin())
        else:
            nodes[pod] = int(choices[pod][nodes[_parent(edge, pod)]])
    return nodes


def _min_marginals(problem: Problem, order: Order, down: Floats) -> Floats:
    """(m, n): the least cost of the whole forest with the pod on the node, each tree by itself."""
    total = down.copy()
    for pod, edge in order:
        if edge is None:
            continue
        parent = _parent(edge, pod)
        toward = _toward(problem, edge, pod)
        # The parent's side without this pod's subtree, then across the edge.
        with np.errstate(invalid="ignore"):
            rest = total[parent] - (toward + down[pod][None, :]).min(axis=1)
        rest = np.where(np.isfinite(total[parent]), rest, np.inf)
        total[pod] = down[pod] + (rest[:, None] + toward).min(axis=0)
    return total


# -- everything else -----------------------------------------------------------------------


def _program(problem: Problem, promise: Floats, width: int, seconds: float) -> list[int] | None:
    """The best placement over each pod's `width` most promising nodes."""
    # Takes a quarter of a second, which only those who need it should wait.
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array
    except ModuleNotFoundError:
        _warn_without_scipy()
        return None

    rows = [_promising(problem, promise, pod, width) for pod in range(problem.pods)]
    layout = _Layout(rows, problem.edges)
    matrix, low, high = layout.constraints(problem)
    constraint = LinearConstraint(
        csr_array(matrix, shape=(len(low), layout.size)), np.array(low), np.array(high)
    )
    answer = milp(
        layout.costs(problem),
        constraints=constraint,
        integrality=layout.integrality(),
        bounds=Bounds(0, 1),
        options={"time_limit": seconds, "mip_rel_gap": 1e-6},
    )
    if answer.x is None:
        return None
    picked = [answer.x[layout.start[pod] :][: len(rows[pod])] for pod in range(problem.pods)]
    return [int(rows[pod][part.argmax()]) for pod, part in enumerate(picked)]


@cache
def _warn_without_scipy() -> None:
    log.warning(
        "pipelines that are no forest are placed by a greedy search: scipy is not installed, which "
        "the extra 'pipelines' brings (pip install 'gsch[pipelines]')"
    )


def _promising(problem: Problem, promise: Floats, pod: int, width: int) -> NDArray[np.intp]:
    order = np.argsort(promise[pod], kind="stable")[:width]
    feasible: NDArray[np.intp] = order[np.isfinite(problem.alone[pod][order])]
    return feasible


class _Layout:
    """Where the program's variables stand: one a (pod, node), then one an (edge, node, node)."""

    def __init__(self, rows: Sequence[NDArray[np.intp]], edges: Sequence[Edge]) -> None:
        self.rows, self.edges = rows, edges
        sizes = [len(row) for row in rows]
        self.start = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        pairs = [sizes[e.source] * sizes[e.target] for e in edges]
        self.edge_start = self.start[-1] + np.concatenate([[0], np.cumsum(pairs)]).astype(int)
        self.size = int(self.edge_start[-1])

    def costs(self, problem: Problem) -> Floats:
        parts = [problem.alone[pod][row] for pod, row in enumerate(self.rows)]
        for edge in self.edges:
            square = problem.distance[np.ix_(self.rows[edge.source], self.rows[edge.target])]
            parts.append((edge.weight * square).ravel())
        return np.concatenate(parts)

    def integrality(self) -> Ints:
        whole: Ints = (np.arange(self.size) < self.start[-1]).astype(np.int64)
        return whole

    def constraints(
        self, problem: Problem
    ) -> tuple[tuple[list[float], tuple[list[int], list[int]]], list[float], list[float]]:
        """(values, (rows, columns)), and the least and the most of every row."""
        lines = [*self._one_node_each(), *self._pairs_agree(), *self._room(problem)]
        values, at, columns = [], [], []
        for index, (entries, _, _) in enumerate(lines):
            for column, value in entries:
                values.append(value)
                at.append(index)
                columns.append(column)
        return (values, (at, columns)), [line[1] for line in lines], [line[2] for line in lines]

    def _one_node_each(self) -> Iterator["_Line"]:
        for pod, row in enumerate(self.rows):
            first = int(self.start[pod])
            yield [(first + k, 1.0) for k in range(len(row))], 1.0, 1.0

    def _pairs_agree(self) -> Iterator["_Line"]:
        """Summed over one end's nodes, an edge's variables are the other end's."""
        for index, edge in enumerate(self.edges):
            first, wide = int(self.edge_start[index]), len(self.rows[edge.target])
            for k in range(len(self.rows[edge.source])):
                terms = [(first + k * wide + j, 1.0) for j in range(wide)]
                yield [*terms, (int(self.start[edge.source]) + k, -1.0)], 0.0, 0.0
            for j in range(wide):
                terms = [(first + k * wide + j, 1.0) for k in range(len(self.rows[edge.source]))]
                yield [*terms, (int(self.start[edge.target]) + j, -1.0)], 0.0, 0.0

    def _room(self, problem: Problem) -> Iterator["_Line"]:
        """No node takes more than it has free, nor both ends of an edge that keeps apart."""
        takers: dict[int, list[tuple[int, int]]] = {}
        for pod, row in enumerate(self.rows):
            for k, node in enumerate(row.tolist()):
                takers.setdefault(node, []).append((pod, int(self.start[pod]) + k))
        for node, pods in takers.items():
            for resource in range(problem.needs.shape[1]):
                asked = [(c, float(problem.needs[pod, resource])) for pod, c in pods]
                free = float(problem.free[node, resource])
                if sum(value for _, value in asked) > free:
                    # In units of what is free, so that bytes and milli-CPU weigh alike.
                    scale = max(free, 1.0)
                    yield [(c, v / scale) for c, v in asked if v], -np.inf, free / scale
            columns = dict(pods)
            for edge in self.edges:
                if edge.different_nodes and edge.source in columns and edge.target in columns:
                    yield [(columns[edge.source], 1.0), (columns[edge.target], 1.0)], -np.inf, 1.0


_Line = tuple[list[tuple[int, float]], float, float]


def _greedily(problem: Problem) -> list[int]:
    """Pod after pod, each where it costs least beside those before it; -1 needs no room."""
    nodes: list[int] = []
    free = problem.free.astype(np.int64).copy()
    for pod in range(problem.pods):
        costs = problem.alone[pod].copy()
        asked = problem.needs[pod] > 0
        costs[(problem.needs[pod][asked] > free[:, asked]).any(axis=1)] = np.inf
        for edge in problem.edges:
            if pod in (edge.source, edge.target) and (neighbour := _parent(edge, pod)) < pod:
                costs = costs + edge.weight * problem.distance[nodes[neighbour]]
                if edge.different_nodes:
                    costs[nodes[neighbour]] = np.inf
        nodes.append(int(costs.argmin()))
        free[nodes[-1]] -= problem.needs[pod]
    return nodes


def _improved(problem: Problem, nodes: list[int]) -> list[int]:
    """Move one pod at a time to where the whole costs least, while that helps."""
    best = list(nodes)
    cost = problem.cost(best)
    for _ in range(8):
        before = cost
        for pod in range(problem.pods):
            for node in _cheaper(problem, best, pod)[:CANDIDATES].tolist():
                tried = [*best[:pod], node, *best[pod + 1 :]]
                if (new_cost := problem.cost(tried)) < cost - 1e-9:
                    best, cost = tried, new_cost
                    break
        if cost >= before:
            break
    return best


def _cheaper(problem: Problem, nodes: Sequence[int], pod: int) -> NDArray[np.intp]:
    """Nodes that would cost this pod less than its own does, the others staying, least first."""
    costs = problem.alone[pod].copy()
    for edge in problem.edges:
        if pod in (edge.source, edge.target):
            costs = costs + edge.weight * problem.distance[nodes[_parent(edge, pod)]]
    order = np.argsort(costs, kind="stable")
    cheaper: NDArray[np.intp] = order[costs[order] < costs[nodes[pod]]]
    return cheaper
