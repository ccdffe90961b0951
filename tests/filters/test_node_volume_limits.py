"""How many volumes a node can attach."""

from typing import Any

import pytest

from tests.harness.make import node, pod
from tests.harness.objects import admitted
from tests.harness.volumes import claim, volume


def limit(name: str, count: int) -> Any:
    driver = {"name": "d", "nodeID": name, "allocatable": {"count": count}}
    return {"kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": [driver]}}


def bound(number: int, driver: str = "d") -> list[Any]:
    csi: Any = {"csi": {"driver": driver, "volumeHandle": f"h{number}"}}
    return [claim(name=f"c{number}", volumeName=f"pv{number}"), volume(f"pv{number}", **csi)]


def mounting(*numbers: int) -> Any:
    return {
        "volumes": [
            {"name": f"v{i}", "persistentVolumeClaim": {"claimName": f"c{n}"}}
            for i, n in enumerate(numbers)
        ]
    }


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ((0,), ["two", "free"]),
        # One of them is on the first node already; two more are one too many.
        ((0, 9), ["two", "free"]),
        ((9,), ["full", "two", "free"]),
        ((0, 1, 2), ["free"]),
        # A claim that is mounted twice is one volume.
        ((0, 0, 1, 1), ["two", "free"]),
    ],
)
def test_only_volumes_that_are_new_to_a_node_count(wanted: Any, left: list[str]) -> None:
    objects = [raw for number in (0, 1, 2, 9) for raw in bound(number)]
    nodes = node("full"), node("two"), node("free")
    user = pod("user", nodeName="full", **mounting(9))
    found = admitted(
        pod(**mounting(*wanted)),
        *nodes,
        pods=(user,),
        others=(limit("full", 1), limit("two", 2), *objects),
    )
    assert found == left


def test_a_driver_without_a_limit_attaches_any_number() -> None:
    objects = [raw for number in range(3) for raw in bound(number, "other")]
    assert admitted(pod(**mounting(0, 1, 2)), node("a"), others=(limit("a", 1), *objects)) == ["a"]
