"""Nodes that hold a pod's images already are preferred (upstream's formula)."""

from typing import Any

import msgspec
import pytest

from cluster.objects.core import Node
from tests.harness.make import node, node_json, pod
from tests.harness.objects import scores

MB = 1024 * 1024


def holding(name: str, **images: int) -> Node:
    raw = node_json(name)
    raw["status"]["images"] = [
        {"names": [f"r.example/{image}:latest"], "sizeBytes": size}
        for image, size in images.items()
    ]
    return msgspec.convert(raw, Node)


def asking(*images: str, init: tuple[str, ...] = (), volumes: tuple[str, ...] = ()) -> Any:
    containers = [{"name": f"c{i}", "image": image} for i, image in enumerate(images)]
    more: Any = {"initContainers": [{"name": f"i{i}", "image": n} for i, n in enumerate(init)]}
    if volumes:
        more["volumes"] = [
            {"name": f"v{i}", "image": {"reference": n}} for i, n in enumerate(volumes)
        ]
    return pod(containers=containers, **more)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # On one of two nodes half of the size counts, from 23 MB to 1000 MB.
        (46 * MB, 0),
        (2 * 23 * MB + 2 * 977 * MB // 2, 50),
        (2000 * MB, 100),
        (9000 * MB, 100),
        (0, 0),
    ],
)
def test_the_larger_the_images_that_are_there_the_better(size: int, expected: int) -> None:
    new = asking("r.example/app")
    assert scores("ImageLocality", new, holding("a", app=size), node("b")) == [expected, 0]


def test_images_of_init_containers_and_volumes_count_too() -> None:
    a, b = holding("a", init=1000 * MB, data=1046 * MB), holding("b")
    # 500 + 523 MB of at most 2000 MB, for two containers: (1023 - 23) of 1977 MB.
    new = asking("r.example/app", init=("r.example/init",), volumes=("r.example/data",))
    assert scores("ImageLocality", new, a, b) == [50, 0]


@pytest.mark.parametrize(
    ("image", "there"),
    [
        ("r.example/app", True),
        ("r.example/app:latest", True),
        ("r.example/app:2", False),
        ("app", False),
        # The colon of a port is none of a tag.
        ("r.example:5000/app", False),
    ],
)
def test_an_image_without_a_tag_is_the_latest(image: str, there: bool) -> None:
    found = scores("ImageLocality", asking(image), holding("a", app=2000 * MB), node("b"))
    assert found == ([100, 0] if there else [])
