"""Counts of pods that are thought away, against those of a snapshot without them."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.objects.core import Pod
from cluster.objects.label_selectors import equal_to
from cluster.state.host_ports import HostPort
from cluster.state.pod_index import PodQuery
from cluster.state.pod_terms import terms_of
from cluster.state.snapshot import Snapshot
from scheduler.preemption.removal import AllBelow, Removal
from tests.harness.make import labelled, node, pod, snapshot

PORT = HostPort("TCP", 80, "0.0.0.0")  # noqa: S104
QUERY = PodQuery(((frozenset({"default"}), equal_to({"app": "web"})),))
AFFINITY: Any = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}
        ]
    }
}
(TERM,) = terms_of(pod(affinity=AFFINITY))
ROWS = 3

SPECS = st.tuples(
    st.integers(0, ROWS - 1),
    st.sampled_from([0, 5, 9]),
    st.sampled_from(["web", "db"]),
    st.sampled_from([(), ("80",), ("80", "81")]),
    st.booleans(),
)


def placed(number: int, spec: Any) -> Pod:
    row, priority, app, ports, keeps_away = spec
    containers = [
        {
            "name": "main",
            "resources": {"requests": {"cpu": f"{number + 1}m"}},
            "ports": [{"hostPort": int(port)} for port in ports],
        }
    ]
    more = {"affinity": AFFINITY} if keeps_away else {}
    found = pod(f"p{number}", nodeName=f"n{row}", priority=priority, containers=containers, **more)
    return labelled(found, app=app)


def cluster(specs: list[Any]) -> Snapshot:
    pods = tuple(placed(number, spec) for number, spec in enumerate(specs))
    return snapshot(*(node(f"n{row}") for row in range(ROWS)), pods=pods)


def expected(found: Snapshot, specs: list[Any], gone: set[int]) -> dict[str, list[int]]:
    """What the removed pods add up to, pod by pod."""
    sums = {kind: [0] * ROWS for kind in ("cpu", "pods", "query", "term", "port")}
    for number in gone:
        row, _, app, ports, keeps_away = specs[number]
        sums["cpu"][row] += number + 1
        sums["pods"][row] += 1
        sums["query"][row] += app == "web"
        sums["term"][row] += keeps_away
        sums["port"][row] += "80" in ports
    return sums


def told(removed: Removal | AllBelow) -> dict[str, list[int]]:
    return {
        "cpu": removed.requested("cpu").tolist(),
        "pods": removed.requested("pods").tolist(),
        "query": removed.matching(QUERY).tolist(),
        "term": removed.with_term(TERM).tolist(),
        "port": removed.with_port(PORT).tolist(),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(SPECS, max_size=8), st.lists(st.integers(0, 7), max_size=20), st.integers(0, 20))
def test_pods_that_are_removed_and_put_back_add_up(
    specs: list[Any], toggles: list[int], ask_after: int
) -> None:
    found = cluster(specs)
    removal, gone = Removal(range(ROWS)), set[int]()
    for step, number in enumerate(n for n in toggles if n < len(specs)):
        if step == ask_after:
            told(removal)
        record = found.pods[f"default/p{number}"]
        if number in gone:
            removal.put_back(specs[number][0], record)
        else:
            removal.remove(specs[number][0], record)
        gone ^= {number}
    assert told(removal) == expected(found, specs, gone)
    assert removal.requested("never/asked").tolist() == [0] * ROWS


@settings(max_examples=60, deadline=None)
@given(st.lists(SPECS, max_size=8), st.sampled_from([0, 5, 6, 99]))
def test_all_pods_below_a_priority_add_up(specs: list[Any], priority: int) -> None:
    found = cluster(specs)
    below = {number for number, spec in enumerate(specs) if spec[1] < priority}
    removed = AllBelow(found, np.arange(ROWS), priority)
    assert told(removed) == expected(found, specs, below)
