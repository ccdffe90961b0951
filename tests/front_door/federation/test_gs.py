"""Workers and fronts of GS, by their own routes and messages alone."""

import asyncio
import json
import urllib.error
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from tests.harness.gs import GsWorker, post_form
from tests.harness.kube import wait_for
from tests.harness.layer import (
    Apart,
    Member,
    Servers,
    clear,
    deployment,
    pod,
    pods_by_request,
)

pytestmark = [pytest.mark.lab, pytest.mark.needs("servers")]


def test_a_worker_of_gs_takes_a_request_and_has_our_agents_carry_it_out(
    apart: Apart, servers: Servers, clusters: list[Member]
) -> None:
    worker = GsWorker(apart.front.url, servers.kafka.url)
    wait_for(lambda: worker.take("GLowLatencyPriority") is None)
    fields = {
        "select_clusters": "['c2', ['c1']]",
        "mode": "fromnode",
        "source_cluster": "c2",
        "source_node": "c2-n0",
        "fast_option": "true",
    }
    made = post_form(f"{apart.front.url}/GEP/GSCH/test/low", fields, pod("of-gs"))
    request_id = made["result"].removeprefix("request_id:")
    job = wait_for(lambda: worker.take("GLowLatencyPriority"))
    assert job["request_id"] == request_id
    assert job["env"]["option"]["parameters"]["source_node"] == "c2-n0"
    assert asyncio.run(worker.place(job)) == "success"
    assert worker.report(request_id, "completed") == "completed"
    assert worker.status(request_id) == "completed"
    assert pods_by_request(clusters) == {request_id: ["c2"]}
    # Ours again once the worker of GS asks no more; what it made is removed with the request.
    apart.front.ok("DELETE", f"/requests/{request_id}")
    wait_for(lambda: not pods_by_request(clusters))


def test_a_front_of_gs_has_our_agents_read_its_yaml_from_redis(
    apart: Apart, servers: Servers, clusters: list[Member]
) -> None:
    request_id, file_id = f"req-{uuid.uuid4()}", str(uuid.uuid4())
    redis = Redis.from_url(servers.redis.url)
    redis.hset("gedge-gsch-request-yaml", file_id, deployment("of-gs-front", 2))
    worker = GsWorker(apart.front.url, servers.kafka.url)
    older = {
        "requestID": request_id, "fileID": file_id, "failCnt": 0, "status": "create",
        "env": {"type": "global", "priority": "GMostRequestedPriority",
                "targetClusters": ["c1"], "option": {"sourceCluster": "c1"}},
    }  # fmt: skip

    async def converse() -> list[Any]:
        async with worker.conversation(request_id) as send:
            common = {"request_id": request_id}
            best = await send("c1", 300, {**common, "GPUFilter": "unnecessary"})
            none = await send("c1", "0x012c", {**common, "GPUFilter": "necessary"})
            order = {**common, "file_id": file_id, "request_data": json.dumps(older)}
            applied = await send("c1", 310, order)
            again = await send("c1", 310, order)
            where = {"namespace_name": "default", "pod_name": "none"}
            missing = await send("c1", 530, {**common, "method": "read", "parameters": where})
            project = {"workspace_uid": "u1", "project_name": "p1"}
            made = await send("c1", 520, {**common, "method": "create", "parameters": project})
            deleted = await send("c1", 520, {**common, "method": "delete", "parameters": project})
            return [best, none, applied, again, missing, made, deleted]

    best, none, applied, again, missing, made, deleted = asyncio.run(converse())
    assert (best["cluster_name"], best["node_name"][:4]) == ("c1", "c1-n")
    assert none["node_name"] == ""
    assert (applied, again) == ("success", "success")
    assert pods_by_request(clusters) == {request_id: ["c1", "c1"]}
    assert (missing["status"], "not found" in missing["error_msg"]) == ("fail", True)
    assert (made["status"], deleted["status"]) == ("success", "success")
    clear(clusters)


def test_a_message_that_nobody_can_read_is_set_aside_and_shown(
    apart: Apart, servers: Servers
) -> None:
    bodies = [
        b"{",
        b'{"hcode": "0xzz", "lcode": 1}',
        b'{"hcode": 999, "lcode": 1, "msg": {}}',
        b'{"hcode": 300, "lcode": 1, "version": 2, "msg": {"request_id": "of-version-2"}}',
    ]

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=servers.kafka.url)
        await producer.start()
        for body in bodies:
            await producer.send_and_wait("c1", body)
        await producer.stop()

    asyncio.run(send())

    def problems() -> list[str]:
        items = apart.front.ok("GET", "/set-aside")["items"]
        return [f"{item['problem']} {item['body']}" for item in items]

    wait_for(lambda: len(problems()) >= len(bodies))
    for words in ("0xzz", "version 2 is not known here, 1 is"):
        assert any(words in one for one in problems()), problems()
    # The agent goes on.
    assert apart.front.ended(apart.front.submit(pod("on"), clusters=["c1"]))["state"] == "completed"


def test_an_unknown_code_is_answered_with_an_error(apart: Apart, servers: Servers) -> None:
    request_id = f"req-{uuid.uuid4()}"
    worker = GsWorker(apart.front.url, servers.kafka.url)

    async def converse() -> Any:
        async with worker.conversation(request_id) as send:
            return await send("c1", 999, {"request_id": request_id})

    assert asyncio.run(converse()) == "error"


BAD_FORMS = [
    ("low", {"select_clusters": "['c1',"}, 400, "is no list"),
    ("low", {"select_clusters": "[['c1', ['c2']]]"}, 400, "lists of names"),
    ("low", {"select_clusters": "['c9']"}, 400, "no agent of a cluster"),
    ("low", {"mode": "sideways"}, 400, "mode: 'sideways' is none"),
    ("best", {}, 404, "there is no form 'best'"),
]


@pytest.mark.parametrize(("form", "fields", "status", "message"), BAD_FORMS)
def test_bad_forms_are_refused_in_gs_s_shape(
    apart: Apart, form: str, fields: dict[str, str], status: int, message: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post_form(f"{apart.front.url}/GEP/GSCH/test/{form}", fields, pod("p"))
    assert caught.value.code == status
    error = json.loads(caught.value.read())["Error"]
    assert error["ErrorCode"].endswith("Exception")
    assert message in error["Message"]


def test_clusters_nodes_and_services_of_the_platform_are_shown(
    apart: Apart, clusters: list[Member]
) -> None:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{apart.front.url}{path}", timeout=60) as reply:
            return json.loads(reply.read())["result"]

    def refused(path: str) -> tuple[int, str]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(path)
        problem = json.loads(caught.value.read())
        return caught.value.code, problem.get("Error", {}).get("Message", problem)

    assert {one["cluster_name"] for one in get("/GEP/INFO/clusters")} == {"c1", "c2"}
    nodes = wait_for(lambda: get("/GEP/INFO/clusters/c2/nodes"))
    assert [one["node_name"] for one in nodes] == ["c2-n0", "c2-n1", "c2-n2"]
    assert nodes[0] | {"ip": ""} == {
        "node_name": "c2-n0", "node_type": "worker", "status": "ready", "ip": "", "cpu": 4000,
        "memory": nodes[0]["memory"], "nvidia.com/gpu": 0,
    }  # fmt: skip
    assert get("/GEP/INFO/clusters/c2/nodes?nodetype=gpu") == []
    assert get("/GEP/INFO/clusters/c2/nodes/c2-n1") == nodes[1]
    record = apart.front.ok("GET", "/clusters/c1/nodes")
    assert (record["count"], record["items"][2]["name"]) == (3, "c1-n2")
    assert refused("/GEP/INFO/clusters/c9/nodes") == (404, "there is no cluster 'c9'")
    assert refused("/GEP/INFO/clusters/c1/nodes/x")[0] == 404
    assert refused("/GEP/INFO/clusters/c1/nodes?nodetype=big")[0] == 400

    clusters[0].kube.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "broker", "namespace": "default"},
            "spec": {"externalIPs": ["192.0.2.7"], "ports": [{"name": "kafka", "port": 9092}]},
        }
    )
    for prefix in ("", "/GEP/INFO"):
        service = get(f"{prefix}/platformServices/namespaces/default/services/broker")
        assert (service["address"], service["port"]) == ("192.0.2.7", 9092)
    clusters[0].kube.delete("/api/v1/namespaces/default/services/broker")
    gone = refused("/platformServices/namespaces/default/services/broker")
    assert (gone[0], "there is no Service broker" in str(gone[1])) == (404, True)
    assert refused("/platformServices/namespaces/default/services/..%2Fpods")[0] == 404
