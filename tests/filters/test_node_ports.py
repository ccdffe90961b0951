"""Host ports: what has to be free, and who would have to go."""

from typing import Any

import numpy as np
import pytest

from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from filters.common.plugin import PodInfo, Prepared
from filters.node_ports import NodePorts, Ports
from scheduler.preemption.removal import AllBelow
from tests.harness.make import node, pod, snapshot


def taking(name: str, *ports: Any, **spec: Any) -> Pod:
    return pod(name, containers=[{"name": "c", "ports": list(ports)}], **spec)


def prepared(new: Pod, found: Snapshot) -> tuple[NodePorts, Prepared[Ports]]:
    plugin = NodePorts()
    state = plugin.pre_filter(PodInfo.of(new), found)
    assert state is not None
    return plugin, state


def test_a_pod_without_host_ports_is_not_looked_at() -> None:
    found = snapshot(node("a"))
    assert NodePorts().pre_filter(PodInfo.of(taking("p", {"containerPort": 80})), found) is None


@pytest.mark.parametrize(
    ("port", "refused"),
    [
        ({"hostPort": 80}, [True, False]),
        ({"hostPort": 81}, [False, False]),
        ({"hostPort": 80, "protocol": "UDP"}, [False, False]),
        ({"hostPort": 80, "hostIP": "10.0.0.2"}, [False, False]),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, [True, False]),
    ],
)
def test_a_port_conflicts_by_protocol_number_and_address(port: Any, refused: list[bool]) -> None:
    there = taking("there", {"hostPort": 80, "hostIP": "10.0.0.1"}, nodeName="a")
    found = snapshot(node("a"), node("b"), pods=(there,))
    plugin, state = prepared(taking("new", port), found)
    assert (plugin.filter(state, found.view()) != 0).tolist() == refused


def test_without_lesser_pods_their_ports_are_free() -> None:
    found = snapshot(
        node("a"),
        node("b"),
        pods=(
            taking("low", {"hostPort": 80}, nodeName="a", priority=1),
            taking("high", {"hostPort": 80}, nodeName="b", priority=9),
        ),
    )
    plugin, state = prepared(taking("new", {"hostPort": 80}), found)
    removed = AllBelow(found, np.arange(2), 5)
    assert (plugin.filter(state, found.view()) != 0).tolist() == [True, True]
    assert (plugin.filter_without(state, found.view(), removed) != 0).tolist() == [False, True]


def test_the_ports_that_would_have_to_be_free_are_named() -> None:
    there = taking("there", {"hostPort": 80}, {"hostPort": 53, "protocol": "UDP"}, nodeName="a")
    found = snapshot(node("a"), node("b"), pods=(there,))
    new = taking("new", {"hostPort": 80}, {"hostPort": 53, "protocol": "UDP"}, {"hostPort": 9})
    plugin, state = prepared(new, found)
    assert [remedy.text for remedy in plugin.remedies(state, found, 0)] == [
        "host port 80/TCP free",
        "host port 53/UDP free",
    ]
    assert plugin.remedies(state, found, 1) == []
