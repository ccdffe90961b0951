"""Explanations by a running scheduler, from the snapshot that it decides by."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from cluster.state.snapshot import Snapshot
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks
from scheduler.offline.explain import CannotExplain
from scheduler.process.live_explanation import LiveExplanation
from scheduler.queue.nominator import Nominator
from tests.harness.make import node, pod, pod_json, snapshot
from tests.harness.scripted import refusal, serving

PODS = {
    "waits": pod_json("waits", {"cpu": "3"}),
    "runs": pod_json("runs", {"cpu": "3"}, nodeName="a"),
    "other": pod_json("other", scheduler="other"),
    "mistaken": pod_json("mistaken", config="{"),
}


async def answer(request: web.Request) -> web.StreamResponse:
    name = request.path.rpartition("/")[2]
    return web.json_response(PODS[name]) if name in PODS else refusal(404, f"no pod {name}")


@asynccontextmanager
async def explaining(folder: Path, found: Snapshot) -> AsyncIterator[LiveExplanation]:
    async with serving(answer, folder) as client:
        made = frameworks(Configuration(seed=1), Matrix())
        yield LiveExplanation(client, found, Nominator(found), made)


def cluster() -> Snapshot:
    return snapshot(node("a", cpu="4"), pods=(pod("runs", requests={"cpu": "3"}, nodeName="a"),))


async def test_a_pending_pod_is_explained_by_the_scheduler_s_own_snapshot(tmp_path: Path) -> None:
    async with explaining(tmp_path, cluster()) as live:
        found = json.loads(await live.explain("default/waits"))
    assert found["chosen"] is None
    assert found["nodes"][0]["reasons"] == ["Insufficient cpu"]


async def test_a_pod_that_runs_does_not_stand_in_its_own_way(tmp_path: Path) -> None:
    found = cluster()
    version = found.version
    async with explaining(tmp_path, found) as live:
        assert json.loads(await live.explain("default/runs"))["chosen"] == "a"
    assert (list(found.pods), found.version) == (["default/runs"], version)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ghost", "no pod ghost"),
        ("other", "pod default/other is for scheduler other"),
        ("mistaken", "gschConfig is not JSON"),
    ],
)
async def test_a_pod_that_cannot_be_explained_is_said_why(
    name: str, words: str, tmp_path: Path
) -> None:
    async with explaining(tmp_path, cluster()) as live:
        with pytest.raises(CannotExplain, match=words):
            await live.explain(f"default/{name}")
