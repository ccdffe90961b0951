"""`gsch simulate`: what-if options, and two configurations side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gsch.cli import main
from scheduler.config.configuration import API_VERSION, KIND
from tests.harness.make import Json, node_json, pod_json

PODS = [pod_json("small", {"cpu": "1"}), pod_json("large", {"cpu": "3"})]


def written(folder: Path, *objects: Json, name: str = "cluster.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["simulate", *words])


def simulated(*words: str) -> dict[str, str]:
    result = run(*words, "-o", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    return {row["pod"].partition("/")[2]: row["node"] or row["result"] for row in rows}


def test_pods_of_files_are_decided(tmp_path: Path) -> None:
    file = written(tmp_path, node_json("a"), *PODS)
    assert simulated("-f", file) == {"small": "a", "large": "a"}
    table = run("-f", file).output
    assert table.split()[:4] == ["POD", "RESULT", "NODE", "WHY"]
    assert "default/large" in table


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--cordon", "a"], {"small": "b", "large": "Pending", "there": "a"}),
        (["--drain", "a"], {"small": "b", "large": "Pending", "there": "b"}),
        (["--scale", "2"], {"small-1": "b", "small-2": "b", "large-1": "a", "large-2": "Pending",
                            "there": "a"}),
        (["--profile", "other"], {"small": "Other scheduler", "large": "Other scheduler",
                                  "there": "a"}),
    ],
)  # fmt: skip
def test_what_if_options_change_the_cluster_first(
    words: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    there = pod_json("there", {"cpu": "1"}, nodeName="a", priority=9)
    packed = json.dumps({"priority": "GMostRequestedPriority"})
    pods = [pod_json("small", {"cpu": "1"}, packed), pod_json("large", {"cpu": "3"}, packed)]
    nodes = [node_json("a", cpu="6"), node_json("b", cpu="2")]
    assert simulated("-f", written(tmp_path, *nodes, *pods, there), *words) == expected


def test_further_nodes_are_added_from_files(tmp_path: Path) -> None:
    file = written(tmp_path, node_json("a", cpu="1"), *PODS)
    more = written(tmp_path, node_json("b", cpu="4"), name="more.yaml")
    assert simulated("-f", file) == {"small": "a", "large": "Pending"}
    assert simulated("-f", file, "--add-node", more)["large"] == "b"


def test_files_without_nodes_are_remarked_on(tmp_path: Path) -> None:
    result = run("-f", written(tmp_path, *PODS))
    assert "no Node objects in these files" in result.output
    assert result.exit_code == 0


def test_a_node_that_is_not_there_ends_with_a_message(tmp_path: Path) -> None:
    result = run("-f", written(tmp_path, node_json("a")), "--drain", "x")
    assert result.exit_code == 1
    assert "Error: no node x among the 1 of these files" in result.output


def test_two_configurations_are_shown_beside_one_another(tmp_path: Path) -> None:
    head = {"apiVersion": API_VERSION, "kind": KIND, "seed": 1}
    strategy = {"scoringStrategy": {"type": "MostAllocated"}}
    profile = {
        "schedulerName": "gsch",
        "pluginConfig": [{"name": "NodeResourcesFit", "args": strategy}],
    }
    packing = written(tmp_path, head | {"profiles": [profile]}, name="packing.yaml")
    file = written(
        tmp_path, node_json("a"), node_json("b"), pod_json("there", {"cpu": "1"}, nodeName="a"),
        pod_json("new", {"cpu": "1"}),
    )  # fmt: skip
    result = run("-f", file, "--compare", packing, "-o", "json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert [summary["nodes_in_use"] for summary in found["summaries"]] == [2, 1]
    rows = {row["pod"]: (row["first"], row["second"], row["differs"]) for row in found["pods"]}
    assert rows == {
        "default/there": ("a", "a", ""),
        "default/new": ("b", "a", "differs"),
    }
    table = run("-f", file, "--compare", packing).output
    assert "differs" in table
    assert "NODES" in table
