"""Requests outlive the layer's process, its database, and clusters that are not there."""

import os
import secrets
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lab.backing import Postgres
from tests.harness.kube import wait_for
from tests.harness.layer import FINAL, Away, Layer, Member, clear, pod, pods_by_request
from tests.harness.process import gsch

pytestmark = pytest.mark.lab
KILLS = int(os.environ.get("GSCH_KILLS", "4"))
"""How often the layer is killed; `make soak` does it 500 times."""


def test_no_request_is_lost_or_doubled_while_the_layer_is_killed_again_and_again(
    clusters: list[Member], layer: Layer
) -> None:
    """kill -9 at random moments: every request completes, and has exactly one pod."""
    number = max(60, 5 * KILLS)
    with ThreadPoolExecutor(8) as pool:
        ids = list(
            pool.map(lambda n: layer.submit(pod(f"p{n}"), clusters=[["c1", "c2"]]), range(number))
        )
    for _ in range(KILLS):
        before = len(pods_by_request(clusters))
        wait_for(partial(_more_than, clusters, min(before, number - 1)), pause=0.01)
        layer.signal(signal.SIGKILL)
        layer.process.wait(10)
        layer.start()
    ended = [layer.ended(request_id, 120 + KILLS) for request_id in ids]
    assert {record["state"] for record in ended} == {"completed"}, ended
    where = pods_by_request(clusters)
    assert {request_id: len(where[request_id]) for request_id in ids} == dict.fromkeys(ids, 1)
    for record in ended:
        running = [a["cluster"] for a in record["attempts"] if a["state"] == "succeeded"]
        assert running == where[record["id"]]


def test_requests_in_flight_move_to_postgresql(clusters: list[Member], tmp_path: Path) -> None:
    """The layer is killed under work; its database is carried over, and all goes on there."""
    number = 24
    with Postgres(f"postgres-{secrets.token_hex(4)}") as postgres:
        with Layer(tmp_path, clusters) as layer:
            ids = [layer.submit(pod(f"p{n}"), clusters=[["c1", "c2"]]) for n in range(number)]
            wait_for(partial(_more_than, clusters, 4), pause=0.01)
            layer.kill()
        done = gsch("global", "migrate", f"sqlite:///{tmp_path}/global.db", "--to", postgres.url)
        assert done.returncode == 0, done.stderr
        assert f"requests: {number} rows" in done.stdout
        with Layer(tmp_path, clusters, database=postgres.url) as layer:
            ended = [layer.ended(request_id) for request_id in ids]
            assert {record["state"] for record in ended} == {"completed"}
            where = pods_by_request(clusters)
            assert {r: len(where[r]) for r in ids} == dict.fromkeys(ids, 1)
    clear(clusters)


def test_requests_without_any_agent_wait_and_finish_once_agents_come(
    clusters: list[Member], tmp_path: Path
) -> None:
    folder = tmp_path / "away"
    folder.mkdir()
    number = 150
    with Layer(tmp_path, clusters) as layer:
        layer.ended(layer.submit(pod("first"), clusters=["c1"]))
    away = [replace(one, lab=Away(one.name)) for one in clusters]
    with Layer(tmp_path, away, wait=False) as layer:
        with ThreadPoolExecutor(8) as pool:
            made = pool.map(
                lambda n: layer.submit(pod(f"q{n}"), clusters=[["c1", "c2"]]), range(number)
            )
            ids = list(made)
        record = layer.ok("GET", f"/requests/{ids[0]}")
        assert record["state"] not in FINAL
    with Layer(tmp_path, clusters) as layer:
        ended = [layer.ended(request_id) for request_id in ids]
        assert {record["state"] for record in ended} == {"completed"}, ended
        assert {record["failures"] for record in ended} == {0}
        assert len(pods_by_request(clusters)) == number + 1
    clear(clusters)


def test_what_finished_long_ago_is_forgotten_here_and_in_the_clusters(
    clusters: list[Member], tmp_path: Path
) -> None:
    with Layer(tmp_path, clusters) as layer:
        request_id = layer.submit(pod("old"), clusters=["c1"])
        layer.ended(request_id)
        layer.ok("DELETE", f"/requests/{request_id}")
        wait_for(lambda: layer.ok("GET", f"/requests/{request_id}")["state"] == "canceled")
    works = "/apis/federation.gsch.io/v1alpha1/works"
    assert [w["spec"]["state"] for w in clusters[0].kube.items(works)] == ["Revoked"]
    with Layer(tmp_path, clusters, keepFinishedDays=0.00001) as layer:
        wait_for(lambda: layer.call("GET", f"/requests/{request_id}")[0] == 404)
        wait_for(lambda: not clusters[0].kube.items(works))


def _more_than(clusters: list[Member], number: int) -> bool:
    return len(pods_by_request(clusters)) > number
