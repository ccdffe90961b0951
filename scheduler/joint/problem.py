"""One joint placement, put together from the snapshot, the latency matrix and what pods say."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.objects.keys import ObjectKey
from cluster.objects.label_selectors import equal_to
from cluster.state.pod_index import PodQuery
from cluster.state.snapshot import Snapshot
from filters.common.member import Dependency, DependencyKind, PipelineMember
from filters.common.plugin import PodInfo
from scheduler.cycle.framework import Framework
from scheduler.cycle.trial import Trial
from scheduler.joint.solver import Bools, Edge, Floats, Ints, Problem, solve

CANDIDATES = 256
"""Nodes that a joint placement looks at, at most."""
TIE = 1e-6
"""Share of a cost by which the other scores break ties."""


GUESSED = (
    "no fresh round-trip time is known for some of what this pod talks to: went by zones and "
    "regions, and took what is wholly unknown for far away"
)


class Anchor(NamedTuple):
    """What a pod talks to that has its place already."""

    place: str
    weight: float
    """Round trips a second to it."""
    different_nodes: bool
    """Whether the pod may not be on that node."""


class Comparison(NamedTuple):
    """What rows cost, in milliseconds of round trips a second, and better ones."""

    before: float
    after: float
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Placed:
    """The node that the joint plan has for a pod, and the message for its owner.

    `guessed` where some of the times that the plan rests on are neither measured nor predicted.
    """

    node: str
    message: str
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A pod to place, with its part in the pipeline and its verdict on every node by itself."""

    info: PodInfo
    member: PipelineMember
    trial: Trial

    @property
    def key(self) -> str:
        return self.info.pod.key


def rows_of(snapshot: Snapshot, nodes: Sequence[str]) -> list[int] | None:
    """The nodes' rows; None where one of them is there no more."""
    rows = [row for name in nodes if (row := snapshot.row(name)) is not None]
    return rows if len(rows) == len(nodes) else None


def plan_jointly(
    trials: Iterable[Trial],
    placed: dict[str, PipelineMember],
    snapshot: Snapshot,
    framework: Framework,
) -> "Plan | None":
    """The plan for these pods beside one another and the `placed` ones, yet to be solved.

    Pods that fit nowhere are left out; None where nothing is left.
    """
    parts = [
        Part(trial.info, trial.info.member, trial)
        for trial in trials
        if trial.info.member is not None and trial.rejection is None and trial.feasible.any()
    ]
    return Plan(snapshot, framework, parts, placed) if parts else None


class Plan:
    """One joint placement: the problem's arrays, put together from snapshot and matrix."""

    def __init__(
        self,
        snapshot: Snapshot,
        framework: Framework,
        parts: Sequence[Part],
        placed: dict[str, PipelineMember],
        include: Sequence[int] = (),
    ) -> None:
        self._snapshot, self._framework = snapshot, framework
        self._parts, self._placed = parts, placed
        self._edges = list(self._edges_between())
        self.problem, rows = self._problem(include)
        self._nodes = [snapshot.names[row] for row in rows.tolist()]
        """Names of the problem's nodes: a row may be another's by the time that it is solved."""

    def placed(self, nodes: Sequence[int]) -> dict[str, Placed]:
        """By key, where each pod is best placed by this solution; empty where one of its nodes is
        there no more."""
        names = [self._nodes[node] for node in nodes]
        rows = rows_of(self._snapshot, names)
        if rows is None:
            return {}
        cost = self.problem.cost(nodes)
        guessed = not self._all_measured(rows, predicted=True)
        placements = {}
        for part, name in zip(self._parts, names, strict=True):
            others = len(self._parts) - 1 + len(self._placed)
            members = f"{others} other pod{'s' * (others > 1)} of {part.member.pipeline}"
            whom = members if others else "what it talks to"
            message = f"placed jointly with {whom}: {cost:.3g} ms of round trips a second in all"
            placements[part.key] = Placed(name, message, guessed)
        return placements

    def compare(self, here: Sequence[int]) -> Comparison | None:
        """These rows beside the best ones; None where there are no better ones, or where that rests
        on times that nobody measured."""
        problem, names = self.problem, self._snapshot.names
        at = {name: index for index, name in enumerate(self._nodes)}
        if any(names[row] not in at for row in here):
            return None
        before = problem.cost([at[names[row]] for row in here])
        nodes = solve(problem)
        if nodes is None or problem.cost(nodes) >= before:
            return None
        there = rows_of(self._snapshot, [self._nodes[node] for node in nodes])
        if there is None or not self._all_measured(here) or not self._all_measured(there):
            return None
        return Comparison(before, problem.cost(nodes), there)

    def _all_measured(self, rows: Sequence[int], predicted: bool = False) -> bool:
        """Whether all times that make up the cost of these rows were measured (or `predicted`)."""
        names = self._snapshot.names
        terms = [
            (node, row)
            for part, row in zip(self._parts, rows, strict=True)
            for node, weight, _ in self._anchors(part)
            if weight
        ]
        terms += [(names[rows[e.source]], rows[e.target]) for e in self._edges if e.weight]
        return all(
            names[row] == node or self._is_measured(node, row, predicted) for node, row in terms
        )

    def _is_measured(self, node: str, row: int, predicted: bool) -> bool:
        near = self._framework.latency.from_node(node, self._snapshot)
        if near is None:
            return False
        if near.measured[row]:
            return True
        return predicted and not near.estimated[row] and not np.isnan(near.times[row])

    def _problem(self, include: Sequence[int]) -> tuple[Problem, NDArray[np.intp]]:
        """The arrays, over the rows that come into question and those to `include`."""
        alone = np.array([self._alone(part) for part in self._parts])
        rows = self._candidates(alone, include)
        names = self._snapshot.names
        problem = Problem(
            alone[:, rows],
            np.array([self._from(names[row])[rows] for row in rows.tolist()]),
            self._edges,
            *self._amounts(rows),
        )
        return problem, rows

    # -- costs -----------------------------------------------------------------------------

    def _alone(self, part: Part) -> Floats:
        """What the pod costs on every row by itself: inf where it does not fit."""
        snapshot = self._snapshot
        costs = np.zeros(len(snapshot))
        for node, weight, different_nodes in self._anchors(part):
            costs = costs + weight * self._from(node)
            if different_nodes and (row := snapshot.row(node)) is not None:
                costs[row] = np.inf
        scores = np.maximum(part.trial.evaluation.fixed.astype(np.float64), 0.0)
        highest = float(scores.max(initial=0.0))
        if highest:
            costs = costs + TIE * (1 - scores / highest)
        return np.where(part.trial.feasible, costs, np.inf)

    def _anchors(self, part: Part) -> Iterator[Anchor]:
        """What has its place already. A place need not be a node of this cluster."""
        info = part.info
        source = info.near_node
        if info.near_pod is not None:
            source = self._node_of(info.near_pod)
        if source:
            yield Anchor(source, 1.0, False)
        for dependency in part.member.depends_on:
            yield from self._depended_on(dependency)
        for key, running in self._placed.items():
            node = self._node_of(key)
            if node is None:
                continue
            for dependency in running.depends_on:
                if dependency.kind is DependencyKind.STAGE and dependency.name == part.member.stage:
                    weight = dependency.weight / self._size(part.member.stage)
                    yield Anchor(node, weight, dependency.different_nodes)
            if part.member.different_nodes or running.different_nodes:
                yield Anchor(node, 0.0, True)

    def _depended_on(self, dependency: Dependency) -> Iterator[Anchor]:
        weight, different_nodes = dependency.weight, dependency.different_nodes
        if dependency.kind is DependencyKind.NODE:
            yield Anchor(dependency.name, weight, different_nodes)
        elif dependency.kind is DependencyKind.POD:
            if (node := self._node_of(dependency.name)) is not None:
                yield Anchor(node, weight, different_nodes)
        elif dependency.kind is DependencyKind.SERVICE:
            namespace, name = ObjectKey.parse(dependency.name)
            counts = self._serving(namespace, name)
            for row in np.flatnonzero(counts).tolist():
                share = float(counts[row]) / float(counts.sum())
                yield Anchor(self._snapshot.names[row], weight * share, different_nodes)
        else:
            stage = [k for k, running in self._placed.items() if running.stage == dependency.name]
            for key in stage:
                if (node := self._node_of(key)) is not None:
                    yield Anchor(node, weight / self._size(dependency.name), different_nodes)

    def _serving(self, namespace: str, name: str) -> Floats:
        """How many pods of the Service run on every row."""
        labels = self._snapshot.default_selectors.service(namespace, name)
        if labels is None:
            return np.zeros(len(self._snapshot))
        query = PodQuery(((frozenset((namespace,)), equal_to(labels)),), terminating=False)
        counts: Any = self._snapshot.index.count(query)
        pods_by_row: Floats = counts[: len(self._snapshot)].astype(np.float64)
        return pods_by_row

    def _node_of(self, key: str) -> str | None:
        record = self._snapshot.pods.get(key)
        return record.node if record is not None else None

    def _size(self, stage: str) -> int:
        """How many pods share what goes to a stage."""
        planned = sum(part.member.stage == stage for part in self._parts)
        return max(planned + sum(running.stage == stage for running in self._placed.values()), 1)

    def _edges_between(self) -> Iterator[Edge]:
        for source, part in enumerate(self._parts):
            for target, its in enumerate(self._parts):
                dependency = self._dependency(part, its) if source != target else None
                if dependency is not None:
                    yield Edge(
                        source,
                        target,
                        dependency.weight,
                        dependency.different_nodes or self._need_different_nodes(part, its),
                    )
                elif (
                    source < target
                    and self._need_different_nodes(part, its)
                    and not self._dependency(its, part)
                ):
                    yield Edge(source, target, 0.0, True)

    @staticmethod
    def _need_different_nodes(part: Part, peer: Part) -> bool:
        same = bool(part.member.pipeline) and part.member.pipeline == peer.member.pipeline
        return same and (part.member.different_nodes or peer.member.different_nodes)

    def _dependency(self, part: Part, target: Part) -> Dependency | None:
        """What the first says of the second, with the weight of this one pair."""
        for dependency in part.member.depends_on:
            if dependency.kind is DependencyKind.STAGE and dependency.name == target.member.stage:
                pairs = self._size(target.member.stage)
                weight = dependency.weight / pairs
                return Dependency(
                    dependency.kind, dependency.name, weight, dependency.different_nodes
                )
            if dependency.kind is DependencyKind.POD and dependency.name == target.key:
                return dependency
        return None

    # -- arrays ----------------------------------------------------------------------------

    def _from(self, node: str) -> Floats:
        """Milliseconds from a place to every row, with something for those that are not known."""
        near = self._framework.latency.from_node(node, self._snapshot)
        times = np.ones(len(self._snapshot), np.float64)
        if near is not None and np.isfinite(near.times).any():
            times = near.ranking.copy()
        elif near is not None and near.steps is not None:
            times = (near.steps + 1).astype(np.float64)
        if (row := self._snapshot.row(node)) is not None:
            times[row] = 0.0
        return times

    def _candidates(self, alone: Floats, include: Sequence[int]) -> NDArray[np.intp]:
        """Rows that come into question: all that anybody fits, or those that promise most."""
        feasible: Bools = np.logical_or.reduce(np.isfinite(alone), axis=0)
        rows = np.flatnonzero(feasible)
        if len(rows) <= CANDIDATES:
            return rows
        best = np.where(np.isfinite(alone), alone, np.nan)
        order = np.argsort(np.nan_to_num(np.nanmean(best[:, rows], axis=0), nan=np.inf))
        chosen = dict.fromkeys([*include, *rows[order[: CANDIDATES // 2]].tolist()])
        # And what lies around the best of these, where pods that have no ties may go.
        for row in list(chosen)[: CANDIDATES // 16]:
            near: Floats = np.where(feasible, self._from(self._snapshot.names[row]), np.inf)
            chosen.update(dict.fromkeys(np.argsort(near)[:8].tolist()))
        return np.array([row for row in chosen if feasible[row]], np.int64)

    def _amounts(self, rows: NDArray[np.intp]) -> tuple[Ints, Ints]:
        """What the pods ask for, (m, r), and what the rows have free of it, (n, r)."""
        asked = [part.trial.info.needs.requests for part in self._parts]
        names = sorted({name for requests in asked for name in requests})
        needs = np.array([[requests.get(name, 0) for name in names] for requests in asked])
        view = self._snapshot.view(rows)
        free = np.array([view.allocatable(name) - view.requested(name) for name in names]).T
        return needs.astype(np.int64), free.astype(np.int64)
