"""Plugins that look at other pods: ports, topology spread, affinity between pods."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.objects.core import Node, Pod
from cluster.objects.label_selectors import Requirement, Selector
from cluster.state.pod_index import QUERIES_KEPT, PodQuery
from cluster.state.resource_types import put
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo
from latency.matrix import Matrix
from scheduler.config.configuration import Profile
from scheduler.cycle.framework import Framework
from scheduler.cycle.scheduling_cycle import Cycle
from tests.harness import naive_filters as naive
from tests.harness.make import Json, node, node_json, pod, pod_json, snapshot
from tests.harness.objects import admitted, diagnosis, expression, read, scores

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"
ZONED = (
    node("a1", labels={ZONE: "a"}),
    node("a2", labels={ZONE: "a"}),
    node("b1", labels={ZONE: "b"}),
    node("lost"),
)
WEB: Json = {"matchLabels": {"app": "web"}}


def labelled(name: str, app: str, on: str = "", namespace: str = "default", **spec: Any) -> Pod:
    if on:
        spec["nodeName"] = on
    raw = pod_json(name, namespace=namespace, **spec)
    raw["metadata"] |= {"labels": {"app": app}, "uid": f"uid-{name}"}
    return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)


def spread(key: str = ZONE, skew: int = 1, hard: bool = True, **more: Any) -> Any:
    return {
        "topologyKey": key,
        "maxSkew": skew,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
        "labelSelector": WEB,
        **more,
    }


def near(kind: str, key: str = ZONE, selector: Any = WEB, weight: int = 0, **more: Any) -> Any:
    term = {"topologyKey": key, "labelSelector": selector, **more}
    if weight:
        terms = [{"weight": weight, "podAffinityTerm": term}]
        return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def port(number: int, **fields: Any) -> Any:
    return {"containers": [{"name": "c", "ports": [{"hostPort": number, **fields}]}]}


@pytest.mark.parametrize(
    ("mine", "left"),
    [
        (port(80), ["b1"]),
        (port(81), ["a1", "b1"]),
        (port(80, protocol="UDP"), ["a1", "b1"]),
        (port(80, hostIP="10.0.0.1"), ["b1"]),
        (port(90, hostIP="10.0.0.1"), ["b1"]),
        (port(90, hostIP="10.0.0.2"), ["a1", "b1"]),
        (port(90), ["b1"]),
    ],
)
def test_a_host_port_is_taken_once(mine: Any, left: list[str]) -> None:
    users = (
        pod("one", nodeName="a1", **port(80)),
        pod("two", nodeName="a1", **port(90, hostIP="10.0.0.1")),
    )
    assert admitted(pod(**mine), node("a1"), node("b1"), pods=users) == left


@pytest.mark.parametrize(
    ("constraint", "left"),
    [
        (spread(), ["b1"]),
        (spread(skew=2), ["a1", "a2", "b1"]),
        (spread(HOST, skew=1), ["a2", "b1", "lost"]),
        (spread(minDomains=3), ["b1"]),
        (spread(minDomains=3, skew=2), ["a1", "a2", "b1"]),
        (spread(hard=False), ["a1", "a2", "b1", "lost"]),
        (spread(labelSelector={}), ["a1", "a2", "b1"]),
        (spread(labelSelector=None), ["a1", "a2", "b1"]),
    ],
)
def test_spread_keeps_domains_even(constraint: Any, left: list[str]) -> None:
    running = (labelled("x", "web", "a1"), labelled("y", "other", "b1"))
    new = labelled("new", "web", topologySpreadConstraints=[constraint])
    assert admitted(new, *ZONED, pods=running) == left


def test_spread_names_what_is_missing() -> None:
    new = labelled("new", "web", topologySpreadConstraints=[spread()])
    found = diagnosis(new, *ZONED[:2], ZONED[3], pods=(labelled("x", "web", "a1"),))
    assert found.reasons == (
        "1 node(s) didn't match pod topology spread constraints (missing required label)"
    )


@pytest.mark.parametrize(("policy", "left"), [("Honor", []), ("Ignore", ["a1"])])
def test_spread_may_leave_out_nodes_that_the_pod_cannot_use(policy: str, left: Any) -> None:
    # With zone b left out, zone a alone may grow without limit; counted, it stays behind.
    new = labelled(
        "new", "web", nodeSelector={ZONE: "a"},
        topologySpreadConstraints=[spread(nodeAffinityPolicy=policy)],
    )  # fmt: skip
    nodes = (ZONED[0], ZONED[2])
    running = (labelled("x", "web", "a1"),)
    assert admitted(new, *nodes, pods=running) == ([] if left else ["a1"])


def test_spread_does_not_count_pods_on_their_way_out_or_of_other_namespaces() -> None:
    leaving = labelled("x", "web", "a1")
    meta = msgspec.structs.replace(leaving.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    leaving = msgspec.structs.replace(leaving, metadata=meta)
    elsewhere = labelled("y", "web", "a1", namespace="else")
    new = labelled("new", "web", topologySpreadConstraints=[spread()])
    assert admitted(new, *ZONED[:3], pods=(leaving, elsewhere)) == ["a1", "a2", "b1"]


def test_pods_of_one_service_spread_by_default() -> None:
    service = {
        "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"selector": {"app": "web"}},
    }  # fmt: skip
    running = (labelled("x", "web", "a1"),)
    new = labelled("new", "web")
    assert scores("PodTopologySpread", new, *ZONED, pods=running) == []
    found = scores("PodTopologySpread", new, *ZONED, pods=running, others=(service,))
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize(
    ("affinity", "left"),
    [
        (near("podAffinity"), ["a1", "a2"]),
        (near("podAffinity", HOST), ["a1"]),
        (near("podAntiAffinity"), ["b1", "lost"]),
        (near("podAntiAffinity", HOST), ["a2", "b1", "lost"]),
        (near("podAffinity", selector={"matchLabels": {"app": "none"}}), []),
        (near("podAffinity", namespaces=["other"]), []),
        (near("podAffinity", namespaceSelector={}), ["a1", "a2"]),
        (near("podAffinity", namespaceSelector={"matchLabels": {"team": "x"}}), ["a1", "a2"]),
        (near("podAffinity", namespaceSelector={"matchLabels": {"team": "y"}}), []),
        (near("podAffinity", matchLabelKeys=["app"]), []),
        (near("podAffinity", mismatchLabelKeys=["app"]), ["a1", "a2"]),
    ],
)
def test_affinity_keeps_pods_together_or_apart(affinity: Any, left: list[str]) -> None:
    team = {"kind": "Namespace", "metadata": {"name": "default", "labels": {"team": "x"}}}
    new = labelled("new", "api", affinity=affinity)
    running = (labelled("x", "web", "a1"),)
    assert admitted(new, *ZONED, pods=running, others=(team,)) == left


def test_the_first_of_pods_that_want_each_other_may_go_anywhere_with_the_label() -> None:
    new = labelled("new", "web", affinity=near("podAffinity"))
    assert admitted(new, *ZONED) == ["a1", "a2", "b1"]


def test_running_pods_keep_away_whom_they_do_not_want() -> None:
    guard = labelled("x", "api", "a1", affinity=near("podAntiAffinity"))
    assert admitted(labelled("new", "web"), *ZONED, pods=(guard,)) == ["b1", "lost"]
    assert admitted(labelled("new", "db"), *ZONED, pods=(guard,)) == ["a1", "a2", "b1", "lost"]
    found = diagnosis(labelled("new", "web"), ZONED[0], pods=(guard,))
    assert found.reasons == "1 node(s) didn't satisfy existing pods anti-affinity rules"


def test_preferences_of_both_sides_score() -> None:
    friend = labelled("x", "api", "a1", affinity=near("podAffinity", weight=10))
    assert scores("InterPodAffinity", labelled("n", "web"), *ZONED, pods=(friend,)) == [
        100, 100, 0, 0,
    ]  # fmt: skip
    shy = labelled("n", "web", affinity=near("podAntiAffinity", HOST, weight=5))
    running = (labelled("x", "web", "a1"),)
    assert scores("InterPodAffinity", shy, *ZONED, pods=running) == [0, 100, 100, 100]


APPS = st.sampled_from(["web", "api"])
SELECTORS = st.sampled_from(
    [WEB, {"matchExpressions": [expression("app", "Exists")]},
     {"matchExpressions": [expression("app", "NotIn", "web")]}]
)  # fmt: skip
KEYS = st.sampled_from([ZONE, HOST])
TERMS = st.builds(lambda k, s: {"topologyKey": k, "labelSelector": s}, KEYS, SELECTORS)
AFFINITIES = st.fixed_dictionaries(
    {},
    optional={
        kind: st.lists(TERMS, min_size=1, max_size=2).map(
            lambda terms: {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        )
        for kind in ("podAffinity", "podAntiAffinity")
    },
)
CONSTRAINTS = st.builds(
    lambda k, s, skew, least: {
        "topologyKey": k, "labelSelector": s, "maxSkew": skew, "minDomains": least,
        "whenUnsatisfiable": "DoNotSchedule",
    },
    KEYS, SELECTORS, st.integers(1, 3), st.integers(1, 4),
)  # fmt: skip


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Json], list[Json]]:
    """Nodes in up to three zones, some in none, and pods on them."""
    zones = draw(st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=6))
    nodes = [
        node_json(f"n{i}", labels={ZONE: zone} if zone else {}) for i, zone in enumerate(zones)
    ]
    placed = []
    for index in range(draw(st.integers(0, 8))):
        home = draw(st.integers(0, len(nodes) - 1))
        placed.append(make(f"p{index}", draw(APPS), f"n{home}", affinity=draw(AFFINITIES)))
    return nodes, placed


def make(name: str, app: str, on: str = "", **spec: Any) -> Json:
    if on:
        spec["nodeName"] = on
    raw = pod_json(name, **spec)
    raw["metadata"] |= {"labels": {"app": app}, "uid": name}
    return raw


def fits(new: Json, nodes: list[Json], placed: list[Json]) -> dict[str, bool]:
    def pod_of(raw: Json) -> Pod:
        return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)

    made = [msgspec.convert(raw, Node) for raw in nodes]
    found = snapshot(*made, pods=tuple(map(pod_of, placed)))
    info = PodInfo.of(pod_of(new))
    result = Cycle(found).trial(Framework(Profile("gsch"), Matrix()), info)
    return dict(zip(found.names, result.feasible.tolist(), strict=True))


@settings(max_examples=300, deadline=None)
@given(clusters(), APPS, AFFINITIES, st.lists(CONSTRAINTS, max_size=2))
def test_arrays_say_what_a_walk_over_all_pods_says(
    cluster: tuple[list[Json], list[Json]], app: str, affinity: Json, constraints: list[Json]
) -> None:
    nodes, placed = cluster
    new = make("new", app, affinity=affinity, topologySpreadConstraints=constraints)
    apart = naive.affinity_refuses(new, nodes, placed)
    uneven = naive.spread_refuses(new, nodes, placed)
    expected = {name: not refused and not uneven.get(name) for name, refused in apart.items()}
    assert fits(new, nodes, placed) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), max_size=40))
def test_counts_kept_by_events_equal_a_recount(steps: list[tuple[int, int, bool]]) -> None:
    kept = snapshot(*(node(f"n{i}", labels={ZONE: f"z{i % 2}"}) for i in range(4)))
    there: dict[int, tuple[str, str]] = {}
    probe = labelled("probe", "web", topologySpreadConstraints=[spread(skew=9)],
                     affinity=near("podAntiAffinity", HOST))  # fmt: skip
    cycle, framework = Cycle(kept), Framework(Profile("gsch"), Matrix())
    for number, row, web in steps:
        cycle.trial(framework, PodInfo.of(probe))
        if number in there:
            kept.remove_pod(f"default/p{number}")
            del there[number]
        else:
            there[number] = f"n{row}", "web" if web else "api"
            kept.set_pod(labelled(f"p{number}", there[number][1], there[number][0]))
    fresh = snapshot(
        *(node(f"n{i}", labels={ZONE: f"z{i % 2}"}) for i in range(4)),
        pods=tuple(labelled(f"p{n}", app, on) for n, (on, app) in there.items()),
    )
    again = Cycle(fresh).trial(framework, PodInfo.of(probe))
    assert np.array_equal(cycle.trial(framework, PodInfo.of(probe)).feasible, again.feasible)


def test_images_that_are_there_already_draw_pods() -> None:
    def with_image(name: str, size: int) -> Node:
        raw = node_json(name)
        raw["status"]["images"] = [{"names": ["registry.example/big:1"], "sizeBytes": size}]
        return msgspec.convert(raw, Node)

    new = pod(containers=[{"name": "c", "image": "registry.example/big:1"}])
    nodes = (with_image("a", 2 * 10**9), node("b"))
    assert scores("ImageLocality", new, *nodes) == [95, 0]
    assert scores("ImageLocality", pod(), *nodes) == []


def test_a_pod_goes_to_kubelets_that_have_what_it_needs() -> None:
    raw = node_json("new")
    raw["status"]["declaredFeatures"] = ["UserNamespacesHostNetworkSupport"]
    nodes = (msgspec.convert(raw, Node), node("old"))
    wanting: Any = {"hostNetwork": True, "hostUsers": False}
    assert admitted(pod(**wanting), *nodes) == ["new"]
    found = diagnosis(pod(**wanting), nodes[1])
    assert found.reasons == "1 node(s) didn't match Pod's required features"


def test_services_are_read_into_the_snapshot_and_out_again() -> None:
    found = Snapshot()
    service = {
        "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"selector": {"app": "web"}},
    }  # fmt: skip
    put(found, "Service", read(service))
    assert found.default_selectors.selector(labelled("x", "web")) is not None
    assert found.default_selectors.selector(labelled("x", "api")) is None


def test_questions_are_forgotten_and_asked_anew_without_losing_count() -> None:
    """More questions than are kept at once, over pods that come and go in between."""
    found = snapshot(node("a"), node("b"))
    index = found.index

    def ask(number: int) -> list[int]:
        namespaces = frozenset((f"ns{number % 7}",)) if number % 3 else None
        selector = Selector((Requirement("app", "In", frozenset((f"x{number % 11}", "web"))),))
        nobody = (None, Selector((Requirement("n", "Exists", frozenset()),)))
        query = PodQuery(((namespaces, selector), nobody))
        assert index.count(query)[:2].tolist() == [0, 0]
        selector = Selector((Requirement("app", "In", frozenset(("web", str(number)))),))
        plain = PodQuery(((namespaces, selector),))
        counted: list[int] = index.count(plain)[:2].tolist()
        return counted

    for number in range(QUERIES_KEPT + 20):
        expected = 0 if number % 3 and number % 7 else 2
        name = f"p{number % 2}"
        found.set_pod(labelled("p0", "web", "a", namespace="ns0"))
        found.set_pod(labelled("p1", "web", "a", namespace="ns0"))
        assert ask(number) == [expected, 0], number
        found.remove_pod(f"ns0/{name}")
    assert ask(0) == [1, 0]
