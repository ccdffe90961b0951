"""The layer as processes of their own over Kafka, PostgreSQL and Redis, in two real clusters."""

import itertools
import json
import os
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest
import yaml

from lab.backing import Backing
from tests.front_door.federation.conftest import WORKERS
from tests.harness.forwarding import PODS, forwarded, phase_of, running
from tests.harness.kube import wait_for
from tests.harness.layer import (
    Apart,
    Member,
    Part,
    Servers,
    deployment,
    pod,
    pods_by_request,
)
from tests.harness.make import Json
from tests.harness.process import gsch
from tests.harness.proxy import Toxiproxy

REQUESTS = int(os.environ.get("GSCH_REQUESTS", "48"))
"""How many come in while parts are killed; `make soak` takes 500."""
pytestmark = [pytest.mark.lab, pytest.mark.needs("servers")]


def test_a_request_goes_through_kafka_and_postgresql(apart: Apart, clusters: list[Member]) -> None:
    record = apart.front.ended(apart.front.submit(deployment("web", 3), clusters=[["c1", "c2"]]))
    assert record["state"] == "completed", record
    assert len(pods_by_request(clusters)[record["id"]]) == 3


def test_the_agent_that_stands_by_goes_on_where_the_other_was_killed(
    apart: Apart, clusters: list[Member]
) -> None:
    first = apart.agents["c2"]
    with apart.agent("c2", "agent-c2-again") as second:
        second.wait_for_log("waiting for the lease")
        first.kill()
        record = apart.front.ended(apart.front.submit(pod("after"), clusters=["c2"]))
        assert record["state"] == "completed", record
        assert second.lines("agent works")
        assert pods_by_request(clusters) == {record["id"]: ["c2"]}
    first.start()
    apart.front.wait_for_heard("c2")


def test_the_silence_of_an_agent_evicts_no_forwarded_pod(
    apart: Apart, enabled: list[Member]
) -> None:
    here, there = enabled
    here.kube.create(forwarded("lasting"), forwarded("ending", restartPolicy="Never"))
    wait_for(lambda: running(here).keys() == {"lasting", "ending"})
    before = running(here)
    apart.agents["c2"].kill()
    wait_for(lambda: ready(here) == "False")
    # What ends meanwhile is mirrored once the agent is back.
    there.kube.patch(f"{PODS}/ending/status", {"status": {"phase": "Succeeded"}})
    wait_for(lambda: "NoExecute" in {t["effect"] for t in node(here)["spec"]["taints"]})
    pods = {p["metadata"]["name"]: p["metadata"] for p in here.kube.items(PODS)}
    assert {name: meta["uid"] for name, meta in pods.items()} == before
    assert not [name for name, meta in pods.items() if "deletionTimestamp" in meta]
    apart.agents["c2"].start()
    wait_for(lambda: ready(here) == "True" and phase_of(here, "ending") == "Succeeded")
    wait_for(lambda: running(here) == {"lasting": before["lasting"]})
    here.kube.delete(PODS)
    wait_for(lambda: not here.kube.items(PODS) and not there.kube.items(PODS))


def test_every_part_ends_when_it_is_told_to_though_kafka_is_away(
    apart: Apart, servers: Servers
) -> None:
    parts = [apart.front, apart.workers[0], apart.agents["c1"]]
    servers.kafka.kill()
    try:
        assert [part.stop() for part in parts] == [0, 0, 0]
    finally:
        servers.kafka.start()
        for part in parts:
            part.start()
        apart.front.wait_for_heard("c1")


def node(member: Member) -> Json:
    return member.kube.get("/api/v1/nodes/gsch-c2")


def ready(member: Member) -> str:
    conditions = node(member)["status"]["conditions"]
    return str(next(c["status"] for c in conditions if c["type"] == "Ready"))


def test_every_request_runs_once_while_each_part_is_killed_in_turn(
    apart: Apart, servers: Servers, clusters: list[Member]
) -> None:
    """kill -9 of front, worker, agent, Kafka, Redis and PostgreSQL, while requests come in."""
    kills: list[Callable[[], None]] = [
        partial(_again, apart.front),
        partial(_again, apart.workers[0]),
        partial(_again, apart.agents["c1"]),
        partial(_again, servers.kafka),
        partial(_again, servers.redis),
        partial(_again, servers.postgres),
    ]
    ids: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        for kill in itertools.cycle(kills):
            done = pool.submit(kill)
            for _ in range(8):
                ids.append(_submit_surely(apart, f"p{len(ids)}"))
            done.result()
            if len(ids) >= REQUESTS:
                break
    ended = [apart.front.ended(request_id, 300) for request_id in ids]
    assert {record["state"] for record in ended} == {"completed"}, ended
    where = pods_by_request(clusters)
    assert {request_id: len(where[request_id]) for request_id in ids} == dict.fromkeys(ids, 1)
    assert len(where) == len(ids)


def test_a_copy_is_stopped_in_a_cluster_that_is_cut_off_before_another_starts(
    apart: Apart, clusters: list[Member], kafka_of_c1: Toxiproxy
) -> None:
    moved = apart.front.submit(pod("moved"), clusters=["c1", "c2"], clusterLost="stop-and-move")
    kept = apart.front.submit(pod("kept"), clusters=["c1", "c2"])
    for request_id in (moved, kept):
        assert apart.front.ended(request_id)["state"] == "completed"
    with _sampled(clusters) as samples:
        kafka_of_c1.enable(False)
        wait_for(lambda: pods_by_request(clusters)[moved] == ["c2"], 240)
        kafka_of_c1.enable(True)
        apart.front.wait_for_heard("c1")
    assert max(samples[moved]) == 1
    assert 0 in samples[moved]
    assert set(samples[kept]) == {1}
    assert pods_by_request(clusters)[kept] == ["c1"]


def test_a_copy_that_was_stopped_in_vain_starts_again(
    apart: Apart, clusters: list[Member], kafka_of_c1: Toxiproxy
) -> None:
    """The cluster is back before the layer gives it up: the layer has to hear of what stopped."""
    request_id = apart.front.submit(pod("again"), clusters=["c1"], clusterLost="stop-and-move")
    assert apart.front.ended(request_id)["state"] == "completed"
    with _sampled(clusters) as samples:
        kafka_of_c1.enable(False)
        wait_for(lambda: not pods_by_request(clusters))
        kafka_of_c1.enable(True)
        wait_for(lambda: pods_by_request(clusters)[request_id] == ["c1"])
        record = apart.front.ended(request_id)
    assert record["state"] == "completed"
    assert any("stopped while" in attempt["message"] for attempt in record["attempts"])
    assert max(samples[request_id]) == 1


def test_a_person_gives_a_lost_cluster_up_and_its_requests_go_on_elsewhere(
    apart: Apart, clusters: list[Member], kafka_of_c1: Toxiproxy
) -> None:
    request_id = apart.front.submit(pod("given-up"), clusters=["c1", "c2"])
    record = apart.front.ended(request_id)
    assert record["state"] == "completed"
    assert pods_by_request(clusters)[request_id] == ["c1"], record
    kafka_of_c1.enable(False)
    try:
        # A layer that heard nothing of anybody for a while waits anew.
        output = wait_for(lambda: abandoned(apart, "c1"))
        assert output == "c1: abandoned; 1 requests go on elsewhere\n"
        wait_for(lambda: sorted(pods_by_request(clusters)[request_id]) == ["c1", "c2"])
    finally:
        kafka_of_c1.enable(True)
    # Back again, what was given up goes.
    wait_for(lambda: pods_by_request(clusters)[request_id] == ["c2"])
    apart.front.wait_for_heard("c1")


def abandoned(apart: Apart, name: str) -> str:
    """What the command says; empty where the cluster is not lost yet."""
    done = gsch("global", "abandon", name, "--yes", "--url", apart.front.url)
    assert done.returncode == 0 or "only a lost one is abandoned" in done.stderr, done.stderr
    return done.stdout


def test_there_are_more_workers_while_requests_wait_or_as_a_person_says(
    apart: Apart, clusters: list[Member]
) -> None:
    here, path = clusters[0].kube, f"/apis/apps/v1/namespaces/default/deployments/{WORKERS}"
    made = yaml.safe_load(deployment(WORKERS, 1))
    made["metadata"]["namespace"] = "default"
    here.create(made)

    def size() -> int:
        return int(here.get(path)["spec"]["replicas"])

    for worker in apart.workers:
        worker.kill()
    request_id = apart.front.submit(pod("waits"), clusters=["c1"])
    wait_for(lambda: size() == 5)
    for worker in apart.workers:
        worker.start()
    assert apart.front.ended(request_id)["state"] == "completed"
    workers = "/policies/GMostRequestedPriority/workers"
    apart.front.ok("PUT", workers, {"replicas": 3})
    wait_for(lambda: size() == 3)
    legacy = f"{apart.front.url}/GEP/GSCH/policys/GMostRequestedPriority/replicas/2"
    with urllib.request.urlopen(urllib.request.Request(legacy, method="PUT")) as reply:
        assert json.loads(reply.read()) == {"result": "success"}
    wait_for(lambda: size() == 2)
    policies = apart.front.ok("GET", "/policies")["items"]
    assert {
        "name": "GMostRequestedPriority", "kind": "built-in", "workers": 2, "image": ""
    } in policies  # fmt: skip
    for body, status, words in (
        ({"replicas": 6}, 400, "0 to 5 (scaling.maxWorkers)"),
        ({"replicas": "two"}, 400, "Expected `int | null`"),
    ):
        answered, answer = apart.front.call("PUT", workers, body)
        assert (answered, words in answer["error"]["message"]) == (status, True), answer
    assert apart.front.call("PUT", "/policies/GFastest/workers", {"replicas": 1})[0] == 404
    apart.front.ok("PUT", workers, {"replicas": None})
    here.delete(path)


def test_a_request_that_moves_is_never_without_a_copy_for_long_and_the_old_one_goes(
    apart: Apart, clusters: list[Member], kafka_of_c1: Toxiproxy
) -> None:
    moved = apart.front.submit(pod("moved"), clusters=["c1", "c2"], clusterLost="move")
    assert apart.front.ended(moved)["state"] == "completed"
    with _sampled(clusters) as samples:
        kafka_of_c1.enable(False)
        wait_for(lambda: sorted(pods_by_request(clusters)[moved]) == ["c1", "c2"], 120)
        assert apart.front.ended(moved)["state"] == "completed"
        kafka_of_c1.enable(True)
        wait_for(lambda: pods_by_request(clusters)[moved] == ["c2"])
    assert min(samples[moved]) == 1


def _again(part: Part | Backing) -> None:
    part.kill()
    part.start()


def _submit_surely(apart: Apart, name: str) -> str:
    """As a client does it: with a key, again until it is answered."""
    body = {"yaml": pod(name), "policy": "GMostRequestedPriority", "clusters": [["c1", "c2"]]}

    def attempt() -> str | None:
        try:
            status, record = apart.front.call(
                "POST", "/requests", body, **{"Idempotency-Key": name}
            )
        except (OSError, IndexError):
            return None
        assert status in (201, 503), record
        return str(record["id"]) if status == 201 else None

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
