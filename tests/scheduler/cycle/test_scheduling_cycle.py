"""The cycle's invariants: no overcommit, and kept results equal fresh ones."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.config.configuration import Profile
from scheduler.config.pod_info import pod_info
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle, FitError, ScheduleResult
from tests.harness.make import node, pod, snapshot
from tests.harness.objects import chosen_row, row_of

PRIORITIES = ("", "GMostRequestedPriority", "GLeastRequestedPriority", "GBalancedPriority")


def config(priority: str, source: str = "") -> str | None:
    if not priority:
        return None
    option = f', "option": {{"sourceNode": "{source}"}}' if source else ""
    return f'{{"priority": "{priority}"{option}}}'


def framework(pairs: tuple[Pair, ...] = ()) -> Framework:
    matrix = Matrix()
    matrix.replace(Readings.of(pairs))
    return Framework(Profile("gsch"), matrix)


REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["100m", "1", "1500m", "3"]),
        "memory": st.sampled_from(["64Mi", "1Gi", "3Gi"]),
        "nvidia.com/gpu": st.sampled_from(["1", "2"]),
    },
)
SIZES = st.lists(
    st.tuples(st.sampled_from(["1", "2", "4"]), st.sampled_from(["1Gi", "4Gi"]),
              st.integers(0, 4), st.integers(1, 5)),
    min_size=1, max_size=6,
)  # fmt: skip


def build(sizes: list[tuple[str, str, int, int]]) -> Snapshot:
    found = snapshot()
    for index, (cpu, memory, gpus, pods) in enumerate(sizes):
        gpu: dict[str, Any] = {"nvidia.com__gpu": str(gpus)} if gpus else {}
        taints = [{"key": "soft", "effect": "PreferNoSchedule"}] if index % 3 == 2 else None
        found.set_node(
            node(f"n{index}", cpu=cpu, memory=memory, pods=str(pods), taints=taints,
                 labels={"zone": str(index % 2)}, **gpu)
        )  # fmt: skip
    return found


@settings(max_examples=150, deadline=None)
@given(SIZES, st.lists(st.tuples(REQUEST, st.sampled_from(PRIORITIES)), max_size=25), st.randoms())
def test_no_node_is_ever_overcommitted_and_no_fitting_pod_refused(
    sizes: list[tuple[str, str, int, int]],
    requests: list[tuple[dict[str, str], str]],
    rng: random.Random,
) -> None:
    found = build(sizes)
    cycle, plugins = Cycle(found, seed=1), framework()
    placed: list[str] = []
    for number, (wanted, priority) in enumerate(requests):
        new = pod(f"p{number}", requests=wanted, config=config(priority))
        info = pod_info(new)
        decision = cycle.decide(plugins, info)
        fits = [row for row in range(len(found)) if _fits(found, info, row)]
        assert isinstance(decision, ScheduleResult) == bool(fits)
        if isinstance(decision, ScheduleResult):
            assert decision.row in fits
            found.assume(new, info.needs, decision.row)
            placed.append(new.key)
        if placed and rng.random() < 0.3:
            found.remove_pod(placed.pop(rng.randrange(len(placed))))
    view = found.view()
    for resource in ("cpu", "memory", "pods", "nvidia.com/gpu"):
        assert (view.requested(resource) <= view.allocatable(resource)).all()


def _fits(found: Snapshot, info: PodInfo, row: int) -> bool:
    view = found.view()
    return all(
        view.requested(name)[row] + amount <= view.allocatable(name)[row]
        for name, amount in info.needs.requests.items()
    )


@settings(max_examples=100, deadline=None)
@given(SIZES, st.sampled_from(PRIORITIES), st.lists(st.integers(0, 9), max_size=15))
def test_a_kept_evaluation_equals_a_fresh_one(
    sizes: list[tuple[str, str, int, int]], priority: str, steps: list[int]
) -> None:
    found = build(sizes * 3)
    plugins = framework()
    info = pod_info(pod("p", requests={"cpu": "100m"}, config=config(priority)))
    cycle = Cycle(found)
    for number, step in enumerate(steps):
        cycle.trial(plugins, info)
        name = f"n{step % len(sizes)}"
        if step == 9:
            found.remove_node(name)
        elif step == 8:
            found.set_node(node(name, cpu="2", labels={"new": "label"}))
        elif (row := found.row(name)) is not None:
            extra = pod(f"x{number}", requests={"cpu": "200m"})
            found.assume(extra, PodInfo.of(extra).needs, row)
        kept = cycle.trial(plugins, info)
        fresh = Cycle(found).trial(plugins, info)
        assert np.array_equal(kept.feasible, fresh.feasible)
        assert kept.select(random.Random(1)) == fresh.select(random.Random(1))


def test_packing_fills_one_node_before_the_next_and_spreading_goes_round() -> None:
    for priority, wanted in (
        ("GMostRequestedPriority", {"n0": 4}),
        ("GLeastRequestedPriority", {"n0": 1, "n1": 1, "n2": 1, "n3": 1}),
    ):
        found = snapshot(*(node(f"n{i}") for i in range(4)))
        cycle, plugins = Cycle(found, seed=3), framework()
        placed: dict[str, int] = {}
        for number in range(4):
            new = pod(f"p{number}", requests={"cpu": "1", "memory": "1Gi"}, config=config(priority))
            info = pod_info(new)
            row = chosen_row(cycle.decide(plugins, info))
            found.assume(new, info.needs, row)
            placed[found.names[row]] = placed.get(found.names[row], 0) + 1
        assert sorted(placed.values()) == sorted(wanted.values())


@pytest.mark.parametrize(
    "gpu", ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb"]
)
def test_gpus_of_all_kinds_weigh_most_when_packing(gpu: str) -> None:
    offered: Any = {gpu.replace("/", "__"): "4"}
    found = snapshot(node("free", cpu="8", **offered), node("used", cpu="8", **offered))
    cycle, plugins = Cycle(found), framework()
    loads = {"free": {"cpu": "6", "memory": "6Gi"}, "used": {gpu: "2"}}
    for name, requests in loads.items():
        extra = pod(f"on-{name}", requests=requests)
        found.assume(extra, PodInfo.of(extra).needs, row_of(found, name))
    new = pod("p", requests={gpu: "1"}, config=config("GMostRequestedPriority"))
    assert found.names[chosen_row(cycle.decide(plugins, pod_info(new)))] == "used"


NEAR = "GLowLatencyPriority"


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([Pair("src", "a", 5), Pair("src", "b", 1)], {"b"}),
        ([Pair("a", "src", 1), Pair("src", "b", 2)], {"a"}),
        ([Pair("src", "a", 1.05), Pair("src", "b", 1.0)], {"a", "b"}),
        ([Pair("src", "a", 1.2), Pair("src", "b", 1.0)], {"b"}),
        ([Pair("src", "b", 900)], {"b"}),
        ([], {"a", "b"}),
    ],
)
def test_the_nearest_node_wins_and_scores_decide_within_the_resolution(
    pairs: list[Pair], wanted: set[str]
) -> None:
    seen = set()
    for seed in range(12):
        found = snapshot(node("a"), node("b"))
        cycle = Cycle(found, seed)
        new = pod_info(pod("p", config=config(NEAR, "src")))
        seen.add(found.names[chosen_row(cycle.decide(framework(tuple(pairs)), new))])
    assert seen == wanted


def test_a_near_node_that_is_full_gives_way_to_the_next() -> None:
    found = snapshot(node("near", cpu="1"), node("far", cpu="4"))
    plugins = framework((Pair("src", "near", 1), Pair("src", "far", 9)))
    new = pod_info(pod("p", requests={"cpu": "2"}, config=config(NEAR, "src")))
    assert found.names[chosen_row(Cycle(found).decide(plugins, new))] == "far"


def test_a_pod_near_another_waits_for_it_and_then_goes_near_its_node() -> None:
    found = snapshot(node("a"), node("b"), node("c", unschedulable=True))
    plugins = framework((Pair("c", "a", 9), Pair("c", "b", 1)))
    option = '"option": {"pod_name": "other"}'
    new = pod_info(pod("p", config=f'{{"priority": "{NEAR}", {option}}}'))
    cycle = Cycle(found)
    decision = cycle.decide(plugins, new)
    assert isinstance(decision, FitError)
    assert "default/other" in decision.diagnosis.message
    other = pod("other")
    found.assume(other, PodInfo.of(other).needs, row_of(found, "c"))
    assert found.names[chosen_row(cycle.decide(plugins, new))] == "b"


def test_ties_are_spread_by_a_seeded_draw() -> None:
    def rows(seed: int) -> list[int]:
        found = snapshot(*(node(f"n{i}") for i in range(8)))
        cycle, plugins = Cycle(found, seed), framework()
        new = pod_info(pod("p", requests={"cpu": "1"}))
        return [chosen_row(cycle.decide(plugins, new)) for _ in range(30)]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)
    assert len(set(rows(1))) > 4


def test_100_000_nodes() -> None:
    found = snapshot(*(node(f"n{i}", labels={"zone": str(i % 7)}) for i in range(100_000)))
    cycle, plugins = Cycle(found, 1), framework()
    new = pod("p", requests={"cpu": "1"}, nodeSelector={"zone": "3"})
    row = chosen_row(cycle.decide(plugins, pod_info(new)))
    assert row % 7 == 3


STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 59), st.integers(0, 9)), max_size=120)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.sampled_from(PRIORITIES), st.integers(0, 9))
def test_states_worked_out_ahead_are_those_that_come(
    steps: list[tuple[int, int, int]], priority: str, seed: int
) -> None:
    """Identical pods in a row, with other pods and nodes changing in between."""
    found = build([("4", "4Gi", 0, 20)] * 60)
    cycle, plugins = Cycle(found, seed=seed), framework()
    info = pod_info(
        pod("same", requests={"cpu": "100m", "memory": "64Mi"}, config=config(priority))
    )
    for number, (kind, row, size) in enumerate(steps):
        if kind == 0:
            other = pod(f"o{number}", requests={"cpu": f"{size}00m"}, nodeName=f"n{row}")
            found.set_pod(other)
        elif kind == 1:
            found.set_node(node(f"n{row}", cpu=str(size), pods="20"))
        for copy in range(1 + size % 4):
            trial = cycle.trial(plugins, info)
            fresh = Cycle(found, seed=seed).trial(plugins, info)
            assert trial.feasible.tolist() == fresh.feasible.tolist()
            assert trial.best().tolist() == fresh.best().tolist()
            best = trial.best()
            if not len(best):
                break
            same = pod(f"s{number}-{copy}", requests={"cpu": "100m", "memory": "64Mi"})
            found.assume(same, pod_info(same).needs, int(best[seed % len(best)]))


@pytest.mark.parametrize("priority", ["", "GMostRequestedPriority"])
@pytest.mark.parametrize("seed", range(20))
def test_identical_pods_in_a_row_fill_uneven_nodes_and_overcommit_none(
    priority: str, seed: int
) -> None:
    """What is worked out ahead for a row must not outlive the placements that it stands for."""
    rng = random.Random(seed)
    world = snapshot(
        *(
            node(
                f"n{number}",
                cpu=rng.choice(["4", "16", "64"]),
                memory=rng.choice(["4Gi", "64Gi", "256Gi"]),
                pods=rng.choice(["20", "40", "110"]),
            )
            for number in range(rng.choice([2, 3, 5, 20]))
        )
    )
    framework, cycle = Framework(Profile("gsch"), Matrix()), Cycle(world, seed)
    for number in range(2500):
        new = pod(
            f"p{number}", requests={"cpu": "200m", "memory": "100Mi"}, config=config(priority)
        )
        info = pod_info(new)
        decision = cycle.decide(framework, info)
        if isinstance(decision, FitError):
            break
        world.assume(new, info.needs, decision.row)
    assert isinstance(decision, FitError)
    assert not Cycle(world, 1).trial(framework, info).feasible.any()
    view = world.view()
    for resource in ("cpu", "memory", "pods"):
        assert (view.requested(resource) <= view.allocatable(resource)).all()


def _tainted(value: str) -> list[dict[str, str]]:
    return [{"key": "only", "value": value, "effect": "NoSchedule"}]


def test_a_toleration_does_not_hold_for_taints_that_came_in_the_place_of_others() -> None:
    world = snapshot(*(node(f"n{n}", taints=_tainted(f"old{n}")) for n in range(200)))
    framework, cycle = Framework(Profile("gsch"), Matrix()), Cycle(world, 1)
    infos = [
        pod_info(
            pod("p", tolerations=[{"key": "only", "operator": "Equal", "value": f"old{number}"}])
        )
        for number in (0, 199)
    ]
    assert [int(cycle.trial(framework, info).feasible.sum()) for info in infos] == [1, 1]
    for number in range(200):
        world.set_node(node(f"n{number}"))
    assert [int(cycle.trial(framework, info).feasible.sum()) for info in infos] == [200, 200]
    for number in range(200):
        world.set_node(node(f"n{number}", taints=_tainted(f"new{number}")))
    assert [int(cycle.trial(framework, info).feasible.sum()) for info in infos] == [0, 0]


def test_a_pod_on_a_node_that_is_not_there_stops_no_other() -> None:
    """Its row has no node: it comes before the node does, or stays when the node is gone."""
    world = snapshot(*(node(f"n{n}") for n in range(20)))
    framework, cycle = Framework(Profile("gsch"), Matrix()), Cycle(world, 1)
    info = pod_info(pod("p", requests={"cpu": "100m"}))
    assert int(cycle.trial(framework, info).feasible.sum()) == 20
    world.set_pod(pod("early", nodeName="n20", requests={"cpu": "1"}))
    assert int(cycle.trial(framework, info).feasible.sum()) == 20
    world.remove_pod("default/early")
    assert int(cycle.trial(framework, info).feasible.sum()) == 20
    world.set_pod(pod("left", nodeName="n19", requests={"cpu": "1"}))
    world.remove_node("n19")
    assert int(cycle.trial(framework, info).feasible.sum()) == 19
    world.remove_pod("default/left")
    assert int(cycle.trial(framework, info).feasible.sum()) == 19


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}
        }
    }


def named(node: str) -> dict[str, Any]:
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}


def uneven() -> Snapshot:
    return snapshot(
        node("free", labels={"zone": "a"}),
        node("full", cpu="1", labels={"zone": "a"}),
        node("cordoned", unschedulable=True, labels={"zone": "a"}),
        node("tainted", taints=[{"key": "k", "effect": "NoSchedule"}], labels={"zone": "a"}),
        node("elsewhere", labels={"zone": "b"}),
    )


@pytest.mark.parametrize("name", ["free", "full", "cordoned", "tainted", "elsewhere", "missing"])
def test_a_pod_for_one_node_by_name_fares_as_one_that_shares_nothing(name: str) -> None:
    """A second term that matches nothing keeps the other pod from sharing results."""
    found = uneven()
    plugins, cycle = framework(), Cycle(found, 1)
    spec: dict[str, Any] = {"requests": {"cpu": "2"}, "nodeSelector": {"zone": "a"}}
    # The class has results of another node by then.
    cycle.decide(plugins, pod_info(pod("before", affinity=required(named("free")), **spec)))
    shares = pod_info(pod("p", affinity=required(named(name)), **spec))
    alone = pod_info(pod("p", affinity=required(named(name), named(name)), **spec))
    one, other = cycle.decide(plugins, shares), Cycle(found, 1).decide(plugins, alone)
    assert one.trial.feasible.tolist() == other.trial.feasible.tolist()
    assert one.trial.unresolvable().tolist() == other.trial.unresolvable().tolist()
    if name == "free":
        assert chosen_row(one) == chosen_row(other) == row_of(found, "free")
        return
    assert isinstance(one, FitError)
    assert isinstance(other, FitError)
    assert one.diagnosis.message == other.diagnosis.message


def test_pods_for_nodes_by_name_share_one_evaluation() -> None:
    found = uneven()
    plugins, cycle = framework(), Cycle(found, 1)
    trials = [
        cycle.trial(plugins, pod_info(pod(name, affinity=required(named(name)))))
        for name in ("free", "full", "elsewhere")
    ]
    assert len({id(trial.evaluation) for trial in trials}) == 1
    assert [found.names[int(np.flatnonzero(t.feasible)[0])] for t in trials] == [
        "free",
        "full",
        "elsewhere",
    ]
