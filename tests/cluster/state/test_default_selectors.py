"""Which pods belong together by default, as upstream's DefaultSelector has it."""

from typing import Any

import msgspec
import pytest

from cluster.objects.core import OwnerReference, Pod
from cluster.objects.label_selectors import NOTHING, Selector, equal_to
from cluster.state.default_selectors import DefaultSelectors
from tests.harness.make import labelled, pod


def owned(kind: str, version: str, controller: bool = True, **labels: str) -> Pod:
    found = labelled(pod("p"), **labels)
    owner = OwnerReference(version, kind, "owner", "uid", controller)
    meta = msgspec.structs.replace(found.metadata, owner_references=[owner])
    return msgspec.structs.replace(found, metadata=meta)


def test_a_pod_that_nothing_selects_belongs_to_nothing() -> None:
    assert DefaultSelectors().selector(labelled(pod(), app="web")) is None


def test_selectors_of_all_services_of_the_pod_count_together() -> None:
    found = DefaultSelectors()
    found.set_service("default", "web", {"app": "web"})
    found.set_service("default", "front", {"tier": "front"})
    found.set_service("default", "other", {"app": "db"})
    found.set_service("elsewhere", "web", {"team": "x"})
    mine = labelled(pod(), app="web", tier="front", team="x")
    assert found.selector(mine) == equal_to({"app": "web", "tier": "front"})


def test_a_service_that_is_gone_selects_nothing_any_more() -> None:
    found = DefaultSelectors()
    found.set_service("default", "web", {"app": "web"})
    found.set_service("default", "more", {"app": "web"})
    found.set_service("default", "web", None)
    assert found.service("default", "web") is None
    assert found.service("default", "more") == {"app": "web"}
    found.set_service("default", "more", None)
    found.set_service("default", "never-there", None)
    assert found.selector(labelled(pod(), app="web")) is None


@pytest.mark.parametrize(
    ("kind", "version", "controller", "selector", "expected"),
    [
        ("ReplicaSet", "apps/v1", True, {"hash": "1"}, {"hash": "1"}),
        ("StatefulSet", "apps/v1", True, {"hash": "1"}, {"hash": "1"}),
        ("ReplicationController", "v1", True, {"hash": "1"}, {"hash": "1"}),
        # An owner that only looks like one of those, or does not control the pod.
        ("ReplicaSet", "extensions/v1beta1", True, {"hash": "1"}, None),
        ("ReplicaSet", "apps/v1", False, {"hash": "1"}, None),
        ("Job", "batch/v1", True, {"hash": "1"}, None),
        ("ReplicaSet", "apps/v1", True, None, None),
    ],
)
def test_pods_of_one_controller_belong_together(
    kind: str, version: str, controller: bool, selector: Any, expected: Any
) -> None:
    found = DefaultSelectors()
    found.set_controller(kind, "default", "owner", equal_to(selector) if selector else None)
    mine = owned(kind, version, controller, hash="1")
    assert found.selector(mine) == (equal_to(expected) if expected else None)


def test_a_controller_narrows_what_services_say() -> None:
    found = DefaultSelectors()
    found.set_service("default", "web", {"app": "web"})
    found.set_controller("ReplicaSet", "default", "owner", equal_to({"hash": "1"}))
    mine = owned("ReplicaSet", "apps/v1", app="web", hash="1")
    assert found.selector(mine) == equal_to({"app": "web", "hash": "1"})
    found.set_controller("ReplicaSet", "default", "owner", None)
    assert found.selector(mine) == equal_to({"app": "web"})


def test_a_controller_that_selects_nothing_leaves_the_services_word() -> None:
    found = DefaultSelectors()
    found.set_service("default", "web", {"app": "web"})
    nothing: Selector = NOTHING
    found.set_controller("ReplicaSet", "default", "owner", nothing)
    mine = owned("ReplicaSet", "apps/v1", app="web")
    assert found.selector(mine) == equal_to({"app": "web"})
