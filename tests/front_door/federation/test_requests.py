"""Requests over HTTP, placed in two real clusters, each with a scheduler of its own."""

import time
from typing import Any

import pytest
import yaml

from tests.harness.kube import wait_for
from tests.harness.layer import Layer, Member, deployment, pod, pods_by_request
from tests.harness.make import pod_json

pytestmark = pytest.mark.lab


def test_a_request_runs_in_the_first_cluster_that_has_room(
    layer: Layer, clusters: list[Member]
) -> None:
    small, large = pod("small"), deployment("large", 4, cpu="2500m")
    first = layer.ended(layer.submit(small, clusters=["c1", "c2"]))
    assert (first["state"], first["attempts"][-1]["cluster"]) == ("completed", "c1")
    # Three nodes of 4 CPUs each take three of these and not four.
    beyond = layer.ended(layer.submit(large, clusters=["c1"]))
    assert beyond["state"] == "failed"
    assert "Insufficient cpu" in beyond["message"]
    assert pods_by_request(clusters) == {first["id"]: ["c1"]}


def test_pods_get_our_scheduler_a_config_and_labels_and_run_there(
    layer: Layer, clusters: list[Member]
) -> None:
    record = layer.ended(
        layer.submit(deployment("web", 2), clusters=["c2"], policy="GSelectedCluster")
    )
    assert record["state"] == "completed", record
    pods = clusters[1].kube.pods("default").values()
    assert {pod["spec"]["schedulerName"] for pod in pods} == {"gsch"}
    assert all(pod["spec"]["nodeName"].startswith("c2-") for pod in pods)
    (env,) = {v["value"] for p in pods for v in p["spec"]["containers"][0]["env"]}
    assert yaml.safe_load(env) == {"type": "local"}
    work = clusters[1].kube.get(f"/apis/federation.gsch.io/v1alpha1/works/{record['id']}")
    (reference,) = work["spec"]["objects"]
    assert (reference["kind"], reference["name"]) == ("Deployment", "web")
    assert work["spec"]["result"]["status"] == "success"


def test_cancelling_a_completed_request_removes_all_of_it(
    layer: Layer, clusters: list[Member]
) -> None:
    request_id = layer.submit(deployment("web", 2) + "---\n" + pod("beside"), clusters=["c1"])
    assert layer.ended(request_id)["state"] == "completed"
    layer.ok("DELETE", f"/requests/{request_id}")
    wait_for(lambda: layer.ok("GET", f"/requests/{request_id}")["state"] == "canceled")
    assert pods_by_request(clusters) == {}
    assert clusters[0].kube.items("/apis/apps/v1/namespaces/default/deployments") == []


def test_a_set_gets_its_copies_in_every_cluster(layer: Layer, clusters: list[Member]) -> None:
    record = layer.ended(
        layer.submit(deployment("every", 2), "GSetClusters", clusters=[["c1", "c2"]])
    )
    assert record["state"] == "completed", record
    assert sorted(pods_by_request(clusters)[record["id"]]) == ["c1", "c1", "c2", "c2"]


def test_a_divided_set_shares_its_pods_out(layer: Layer, clusters: list[Member]) -> None:
    record = layer.ended(
        layer.submit(
            deployment("shared", 6, cpu="1900m"),
            "GSetClusters",
            clusters=[["c1", "c2"]],
            replicaScheduling="Divided",
        )
    )
    assert record["state"] == "completed", record
    where = pods_by_request(clusters)[record["id"]]
    assert len(where) == 6
    assert set(where) == {"c1", "c2"}


def test_what_another_made_is_neither_taken_over_nor_removed(
    layer: Layer, clusters: list[Member]
) -> None:
    clusters[0].kube.create(pod_json("mine", {"cpu": "10m"}, scheduler="other"))
    record = layer.ended(layer.submit(pod("mine"), clusters=["c1", "c2"]))
    assert record["attempts"][0]["message"].startswith("Pod mine exists already")
    assert (record["state"], record["attempts"][-1]["cluster"]) == ("completed", "c2")
    assert clusters[0].kube.pod("default", "mine")["spec"]["schedulerName"] == "other"


def test_low_latency_from_a_cluster_alone_stays_in_it(layer: Layer, clusters: list[Member]) -> None:
    record = layer.ended(layer.submit(pod("near"), "GLowLatencyPriority", sourceCluster="c2"))
    assert (record["state"], record["attempts"][-1]["cluster"]) == ("completed", "c2")
    assert record["attempts"][-1]["rttMs"] == 0.0


def test_a_dry_run_ranks_clusters_and_makes_nothing(layer: Layer) -> None:
    body = {"yaml": pod("p", cpu="100"), "policy": "GMostRequestedPriority", "clusters": ["c1"]}
    record = layer.ok("POST", "/requests?dryRun=All", body)
    assert record["levels"] == [
        {"asked": [], "leftOut": {"c1": "no node has room: insufficient cpu"}}
    ]
    assert layer.ok("GET", "/requests")["items"] == []


def test_an_idempotency_key_makes_one_request(layer: Layer, clusters: list[Member]) -> None:
    body = {"yaml": pod("once"), "policy": "GMostRequestedPriority"}
    key = {"Idempotency-Key": "k1"}
    ids = {layer.ok("POST", "/requests", body, **key)["id"] for _ in range(3)}
    assert len(ids) == 1
    status, record = layer.call("POST", "/requests", body | {"fast": True}, **key)
    assert (status, "another body" in record["error"]["message"]) == (409, True)
    assert layer.ended(ids.pop())["state"] == "completed"
    assert len(pods_by_request(clusters)) == 1


BAD: list[tuple[dict[str, Any], str]] = [
    ({"yaml": "kind: Pod"}, "line 1: apiVersion is missing"),
    ({"yaml": "a: [1, 2"}, "no YAML: line 2, column 1"),
    ({"yaml": "- 1"}, "line 1: an object is expected, this is a list"),
    ({"yaml": ""}, "the YAML has no object"),
    ({"yaml": pod("Upper")}, "is no name"),
    ({"yaml": pod("p", cpu="1x")}, "1x"),
    ({"yaml": pod("p") + "---\n" + pod("p")}, "is there already, in line 1"),
    ({"yaml": pod("p", nodeName="n")}, "nodeName names a node"),
    ({"yaml": "apiVersion: v1\nkind: Node\nmetadata: {name: n}"}, "belongs to the cluster itself"),
    ({"yaml": "x" * (1 << 20) + "yz"}, "bytes, at most"),
    ({"policy": "GBest"}, "policy: 'GBest' is none"),
    ({"clusters": ["c9"]}, "no agent of a cluster 'c9' has reported; there are: c1, c2"),
    ({"clusters": ["c1", "c1"]}, "c1 is there twice"),
    ({"clusters": [["c1", ["c2"]]]}, "request body: Expected `str`"),
    ({"clusters": [[]]}, "a level is empty"),
    ({"surprise": 1}, "unknown field `surprise`"),
    ({"mode": "node", "node": "n"}, "mode node: GSelectedCluster with exactly one"),
    ({"sourceNode": "n"}, "sourceCluster: say in which cluster"),
    ({"acceptWithinSeconds": 0}, "acceptWithinSeconds"),
]


def test_bad_input_is_refused_with_what_is_wrong_and_where(layer: Layer) -> None:
    for fields, message in BAD:
        body: dict[str, Any] = {"yaml": pod("p"), "policy": "GMostRequestedPriority"}
        body.update(fields)
        status, record = layer.call("POST", "/requests", body)
        assert status == 400, (fields, record)
        assert message in record["error"]["message"], (fields, record)
    assert layer.call("POST", "/requests", b"{nonsense")[0] == 400
    assert layer.call("GET", "/requests/none")[0] == 404
    assert layer.ok("GET", "/requests")["items"] == []


def test_an_alias_bomb_is_refused_at_once(layer: Layer) -> None:
    levels = "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    started = time.monotonic()
    status, record = layer.call(
        "POST",
        "/requests",
        {"yaml": f"a: &a [x]\n{levels}", "policy": "GMostRequestedPriority"},
    )
    assert (status, "unfold to more than" in record["error"]["message"]) == (400, True)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 50_000 + "x", "a: &a [*a]"])
def test_yaml_that_no_reader_survives_is_refused_and_the_front_goes_on(
    layer: Layer, text: str
) -> None:
    body = {"yaml": text, "policy": "GMostRequestedPriority"}
    status, answer = layer.call("POST", "/requests", body)
    assert status == 400
    assert "nested more than 64 levels deep" in answer["error"]["message"]
    assert layer.ok("GET", "/clusters")["items"]


def test_a_request_brings_its_claim_to_a_cluster_that_has_the_volume(
    layer: Layer, clusters: list[Member]
) -> None:
    kube = clusters[1].kube
    amount = {"storage": "1Gi"}
    kube.create({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
        "spec": {"capacity": amount, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
                 "hostPath": {"path": "/data"}},
    })  # fmt: skip
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
                 "resources": {"requests": amount}},
    }  # fmt: skip
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    text = "---\n".join([yaml.safe_dump(claim), pod("stores", volumes=[volume])])

    def reported() -> bool:
        body = {"yaml": text, "policy": "GMostRequestedPriority", "clusters": [["c1", "c2"]]}
        (level,) = layer.ok("POST", "/requests?dryRun=All", body)["levels"]
        assert level["leftOut"]["c1"] == "it has no StorageClass manual"
        return [one["cluster"] for one in level["asked"]] == ["c2"]

    try:
        wait_for(reported)
        record = layer.ended(layer.submit(text, clusters=[["c1", "c2"]], keepClaims=False))
        assert record["state"] == "completed", record
        assert pods_by_request(clusters)[record["id"]] == ["c2"]
        layer.ok("DELETE", f"/requests/{record['id']}")
        wait_for(lambda: layer.ok("GET", f"/requests/{record['id']}")["state"] == "canceled")
        wait_for(lambda: not kube.items("/api/v1/namespaces/default/persistentvolumeclaims"))
    finally:
        kube.delete("/api/v1/persistentvolumes/disk")
