"""`gsch global submit|list|explain|cancel|clusters|abandon|backup|migrate`, as people type them."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.kube import wait_for
from tests.harness.layer import Layer, Member, pod
from tests.harness.make import node_json
from tests.harness.process import ROOT, gsch

pytestmark = pytest.mark.lab


def call(layer: Layer, *words: str) -> subprocess.CompletedProcess[str]:
    return gsch("global", *words, "--url", layer.url)


def said(layer: Layer, *words: str) -> str:
    answer = call(layer, *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_a_request_from_file_to_end(layer: Layer, clusters: list[Member], tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(pod("web"))
    levels = "['c1', ['c2']]"
    ranked = json.loads(said(layer, "submit", str(file), "--clusters", levels, "--dry-run"))
    assert [one["asked"][0]["cluster"] for one in ranked["levels"]] == ["c1", "c2"]
    assert "REQUEST" in said(layer, "list")
    words = ("submit", str(file), "--clusters", levels, "--key", "once")
    request_id = said(layer, *words).strip()
    assert said(layer, *words).strip() == request_id, "the same key makes one request"
    assert layer.ended(request_id)["state"] == "completed"
    (row,) = json.loads(said(layer, "list", "--state", "completed", "--output", "json"))
    assert (row["id"], row["policy"]) == (request_id, "GMostRequestedPriority")
    explained = said(layer, "explain", request_id)
    assert f"{request_id}: completed" in explained
    assert "succeeded" in explained
    assert json.loads(said(layer, "explain", request_id, "--output", "json"))[0]["attempts"]
    assert "is being removed" in said(layer, "cancel", request_id)
    wait_for(lambda: "canceled" in said(layer, "list"))


def test_yaml_comes_from_standard_input_too(layer: Layer, clusters: list[Member]) -> None:
    command = [sys.executable, "-m", "gsch", "global", "submit", "-", "--url", layer.url]
    answer = subprocess.run(
        command, cwd=ROOT, input=pod("piped"), capture_output=True, text=True, check=False
    )
    assert layer.ended(answer.stdout.strip())["state"] == "completed"


def test_clusters_are_listed_and_only_a_lost_one_is_given_up(
    layer: Layer, clusters: list[Member]
) -> None:
    # A node that stands for c2 may be there from other tests; it counts for nothing.
    rows = json.loads(said(layer, "clusters", "--output", "json"))
    assert {row["name"]: (row["nodes"], row["lost"]) for row in rows} == {
        "c1": (3, False), "c2": (3, False),
    }  # fmt: skip
    refused = call(layer, "abandon", "c1", "--yes")
    assert (refused.returncode, "only a lost one is abandoned" in refused.stderr) == (1, True)
    unknown = call(layer, "abandon", "c9", "--yes")
    assert (unknown.returncode, "there is no such cluster" in unknown.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("submit", "-", "--clusters", "['c9']"), "no agent of a cluster 'c9'"),
        (("submit", "-", "--clusters", "[["), "clusters"),
        (("submit", "/nonexistent"), "No such file or directory"),
        (("submit", "-", "--policy", "GFastest"), "'GFastest' is none: one of"),
        (("explain", "req-none"), "there is no such request"),
        (("cancel", "req-none"), "there is no such request"),
        (("list", "--token-file", "/nonexistent"), "/nonexistent"),
        (("list", "--state", "sleeping"), "sleeping"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_and_no_trace(
    layer: Layer, words: tuple[str, ...], problem: str
) -> None:
    answer = call(layer, *words)
    assert answer.returncode in (1, 2)
    assert problem in answer.stderr
    assert "Traceback" not in answer.stderr


def test_without_a_front_the_answer_says_where_it_was_looked_for() -> None:
    answer = gsch("global", "list", "--url", "http://127.0.0.1:1")
    assert (answer.returncode, "http://127.0.0.1:1" in answer.stderr) == (1, True)
    assert "Traceback" not in answer.stderr


def test_a_backup_is_written_while_the_layer_runs_and_restored(
    layer: Layer, clusters: list[Member], tmp_path: Path
) -> None:
    record = layer.ended(layer.submit(pod("kept")))
    copy, restored = tmp_path / "monday.db", tmp_path / "restored.db"
    source = f"sqlite:///{layer.folder}/global.db"
    assert "MiB" in gsch("global", "backup", source, str(copy)).stdout
    again = gsch("global", "backup", source, str(copy))
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    answer = gsch("global", "migrate", f"sqlite:///{copy}", "--to", f"sqlite:///{restored}")
    assert "requests: 1 rows" in answer.stdout
    with sqlite3.connect(restored) as database:
        assert database.execute("SELECT id FROM requests").fetchall() == [(record["id"],)]
    busy = gsch("global", "migrate", source, "--to", f"sqlite:///{tmp_path}/other.db")
    assert (busy.returncode, "another process uses this file" in busy.stderr) == (1, True)


def test_clusters_whose_pods_have_the_same_addresses_are_named(
    clusters: list[Member], tmp_path: Path
) -> None:
    for one, network in zip(clusters, ("10.9.0.0/24", "10.9.0.128/25"), strict=True):
        node = node_json(f"{one.name}-routed", cpu="1")
        node["spec"] = {**node.get("spec", {}), "podCIDR": network, "podCIDRs": [network]}
        one.kube.create(node)
    try:
        with Layer(tmp_path, clusters) as layer:

            def overlaps() -> dict[str, list[str]]:
                rows = json.loads(said(layer, "clusters", "--output", "json"))
                return {row["name"]: row["overlaps"] for row in rows}

            wait_for(lambda: overlaps() == {"c1": ["c2"], "c2": ["c1"]})
            assert "SAME POD ADDRESSES AS" in said(layer, "clusters")
    finally:
        for one in clusters:
            one.kube.delete(f"/api/v1/nodes/{one.name}-routed")
