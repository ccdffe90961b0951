"""`gsch explain`, `gsch snapshot` and `gsch config` against an API server that is a script."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner

from gsch.cli import main
from scheduler.config.configuration import Configuration
from scheduler.config.configuration_file import parse
from serving import logs
from tests.harness.make import Json, node_json, pod_json
from tests.harness.scripted import Handler, refusal, serving

CLUSTER = {
    "nodes": [node_json("a"), node_json("b", cpu="1")],
    "pods": [
        pod_json("waits", {"cpu": "2"}),
        pod_json("hopeless", {"cpu": "9"}),
        pod_json("runs", {"cpu": "3"}, nodeName="a"),
        pod_json("urgent", {"cpu": "2"}, priority=9),
    ],
}


async def cluster(request: web.Request) -> web.StreamResponse:
    name = request.path.rpartition("/")[2]
    if "/pods/" in request.path:
        found = [p for p in CLUSTER["pods"] if p["metadata"]["name"] == name]
        return web.json_response(found[0]) if found else refusal(404, f'pods "{name}" not found')
    return web.json_response({"metadata": {}, "items": CLUSTER.get(name, [])})


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands set up the logs of a whole process."""
    monkeypatch.setattr(logs, "configure", lambda verbose=False: None)


async def run(folder: Path, *words: str, handler: Handler = cluster) -> Any:
    """The command in a thread, beside the server on this loop."""
    async with serving(handler, folder):
        options = ["--kubeconfig", str(folder / "kubeconfig.yaml")]
        return await asyncio.to_thread(
            CliRunner(env={"COLUMNS": "200"}).invoke, main, [*words, *options]
        )


async def test_a_pod_is_explained_node_by_node(tmp_path: Path) -> None:
    result = await run(tmp_path, "explain", "waits")
    assert result.exit_code == 0, result.output
    assert "NodeResourcesFit: Insufficient cpu" in result.stdout
    assert "0/2 nodes are available: 2 Insufficient cpu." in result.stdout
    assert "Nearest: " in result.stdout
    found = await run(tmp_path, "explain", "default/runs", "-o", "json")
    (explanation,) = json.loads(found.stdout)
    assert (explanation["pod"], explanation["chosen"]) == ("default/runs", "a")


async def test_victims_and_round_trip_times_are_told(tmp_path: Path) -> None:
    result = await run(tmp_path, "explain", "urgent")
    assert "Preemption would take default/runs from a" in result.stdout
    pairs = tmp_path / "latency.yaml"
    pairs.write_text("- {source: a, target: b, rtt_ms: 2}\n")
    config = json.dumps({"priority": "GLowLatencyPriority", "option": {"sourceNode": "a"}})
    near: Json = pod_json("near", config=config)

    async def with_near(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/pods/near"):
            return web.json_response(near)
        return await cluster(request)

    found = await run(tmp_path, "explain", "near", "--latency", str(pairs), handler=with_near)
    assert "RTT (ms)" in found.stdout
    assert "chosen" in found.stdout


async def test_a_pod_that_is_not_there_is_said_so_with_a_hint(tmp_path: Path) -> None:
    result = await run(tmp_path, "explain", "ghost", "-n", "shop")
    assert result.exit_code == 1
    assert 'pods "ghost" not found' in result.output
    assert "(look at -n/--namespace)" in result.output


async def test_a_cluster_is_recorded_as_simulate_reads_it(tmp_path: Path) -> None:
    result = await run(tmp_path, "snapshot")
    assert result.exit_code == 0, result.output
    recorded = tmp_path / "now.yaml"
    recorded.write_text(result.stdout)
    assert len(yaml.safe_load(result.stdout)["items"]) == 6
    again = CliRunner().invoke(main, ["simulate", "-f", str(recorded), "-o", "json"])
    fates = {row["pod"]: row["result"] for row in json.loads(again.stdout)}
    assert fates["default/runs"] == "Running"
    assert fates["default/hopeless"] == "Pending"


def test_the_default_configuration_is_printed_and_holds(tmp_path: Path) -> None:
    printed = CliRunner().invoke(main, ["config", "default"])
    assert parse(printed.stdout.encode(), "x") == Configuration()
    path = tmp_path / "gsch.yaml"
    path.write_text(printed.stdout)
    checked = CliRunner().invoke(main, ["config", "check", str(path)])
    assert checked.exit_code == 0
    assert checked.output == f"{path}: holds; profiles: gsch, griffin_scheduler\n"


def test_a_configuration_that_does_not_hold_ends_with_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "gsch.yaml"
    path.write_text("apiVersion: config.gsch.io/v1alpha1\nkind: GschConfiguration\nseed: x\n")
    checked = CliRunner().invoke(main, ["config", "check", str(path)])
    assert checked.exit_code == 1
    assert f"Error: {path}: Expected `int | null`, got `str` - at `$.seed`" in checked.output
