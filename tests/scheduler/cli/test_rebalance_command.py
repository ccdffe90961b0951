"""`gsch rebalance`: what is said, and what is evicted where that is asked for."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner
from structlog.testing import CapturingLogger

from gsch.cli import main
from scheduler.cli import rebalance_command
from scheduler.config.configuration import API_VERSION, KIND
from serving import logs
from tests.harness.make import Json, node_json, pod_json
from tests.harness.scripted import refusal, serving

NODES = [node_json("camera", unschedulable=True), node_json("far"), node_json("near")]
PAIRS = [
    {"source": "camera", "target": "far", "rtt_ms": 40},
    {"source": "camera", "target": "near", "rtt_ms": 2},
    {"source": "far", "target": "near", "rtt_ms": 40},
]


def running(name: str, on: str, **option: Any) -> Json:
    config = json.dumps({"priority": "GLowLatencyPriority", "option": option})
    raw = pod_json(name, {"cpu": "1"}, config, nodeName=on)
    owner = {"controller": True, "kind": "ReplicaSet", "name": "rs", "uid": "rs"}
    raw["metadata"] |= {"uid": f"uid-{name}", "ownerReferences": [owner]}
    raw["status"] = {"startTime": "2020-01-01T00:00:00Z"}
    return raw


class Server:
    """A cluster in which one pod is far from its source; answers evictions with these statuses."""

    def __init__(self, *statuses: int, pods: list[Json] | None = None) -> None:
        self.statuses = list(statuses)
        self.pods = [running("p", "far", sourceNode="camera")] if pods is None else pods
        self.evictions: list[Json] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            assert request.path.endswith("/eviction")
            self.evictions.append(await request.json())
            status = self.statuses.pop(0) if self.statuses else 201
            return web.json_response({}, status=201) if status == 201 else refusal(status, "budget")
        name = request.path.rpartition("/")[2]
        items: list[Json] = {"nodes": NODES, "pods": self.pods}.get(name, [])
        return web.json_response({"metadata": {}, "items": items})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda verbose=False: None)
    monkeypatch.setattr(rebalance_command, "log", CapturingLogger())
    monkeypatch.setattr(rebalance_command, "RETRY_DELAY_S", 0.01)


async def run(folder: Path, server: Server, *words: str) -> Any:
    """The command in a thread, beside the server on this loop."""
    pairs, config = folder / "latency.yaml", folder / "gsch.yaml"
    pairs.write_text(yaml.safe_dump(PAIRS))
    head = {"apiVersion": API_VERSION, "kind": KIND, "seed": 1}
    config.write_text(yaml.safe_dump(head | {"latency": {"file": str(pairs)}}))
    async with serving(server, folder):
        options = ["--config", str(config), "--kubeconfig", str(folder / "kubeconfig.yaml")]
        return await asyncio.to_thread(CliRunner().invoke, main, ["rebalance", *options, *words])


async def outcomes(folder: Path, server: Server, *words: str) -> list[tuple[str, str, str]]:
    result = await run(folder, server, "-o", "json", *words)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    return [(row["pod"].partition("/")[2], row["target"], row["outcome"]) for row in rows]


async def test_without_being_asked_nothing_moves(tmp_path: Path) -> None:
    server = Server()
    assert await outcomes(tmp_path, server) == [("p", "near", "proposed")]
    assert server.evictions == []
    table = (await run(tmp_path, server)).output
    assert "WOULD BE" in table


async def test_a_pod_that_is_near_stays(tmp_path: Path) -> None:
    server = Server(pods=[running("p", "near", sourceNode="camera")])
    result = await run(tmp_path, server, "--apply")
    assert result.output == "Every pod is as near as it can be, or not worth a move.\n"
    assert server.evictions == []


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (201, "evicted"),
        (404, "gone already"),
        (409, "gone already"),
        (429, "kept: budget"),
        (403, "refused: budget"),
    ],
)
async def test_the_api_server_has_the_last_word_on_an_eviction(
    status: int, outcome: str, tmp_path: Path
) -> None:
    server = Server(status)
    assert await outcomes(tmp_path, server, "--apply") == [("p", "near", outcome)]
    (eviction,) = server.evictions
    assert eviction["metadata"] == {"name": "p", "namespace": "default"}
    assert eviction["deleteOptions"] == {"preconditions": {"uid": "uid-p"}}


def pipeline() -> list[Json]:
    return [
        running("one", "far", pipeline="v", stage="a", dependsOn=[{"node": "camera"}]),
        running("two", "far", pipeline="v", stage="b", dependsOn=["a"]),
    ]


async def test_a_pipeline_is_begun_only_where_all_of_it_may_go(tmp_path: Path) -> None:
    server = Server(201, 429, pods=pipeline())
    found = await outcomes(tmp_path, server, "--apply", "--min-gain", "0")
    assert [outcome for _, _, outcome in found] == ["kept: budget"] * 2
    assert all(e["deleteOptions"]["dryRun"] == ["All"] for e in server.evictions)


async def test_a_pipeline_that_is_begun_is_ended(tmp_path: Path) -> None:
    """A budget that somebody used up meanwhile is waited for."""
    server = Server(201, 201, 201, 429, 429, 201, pods=pipeline())
    found = await outcomes(tmp_path, server, "--apply", "--min-gain", "0")
    assert [outcome for _, _, outcome in found] == ["evicted"] * 2
    assert len(server.evictions) == 6


async def test_an_api_server_that_refuses_ends_a_single_round_with_its_words(
    tmp_path: Path,
) -> None:
    class Refusing(Server):
        async def __call__(self, request: web.Request) -> web.StreamResponse:
            return refusal(403, "not for you")

    result = await run(tmp_path, Refusing())
    assert result.exit_code == 1
    assert "not for you" in result.output
