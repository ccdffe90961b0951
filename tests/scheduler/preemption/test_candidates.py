"""Which pods have to go for one that fits nowhere, and what is said when none would help."""

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.objects.core import Node, Pod, PodCondition
from cluster.state.resource_types import put
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.plugin import Plugin, PodInfo, Prepared
from filters.default_preemption import DefaultPreemption
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.cycle.evaluation import Evaluation, PluginSet
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from scheduler.cycle.trial import Trial
from scheduler.preemption.candidates import Candidate, NotHelpful, Preemption
from scheduler.queue.nominator import Nominator
from tests.harness.make import Json, node, pod_json, snapshot
from tests.harness.objects import read, row_of


def make(name: str, cpu: str, priority: int, on: str = "", started: str = "", **spec: Any) -> Pod:
    if on:
        spec["nodeName"] = on
    raw = pod_json(name, {"cpu": cpu} if cpu else None, priority=priority, **spec)
    raw["metadata"] |= {"uid": name, "labels": {"app": name.rstrip("0123456789")}}
    raw["status"] = {"startTime": started}
    return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)


def preempt(
    new: Pod, found: Snapshot, nominator: Nominator | None = None
) -> Candidate | NotHelpful | str:
    """The candidate, the message, or the node's name where the pod fits without."""
    nominator = nominator or Nominator(found)
    info = PodInfo.of(new)
    framework = Framework(Profile("gsch"), Matrix())
    trial = Cycle(found).trial(framework, info, nominator.ahead_of(info))
    if trial.feasible.any():
        return found.names[int(trial.feasible.argmax())]
    own = nominator.row(new.key)
    return Preemption(found, random.Random(1)).find(DefaultPreemption(), trial, info, own)


def victims(new: Pod, *nodes: Node, pods: tuple[Pod, ...], budgets: tuple[Json, ...] = ()) -> Any:
    """(node, sorted names of the victims), or the message."""
    found = snapshot(*nodes, pods=pods)
    for budget in budgets:
        put(found, "PodDisruptionBudget", read(budget))
    before = recorded(found)
    result = preempt(new, found)
    assert recorded(found) == before, "a question changed the snapshot"
    if isinstance(result, Candidate):
        names = sorted(v.key.partition("/")[2] for v in result.victims)
        return found.names[result.row], names
    return result.message if isinstance(result, NotHelpful) else result


def recorded(found: Snapshot) -> Any:
    view = found.view()
    return (
        sorted((key, record.node) for key, record in found.pods.items()),
        view.requested("cpu").tolist(),
        view.requested("pods").tolist(),
    )


def budget(app: str, allowed: int) -> Json:
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed},
    }


TWO = (node("a", cpu="2"), node("b", cpu="2"))


def test_the_least_important_pods_go_and_no_more_than_needed() -> None:
    running = (
        make("x1", "1", 5, "a"), make("x2", "1", 1, "a"),
        make("y1", "1", 5, "b"), make("y2", "1", 5, "b"),
    )  # fmt: skip
    assert victims(make("new", "1", 10), *TWO, pods=running) == ("a", ["x2"])
    assert victims(make("new", "2", 10), *TWO, pods=running) == ("a", ["x1", "x2"])


@pytest.mark.parametrize(
    ("pods", "chosen"),
    [
        # The lowest highest priority, then the smallest sum, the fewest, the latest start.
        ([("x1", "2", 3, "a", ""), ("y1", "2", 2, "b", "")], ("b", ["y1"])),
        ([("x1", "1", 3, "a", ""), ("x2", "1", 3, "a", ""), ("y1", "1", 3, "b", ""),
          ("y2", "1", 1, "b", "")], ("b", ["y1", "y2"])),
        ([("x1", "2", 3, "a", ""), ("y1", "1", 3, "b", ""), ("y2", "1", 3, "b", "")],
         ("a", ["x1"])),
        ([("x1", "2", 3, "a", "2026-01-01T00:00:00Z"), ("y1", "2", 3, "b",
          "2026-01-02T00:00:00Z")], ("b", ["y1"])),
    ],
)  # fmt: skip
def test_the_node_whose_victims_matter_least_is_taken(pods: Any, chosen: Any) -> None:
    running = tuple(make(*fields) for fields in pods)
    assert victims(make("new", "2", 10), *TWO, pods=running) == chosen


def test_the_pod_that_ran_shorter_goes_first() -> None:
    running = (
        make("old", "1", 1, "a", "2026-01-01T00:00:00Z"),
        make("young", "1", 1, "a", "2026-01-03T00:00:00Z"),
    )
    assert victims(make("new", "1", 10), TWO[0], pods=running) == ("a", ["young"])


def test_budgets_are_violated_only_where_nothing_else_helps() -> None:
    running = (make("x1", "2", 1, "a"), make("y1", "2", 5, "b"))
    new = make("new", "2", 10)
    assert victims(new, *TWO, pods=running) == ("a", ["x1"])
    assert victims(new, *TWO, pods=running, budgets=(budget("x", 0),)) == ("b", ["y1"])
    both = (budget("x", 0), budget("y", 0))
    assert victims(new, *TWO, pods=running, budgets=both) == ("a", ["x1"])


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (make("new", "1", 1),
         "0/2 nodes are available: 2 No preemption victims found for incoming pod."),
        (make("new", "9", 10),
         "0/2 nodes are available: 2 Preemption is not helpful for scheduling."),
        (make("new", "1", 10, preemptionPolicy="Never"),
         "not eligible due to preemptionPolicy=Never."),
        (make("new", "", 10, nodeSelector={"no": "node"}),
         "0/2 nodes are available: 2 Preemption is not helpful for scheduling."),
    ],
)  # fmt: skip
def test_why_preemption_does_not_help(new: Pod, message: str) -> None:
    running = (make("x1", "2", 1, "a"), make("y1", "2", 1, "b"))
    assert victims(new, *TWO, pods=running) == message


def test_affinity_to_others_is_judged_with_one_node_s_victims_gone() -> None:
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}
            ]
        }
    }
    zone = (node("a", labels={"zone": "1"}), node("b", labels={"zone": "1"}))
    one = (make("x1", "1", 1, "a"),)
    assert victims(make("new", "1", 10, affinity=apart), *zone, pods=one) == ("a", ["x1"])
    # With one on each node, removing one leaves the other in the zone.
    both = (*one, make("x2", "1", 1, "b"))
    reason = "2 node(s) didn't match pod anti-affinity rules"
    assert reason in victims(make("new", "1", 10, affinity=apart), *zone, pods=both)


def test_room_made_for_a_nominated_pod_is_not_taken_by_lesser_ones() -> None:
    found = snapshot(node("a", cpu="2"))
    nominator = Nominator(found)
    nominator.add(PodInfo.of(make("first", "2", 10)), "a")
    assert isinstance(preempt(make("lesser", "1", 5), found, nominator), NotHelpful)
    assert preempt(make("greater", "1", 11), found, nominator) == "a"
    assert preempt(make("first", "2", 10), found, nominator) == "a"
    nominator.remove("default/first")
    assert preempt(make("lesser", "1", 5), found, nominator) == "a"
    assert found.view().requested("cpu").tolist() == [0]


def test_a_pod_waits_for_victims_that_are_on_their_way_out() -> None:
    leaving = make("x1", "2", 1, "a")
    meta = msgspec.structs.replace(leaving.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    condition = PodCondition("DisruptionTarget", "True", "PreemptionByScheduler")
    status = msgspec.structs.replace(leaving.status, conditions=[condition])
    found = snapshot(
        node("a", cpu="2"), pods=(msgspec.structs.replace(leaving, metadata=meta, status=status),)
    )
    nominator = Nominator(found)
    new = make("new", "2", 10)
    nominator.add(PodInfo.of(new), "a")
    result = preempt(new, found, nominator)
    assert isinstance(result, NotHelpful)
    assert result.message == "not eligible due to a terminating pod on the nominated node."


RUNNING = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 5)), max_size=8
)


@settings(max_examples=200, deadline=None)
@given(RUNNING, st.integers(1, 4), st.integers(0, 6))
def test_with_the_victims_gone_the_pod_fits_and_with_any_of_them_left_it_does_not(
    running: list[tuple[str, int, int]], cpu: int, priority: int
) -> None:
    nodes = (node("a", cpu="4"), node("b", cpu="4"))
    pods = tuple(make(f"p{i}", str(size), rank, on) for i, (on, size, rank) in enumerate(running))
    new = make("new", str(cpu), priority)
    result = victims(new, *nodes, pods=pods)
    if not isinstance(result, tuple):
        return
    on, gone = result
    lower = {p.metadata.name for p in pods if p.spec.priority < priority}
    assert set(gone) <= lower
    left = [p for p in pods if p.spec.node_name == on and p.metadata.name not in gone]
    used = sum(running[int(p.metadata.name[1:])][1] for p in left)
    assert used + cpu <= 4
    sizes = [running[int(name[1:])][1] for name in gone]
    assert all(used + size + cpu > 4 for size in sizes)


def test_a_node_with_two_reasons_is_one_node() -> None:
    running = (make("x1", "2", 20, "a"), make("x2", "", 1, "a"))
    full = (node("a", cpu="2", pods="1"), node("b", cpu="1"))
    assert victims(make("new", "2", 10), *full, pods=running) == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 Preemption is not helpful for scheduling, "
        "1 Too many pods."
    )


def test_a_nominated_pod_that_has_its_node_by_now_keeps_it() -> None:
    found = snapshot(node("a", cpu="4"))
    placed = make("first", "3", 10)
    nominator = Nominator(found)
    nominator.add(PodInfo.of(placed), "a")
    found.assume(placed, PodInfo.of(placed).needs, 0)
    assert isinstance(preempt(make("lesser", "2", 5), found, nominator), NotHelpful)
    assert found.holds("default/first", "first")
    assert found.view().requested("cpu").tolist() == [3000]


def test_a_question_leaves_nothing_to_be_computed_again() -> None:
    found = snapshot(*TWO, pods=(make("x1", "2", 1, "a"), make("y1", "2", 1, "b")))
    before = found.version
    assert isinstance(preempt(make("new", "2", 10), found), Candidate)
    assert found.version == before
    assert found.changed_since(before).tolist() == []


def test_budgets_of_other_namespaces_guard_nobody_here() -> None:
    elsewhere = budget("x", 0)
    elsewhere["metadata"]["namespace"] = "else"
    everybody = budget("x", 0) | {"spec": {"selector": {}}}
    running = (make("x1", "2", 1, "a"),)
    found = snapshot(TWO[0], pods=running)
    for item in (elsewhere, everybody):
        put(found, "PodDisruptionBudget", read(item))
    result = preempt(make("new", "2", 10), found)
    assert isinstance(result, Candidate)
    assert result.violations == 0


def test_what_changes_under_a_search_is_looked_at_again() -> None:
    """The only candidate's victims leave between two slices, and greater pods take their places."""
    found = snapshot(TWO[0], pods=(make("x1", "1", 1, "a"), make("x2", "1", 1, "a")))
    info = PodInfo.of(make("new", "1", 10))
    framework = Framework(Profile("gsch"), Matrix())
    search = Preemption(found, random.Random(1)).search(
        DefaultPreemption(), Cycle(found).trial(framework, info), info, -1, list
    )
    assert search.advance(0.0) is None
    for name in ("x1", "x2"):
        found.remove_pod(f"default/{name}")
        found.set_pod(make(f"high-{name}", "1", 50, "a"))
    while (result := search.advance(0.0)) is None:
        pass
    assert isinstance(result, NotHelpful)
    assert result.message == (
        "0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )


def test_room_that_is_promised_to_a_greater_pod_during_a_search_is_left_to_it() -> None:
    found = snapshot(TWO[0], pods=(make("x1", "1", 1, "a"), make("x2", "1", 1, "a")))
    info, greater = PodInfo.of(make("new", "1", 10)), PodInfo.of(make("greater", "2", 50))
    framework = Framework(Profile("gsch"), Matrix())
    ahead: list[tuple[int, list[PodInfo]]] = []
    search = Preemption(found, random.Random(1)).search(
        DefaultPreemption(), Cycle(found).trial(framework, info), info, -1, lambda: list(ahead)
    )
    assert search.advance(0.0) is None
    ahead.append((row_of(found, "a"), [greater]))
    while (result := search.advance(0.0)) is None:
        pass
    assert isinstance(result, NotHelpful)


class ByRemoval(Plugin):
    """Admits everything, and cannot judge by counts: pods are really taken out of the snapshot."""

    NAME = "ByRemoval"
    LOCAL = False

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Prepared[None]:
        return Prepared(None)

    def filter(self, prepared: Prepared[None], view: View) -> Ints:
        return np.zeros(len(view), np.int64)


def _apart(key: str, kind: str) -> Json:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": {"app": "x"}}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _spread(skew: int) -> list[Json]:
    return [
        {
            "maxSkew": skew,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}},
        }
    ]


_PORT = [{"name": "main", "image": "i", "ports": [{"hostPort": 80}]}]
SPECS: list[Json] = [
    {},
    {"affinity": _apart("zone", "podAntiAffinity")},
    {"affinity": _apart("kubernetes.io/hostname", "podAntiAffinity")},
    {"affinity": _apart("zone", "podAffinity")},
    {"topologySpreadConstraints": _spread(1)},
    {"topologySpreadConstraints": _spread(2)},
    {"containers": _PORT},
]
PLACED = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("xy"), st.integers(0, 4),
              st.sampled_from(["1", "2"]), st.sampled_from(SPECS)),
    max_size=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(PLACED, st.sampled_from(SPECS), st.sampled_from("xy"), st.sampled_from(["1", "3"]))
def test_counting_victims_away_is_the_same_as_taking_them_out(
    placed: list[tuple[int, str, int, str, Json]], spec: Json, app: str, cpu: str
) -> None:
    nodes = [node(f"n{i}", cpu="4", labels={"zone": str(i % 3)} if i < 4 else {}) for i in range(5)]
    pods = tuple(
        make(f"{name}{i}", size, rank, f"n{on}", **given_spec)
        for i, (on, name, rank, size, given_spec) in enumerate(placed)
    )
    found = snapshot(*nodes, pods=pods)
    info = PodInfo.of(make(f"{app}99", cpu, 3, **spec))
    framework = Framework(Profile("gsch"), Matrix())
    trial = Cycle(found).trial(framework, info)
    if trial.feasible.any():
        return

    def outcome(plugins: PluginSet) -> Any:
        evaluation = Evaluation(plugins, info, found)
        evaluation.refresh()
        again = Trial(plugins, evaluation, info, found)
        result = Preemption(found, random.Random(1)).find(DefaultPreemption(), again, info, -1)
        if isinstance(result, NotHelpful):
            return result.message
        return result.row, [victim.key for victim in result.victims], result.violations

    before = recorded(found)
    by_counts = outcome(PluginSet(framework.filters, ()))
    by_removal = outcome(PluginSet((ByRemoval(), *framework.filters), ()))
    assert recorded(found) == before
    assert by_counts == by_removal
