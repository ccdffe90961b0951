"""Policies that others bring: a package in the layer's processes, or an image with its workers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.front_door.federation.conftest import POLICY_NAMESPACE
from tests.harness.gs import GsWorker
from tests.harness.kube import wait_for
from tests.harness.layer import (
    Apart,
    Layer,
    Member,
    Servers,
    clear,
    deployment,
    pod,
    pods_by_request,
)
from tests.harness.make import Json
from tests.harness.plugins import install

pytestmark = pytest.mark.lab

CODE = """
from federation.policies import ClusterPolicy

class LastByName(ClusterPolicy):
    def filter_clusters(self, request, candidates):
        return {"c1": "is not liked"} if request.namespace == "edge" else {}

    def score_offer(self, request, offer):
        return float(ord(offer.cluster[-1]))

class Broken(ClusterPolicy):
    def score_offer(self, request, offer):
        return 1 / 0

    def score_clusters(self, request, candidates):
        return [1 / 0]
"""


@pytest.fixture
def layer(clusters: list[Member], tmp_path: Path) -> Iterator[Layer]:
    """The layer with a package of policies installed beside it."""
    packages = tmp_path / "packages"
    packages.mkdir()
    made = Layer(tmp_path, clusters)
    made.plugins = install(
        packages, "liked", CODE, "gsch.policies", GLastByName="LastByName", GBroken="Broken"
    )
    with made as running:
        yield running
    clear(clusters)


def test_an_installed_policy_chooses_the_cluster(layer: Layer, clusters: list[Member]) -> None:
    chosen = layer.ended(layer.submit(pod("liked"), "GLastByName", clusters=[["c1", "c2"]]))
    assert chosen["state"] == "completed", chosen
    assert pods_by_request(clusters) == {chosen["id"]: ["c2"]}
    listed = {one["name"]: one["kind"] for one in layer.ok("GET", "/policies")["items"]}
    assert (listed["GLastByName"], listed["GSetClusters"]) == ("plugin", "built-in")
    body = {"yaml": pod("x"), "policy": "GLastByName", "namespace": "edge"}
    (level,) = layer.ok("POST", "/requests?dryRun=All", body)["levels"]
    assert level["leftOut"] == {"c1": "is not liked"}


def test_a_broken_policy_fails_its_requests_and_no_other(layer: Layer) -> None:
    broken = layer.submit(pod("broken"), "GBroken", clusters=["c1"])
    wait_for(lambda: "ZeroDivisionError" in layer.ok("GET", f"/requests/{broken}")["message"])
    assert layer.ended(layer.submit(pod("fine"), clusters=["c1"]))["state"] == "completed"
    layer.ok("DELETE", f"/requests/{broken}")
    assert layer.ended(broken)["state"] == "canceled"


def _workers(**spec: Any) -> Json:
    """A Deployment of workers that keep what a restricted namespace asks for."""
    made: Json = yaml.safe_load(deployment("nearest-workers", 1))
    template = made["spec"]["template"]["spec"]
    template["securityContext"] = {
        "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    template["containers"][0]["securityContext"] = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    template |= {"schedulerName": "gsch", **spec}
    return made


@pytest.fixture(scope="module")
def policy_namespace(clusters: list[Member]) -> Iterator[str]:
    clusters[0].kube.create({"apiVersion": "v1", "kind": "Namespace",
                             "metadata": {"name": POLICY_NAMESPACE}})  # fmt: skip
    yield POLICY_NAMESPACE
    clusters[0].kube.delete(f"/api/v1/namespaces/{POLICY_NAMESPACE}")


@pytest.mark.needs("servers")
def test_a_registered_policy_s_workers_take_its_requests(
    apart: Apart, servers: Servers, clusters: list[Member], policy_namespace: str
) -> None:
    front, kube, image = apart.front, clusters[0].kube, "registry.example/nearest:1"
    path = f"/apis/apps/v1/namespaces/{policy_namespace}/deployments/nearest-workers"
    body = {"image": image, "deployment": yaml.safe_dump(_workers())}
    refused, record = front.call("POST", "/requests", {"yaml": pod("x"), "policy": "GNearest"})
    assert (refused, "'GNearest' is none: one of" in record["error"]["message"]) == (400, True)

    assert front.call("PUT", "/policies/GNearest", body)[0] == 201
    assert front.call("PUT", "/policies/GNearest", body)[0] == 200
    (container,) = kube.get(path)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    front.ok("PUT", "/policies/GNearest/workers", {"replicas": 2})
    pods = f"/api/v1/namespaces/{policy_namespace}/pods"
    wait_for(lambda: [p["status"].get("phase") for p in kube.items(pods)] == ["Running"] * 2)

    # What the image would do, by GS's routes and messages alone.
    request_id = front.submit(
        pod("by-nearest"), "GNearest", clusters=["c2"], sourceCluster="c2", sourceNode="c2-n0"
    )
    worker = GsWorker(front.url, servers.kafka.url)
    job = wait_for(lambda: worker.take("GNearest"))
    assert job["request_id"] == request_id
    assert asyncio.run(worker.place(job)) == "success"
    assert worker.report(request_id, "completed") == "completed"
    assert pods_by_request(clusters)[request_id] == ["c2"]

    # The Deployment comes back; the policy stays while it has requests that are not over.
    kube.delete(path)
    wait_for(lambda: [d for d in kube.items(path.rpartition("/")[0])
                      if d["metadata"]["name"] == "nearest-workers"])  # fmt: skip
    waiting = front.submit(pod("waits"), "GNearest", clusters=["c2"])
    status, record = front.call("DELETE", "/policies/GNearest")
    assert (status, record["error"]["message"]) == (
        409, "1 requests of policy GNearest are not finished: cancel them first"
    )  # fmt: skip
    front.ok("DELETE", f"/requests/{waiting}")
    front.ended(waiting)
    front.ok("DELETE", "/policies/GNearest")
    assert not kube.items(path.rpartition("/")[0])
    assert front.call("DELETE", "/policies/GNearest")[0] == 404
    wait_for(lambda: not kube.items(pods))


@pytest.mark.needs("servers")
def test_what_cannot_be_registered_is_refused_with_the_reason(
    apart: Apart, clusters: list[Member], policy_namespace: str
) -> None:
    kube = clusters[0].kube
    somebody = _workers()
    somebody["metadata"] |= {"name": "somebody-s", "namespace": policy_namespace}
    somebody["spec"]["replicas"] = 0
    kube.create(somebody)
    taken = _workers()
    taken["metadata"]["name"] = "somebody-s"
    no_selector = _workers()
    del no_selector["spec"]["selector"]
    for name, made, status, words in (
        ("GSetClusters", _workers(), 409, "is built in"),
        ("Two-Words", _workers(), 400, "letters and digits"),
        ("GOther", taken, 409, "is there already, and of no policy of this name"),
        ("GOther", no_selector, 422, "spec.selector: Required value"),
        ("GOther", {"apiVersion": "v1", "kind": "Pod"}, 400, "line 1"),
    ):
        body = {"image": "i", "deployment": yaml.safe_dump(made)}
        answer = apart.front.call("PUT", f"/policies/{name}", body)
        assert (answer[0], words in answer[1]["error"]["message"]) == (status, True), answer
    listed = {one["kind"] for one in apart.front.ok("GET", "/policies")["items"]}
    assert listed == {"built-in"}, "nothing half registered"
