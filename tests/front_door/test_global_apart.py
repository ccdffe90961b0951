"""The layer as processes of their own over Kafka, PostgreSQL and Redis, in two real clusters."""

import asyncio
import json
import threading
import urllib.error
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from lab.backing import Backing
from tests.front_door.test_global import deployment, pod
from tests.harness.gs import GsWorker, post_form
from tests.harness.kube import wait_for
from tests.harness.layer import Apart, Member, Part, Servers, clear, members, pods_by_request
from tests.harness.proxy import Toxiproxy

pytestmark = [pytest.mark.lab, pytest.mark.needs("servers")]


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    with members(tmp_path_factory.mktemp("members"), "c1", "c2") as made:
        yield made


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(proxied=1) as running:
        yield running


@pytest.fixture(scope="module")
def kafka_of_c1(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toxiproxy]:
    """What lies between the agent of c1 and Kafka."""
    (listen, proxy) = servers.kafka.proxied[0]
    folder = tmp_path_factory.mktemp("proxy")
    with Toxiproxy(folder, f"127.0.0.1:{listen}", f"127.0.0.1:{proxy}") as running:
        yield running


@pytest.fixture(scope="module")
def running(
    clusters: list[Member],
    servers: Servers,
    kafka_of_c1: Toxiproxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("layer")
    through = {"c1": kafka_of_c1.listen}
    with Apart(folder, clusters, servers, through, legacy=True) as layer:
        yield layer


@pytest.fixture
def layer(running: Apart, clusters: list[Member]) -> Iterator[Apart]:
    yield running
    for found in running.front.ok("GET", "/requests?limit=500")["items"]:
        if found["state"] != "canceled":
            running.front.ok("DELETE", f"/requests/{found['id']}")
    wait_for(lambda: not pods_by_request(clusters))
    clear(clusters)


def test_a_request_goes_through_kafka_and_postgresql(layer: Apart, clusters: list[Member]) -> None:
    found = layer.front.ended(layer.front.submit(deployment("web", 3), clusters=[["c1", "c2"]]))
    assert found["state"] == "completed", found
    assert len(pods_by_request(clusters)[found["id"]]) == 3


def test_the_agent_that_stands_by_goes_on_where_the_other_was_killed(
    layer: Apart, clusters: list[Member]
) -> None:
    first = layer.agents["c2"]
    with layer.agent("c2", "agent-c2-again") as second:
        second.wait_for_log("waiting for the lease")
        first.kill()
        found = layer.front.ended(layer.front.submit(pod("after"), clusters=["c2"]))
        assert found["state"] == "completed", found
        assert second.lines("agent works")
        assert pods_by_request(clusters) == {found["id"]: ["c2"]}
    first.start()
    layer.front.wait_for_heard("c2")


def test_every_request_runs_once_while_each_part_is_killed_in_turn(
    layer: Apart, servers: Servers, clusters: list[Member]
) -> None:
    """kill -9 of front, worker, agent, Kafka, Redis and PostgreSQL, while requests come in."""
    kills: list[Callable[[], None]] = [
        partial(_again, layer.front),
        partial(_again, layer.workers[0]),
        partial(_again, layer.agents["c1"]),
        partial(_again, servers.kafka),
        partial(_again, servers.redis),
        partial(_again, servers.postgres),
    ]
    ids: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        for number, kill in enumerate(kills):
            done = pool.submit(kill)
            for one in range(8):
                name = f"p{number}-{one}"
                ids.append(_submit_surely(layer, name))
            done.result()
    ended = [layer.front.ended(request_id, 300) for request_id in ids]
    assert {found["state"] for found in ended} == {"completed"}, ended
    where = pods_by_request(clusters)
    assert {request_id: len(where[request_id]) for request_id in ids} == dict.fromkeys(ids, 1)
    assert len(where) == len(ids)


def test_a_copy_is_stopped_in_a_cluster_that_is_cut_off_before_another_starts(
    layer: Apart, clusters: list[Member], kafka_of_c1: Toxiproxy
) -> None:
    moved = layer.front.submit(pod("moved"), clusters=["c1", "c2"], clusterLost="stop-and-move")
    kept = layer.front.submit(pod("kept"), clusters=["c1", "c2"])
    for request_id in (moved, kept):
        assert layer.front.ended(request_id)["state"] == "completed"
    with _sampled(clusters) as samples:
        kafka_of_c1.enable(False)
        wait_for(lambda: pods_by_request(clusters)[moved] == ["c2"], 240)
        kafka_of_c1.enable(True)
        layer.front.wait_for_heard("c1")
    assert max(samples[moved]) == 1
    assert 0 in samples[moved]
    assert set(samples[kept]) == {1}
    assert pods_by_request(clusters)[kept] == ["c1"]


def test_a_copy_that_was_stopped_in_vain_starts_again(
    layer: Apart, clusters: list[Member], kafka_of_c1: Toxiproxy
) -> None:
    """The cluster is back before the layer gives it up: the layer has to hear of what stopped."""
    request_id = layer.front.submit(pod("again"), clusters=["c1"], clusterLost="stop-and-move")
    assert layer.front.ended(request_id)["state"] == "completed"
    with _sampled(clusters) as samples:
        kafka_of_c1.enable(False)
        wait_for(lambda: not pods_by_request(clusters))
        kafka_of_c1.enable(True)
        wait_for(lambda: pods_by_request(clusters)[request_id] == ["c1"])
        found = layer.front.ended(request_id)
    assert found["state"] == "completed"
    assert any("stopped while" in attempt["message"] for attempt in found["attempts"])
    assert max(samples[request_id]) == 1


def test_a_request_that_moves_is_never_without_a_copy_for_long_and_the_old_one_goes(
    layer: Apart, clusters: list[Member], kafka_of_c1: Toxiproxy
) -> None:
    moved = layer.front.submit(pod("moved"), clusters=["c1", "c2"], clusterLost="move")
    assert layer.front.ended(moved)["state"] == "completed"
    with _sampled(clusters) as samples:
        kafka_of_c1.enable(False)
        wait_for(lambda: sorted(pods_by_request(clusters)[moved]) == ["c1", "c2"], 120)
        assert layer.front.ended(moved)["state"] == "completed"
        kafka_of_c1.enable(True)
        wait_for(lambda: pods_by_request(clusters)[moved] == ["c2"])
    assert min(samples[moved]) == 1


def _again(part: Part | Backing) -> None:
    part.kill()
    part.start()


def _submit_surely(layer: Apart, name: str) -> str:
    """As a client does it: with a key, again until it is answered."""
    body = {"yaml": pod(name), "policy": "GMostRequestedPriority", "clusters": [["c1", "c2"]]}

    def attempt() -> str | None:
        try:
            status, found = layer.front.call("POST", "/requests", body, **{"Idempotency-Key": name})
        except (OSError, IndexError):
            return None
        assert status in (201, 503), found
        return str(found["id"]) if status == 201 else None

    return wait_for(attempt)


@contextmanager
def _sampled(clusters: list[Member]) -> Iterator[dict[str, list[int]]]:
    """How many pods of each request there are that are not on their way out, again and again."""
    samples: dict[str, list[int]] = defaultdict(list)
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.1):
            counted = pods_by_request(clusters)
            for request_id in {*samples, *counted}:
                samples[request_id].append(len(counted.get(request_id, ())))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def test_a_worker_of_gs_takes_a_request_and_has_our_agents_carry_it_out(
    layer: Apart, servers: Servers, clusters: list[Member]
) -> None:
    worker = GsWorker(layer.front.url, servers.kafka.url)
    wait_for(lambda: worker.take("GLowLatencyPriority") is None)
    fields = {
        "select_clusters": "['c2', ['c1']]",
        "mode": "fromnode",
        "source_cluster": "c2",
        "source_node": "c2-n0",
        "fast_option": "true",
    }
    made = post_form(f"{layer.front.url}/GEP/GSCH/test/low", fields, pod("of-gs"))
    request_id = made["result"].removeprefix("request_id:")
    job = wait_for(lambda: worker.take("GLowLatencyPriority"))
    assert job["request_id"] == request_id
    assert job["env"]["option"]["parameters"]["source_node"] == "c2-n0"
    assert asyncio.run(worker.place(job)) == "success"
    assert worker.report(request_id, "completed") == "completed"
    assert worker.status(request_id) == "completed"
    assert pods_by_request(clusters) == {request_id: ["c2"]}
    # Ours again once the worker of GS asks no more; what it made is removed with the request.
    layer.front.ok("DELETE", f"/requests/{request_id}")
    wait_for(lambda: not pods_by_request(clusters))


def test_a_front_of_gs_has_our_agents_read_its_yaml_from_redis(
    layer: Apart, servers: Servers, clusters: list[Member]
) -> None:
    request_id, file_id = f"req-{uuid.uuid4()}", str(uuid.uuid4())
    redis = Redis.from_url(servers.redis.url)
    redis.hset("gedge-gsch-request-yaml", file_id, deployment("theirs", 2))
    worker = GsWorker(layer.front.url, servers.kafka.url)
    older = {
        "requestID": request_id, "fileID": file_id, "failCnt": 0, "status": "create",
        "env": {"type": "global", "priority": "GMostRequestedPriority",
                "targetClusters": ["c1"], "option": {"sourceCluster": "c1"}},
    }  # fmt: skip

    async def converse() -> list[Any]:
        async with worker.conversation(request_id) as say:
            common = {"request_id": request_id}
            best = await say("c1", 300, {**common, "GPUFilter": "unnecessary"})
            none = await say("c1", "0x012c", {**common, "GPUFilter": "necessary"})
            order = {**common, "file_id": file_id, "request_data": json.dumps(older)}
            applied = await say("c1", 310, order)
            again = await say("c1", 310, order)
            where = {"namespace_name": "default", "pod_name": "none"}
            missing = await say("c1", 530, {**common, "method": "read", "parameters": where})
            project = {"workspace_uid": "u1", "project_name": "p1"}
            made = await say("c1", 520, {**common, "method": "create", "parameters": project})
            gone = await say("c1", 520, {**common, "method": "delete", "parameters": project})
            return [best, none, applied, again, missing, made, gone]

    best, none, applied, again, missing, made, gone = asyncio.run(converse())
    assert (best["cluster_name"], best["node_name"][:4]) == ("c1", "c1-n")
    assert none["node_name"] == ""
    assert (applied, again) == ("success", "success")
    assert pods_by_request(clusters) == {request_id: ["c1", "c1"]}
    assert (missing["status"], "not found" in missing["error_msg"]) == ("fail", True)
    assert (made["status"], gone["status"]) == ("success", "success")
    clear(clusters)


def test_a_message_that_nobody_can_read_is_set_aside_and_shown(
    layer: Apart, servers: Servers
) -> None:
    bodies = [b"{", b'{"hcode": "0xzz", "lcode": 1}', b'{"hcode": 999, "lcode": 1, "msg": {}}']

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=servers.kafka.url)
        await producer.start()
        for body in bodies:
            await producer.send_and_wait("c1", body)
        await producer.stop()

    asyncio.run(send())

    def problems() -> list[str]:
        items = layer.front.ok("GET", "/set-aside")["items"]
        return [item["body"] for item in items]

    wait_for(lambda: len(problems()) >= len(bodies))
    assert any("0xzz" in body for body in problems())
    # The agent goes on.
    assert layer.front.ended(layer.front.submit(pod("on"), clusters=["c1"]))["state"] == "completed"


def test_an_unknown_code_is_answered_with_an_error(layer: Apart, servers: Servers) -> None:
    request_id = f"req-{uuid.uuid4()}"
    worker = GsWorker(layer.front.url, servers.kafka.url)

    async def converse() -> Any:
        async with worker.conversation(request_id) as say:
            return await say("c1", 999, {"request_id": request_id})

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
    layer: Apart, form: str, fields: dict[str, str], status: int, message: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post_form(f"{layer.front.url}/GEP/GSCH/test/{form}", fields, pod("p"))
    assert caught.value.code == status
    error = json.loads(caught.value.read())["Error"]
    assert error["ErrorCode"].endswith("Exception")
    assert message in error["Message"]
