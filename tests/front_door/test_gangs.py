"""Pods of a PodGroup are placed together or not at all: on an API server that has the alpha API."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lab import binaries
from lab.cluster import LabCluster, Options
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch

pytestmark = pytest.mark.lab

GATES = {"GenericWorkload": True, "GangScheduling": True}
API = "kube-apiserver=runtime-config=scheduling.k8s.io/v1alpha2=true"


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    """A control plane with PodGroups, two nodes of two cpus, and gsch."""
    binaries.ensure()
    cluster = LabCluster(f"gangs-{os.getpid()}")
    cluster.up(Options(bare=True, feature_gates=GATES, extra_args=[API]))
    try:
        kube = Kube(cluster.kubeconfig)
        kube.create(node_json("a", cpu="2"), node_json("b", cpu="2"))
        folder: Path = tmp_path_factory.mktemp("gangs")
        with Gsch(folder, cluster.kubeconfig):
            yield kube
    finally:
        cluster.down()


def group(name: str, least: int) -> Json:
    return {
        "apiVersion": "scheduling.k8s.io/v1alpha2",
        "kind": "PodGroup",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": least}}},
    }


def member(name: str, gang: str, cpu: str = "1") -> Json:
    return pod_json(name, {"cpu": cpu}, schedulingGroup={"podGroupName": gang})


def bound(kube: Kube, prefix: str) -> list[str]:
    pods = kube.pods("default")
    return [n for n, p in pods.items() if n.startswith(prefix) and p["spec"].get("nodeName")]


def refused_together(kube: Kube, name: str) -> str:
    """The pod's message, once it speaks of the whole gang."""
    message: str = kube.refusal("default", name)["message"]
    return message if "at once" in message else ""


def clear(kube: Kube) -> None:
    kube.delete("/api/v1/namespaces/default/pods")
    wait_for(lambda: not kube.pods("default"))


def test_a_gang_waits_for_its_group_and_its_members(alpha: Kube) -> None:
    alpha.create(member("early-0", "early"))
    assert "waiting for pods's pod group" in alpha.refusal("default", "early-0")["message"]
    alpha.create(group("early", 2))
    waiting = "waiting for minCount pods from a gang to appear in scheduling queue"
    wait_for(lambda: alpha.refusal("default", "early-0")["message"] == waiting)
    alpha.create(member("early-1", "early"))
    wait_for(lambda: len(bound(alpha, "early")) == 2)
    # One that comes later has its gang there already.
    alpha.create(member("early-2", "early"))
    wait_for(lambda: len(bound(alpha, "early")) == 3)
    clear(alpha)


def test_a_gang_that_does_not_fit_takes_no_room(alpha: Kube) -> None:
    alpha.create(group("large", 5), *(member(f"large-{i}", "large") for i in range(5)))
    for number in range(5):
        message = wait_for(partial(refused_together, alpha, f"large-{number}"))
        assert "gang default/large needs 5 pods at once and 4 fit" in message
    assert bound(alpha, "large") == []
    # All four cpus are free for others, and the gang comes in when there is room for all of it.
    alpha.create(*(pod_json(f"single-{i}", {"cpu": "1"}) for i in range(4)))
    wait_for(lambda: len(bound(alpha, "single")) == 4)
    alpha.create(node_json("c", cpu="8"))
    wait_for(lambda: len(bound(alpha, "large")) == 5)
    alpha.delete("/api/v1/nodes/c")
    clear(alpha)


def test_two_gangs_never_hold_halves_of_the_same_room(alpha: Kube) -> None:
    alpha.create(group("red", 3), group("blue", 3))
    for number in range(3):
        alpha.create(member(f"red-{number}", "red"), member(f"blue-{number}", "blue"))
    wait_for(lambda: len(bound(alpha, "red")) + len(bound(alpha, "blue")) == 3)
    assert sorted([len(bound(alpha, "red")), len(bound(alpha, "blue"))]) == [0, 3]
    clear(alpha)
