"""Fake nodes: which are wanted, and how they are made."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from lab import nodes
from lab.binaries import LabError
from tests.harness.make import node_json, pod_json
from tests.harness.scripted import refusal, serving


def names(found: list[dict[str, Any]]) -> list[str]:
    return [node["metadata"]["name"] for node in found]


def written(folder: Path, *documents: Any) -> Path:
    path = folder / "nodes.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def test_plain_nodes_are_spread_over_three_zones() -> None:
    found = [nodes.plain(number) for number in range(4)]
    zones = [node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in found]
    assert names(found) == ["node-0", "node-1", "node-2", "node-3"]
    assert zones == ["zone-0", "zone-1", "zone-2", "zone-0"]
    assert nodes.plain(0, {"cpu": "1"})["status"]["allocatable"] == {"cpu": "1"}


def test_nodes_of_a_file_come_from_documents_and_lists(tmp_path: Path) -> None:
    bare = node_json("c")
    del bare["kind"]
    path = written(
        tmp_path, node_json("a"), {"kind": "List", "items": [node_json("b"), pod_json()]}, bare
    )
    assert names(nodes.from_file(path)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "while parsing"), ("- 1\n", "no Node objects"), (None, "No such file")],
)
def test_a_file_without_nodes_is_refused(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LabError, match=words):
        nodes.from_file(path)


def test_the_nodes_of_a_file_are_filled_up_with_plain_ones(tmp_path: Path) -> None:
    path = written(tmp_path, node_json("a"), node_json("b"))
    assert names(nodes.wanted(None, path)) == ["a", "b"]
    assert names(nodes.wanted(3, path)) == ["a", "b", "node-0"]
    assert names(nodes.wanted(2, None)) == ["node-0", "node-1"]
    assert nodes.wanted(None, None) == []
    with pytest.raises(LabError, match="has 2 nodes, more than the 1 asked for"):
        nodes.wanted(1, path)


async def test_every_node_is_made_and_a_refusal_is_told(tmp_path: Path) -> None:
    made: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        assert (request.method, request.path) == ("POST", "/api/v1/nodes")
        name = (await request.json())["metadata"]["name"]
        if name == "bad":
            return refusal(422, "not so")
        made.append(name)
        return web.json_response({}, status=201)

    ticks: list[int] = []
    async with serving(answer, tmp_path):
        config = tmp_path / "kubeconfig.yaml"
        await nodes.create(config, [nodes.plain(i) for i in range(5)], lambda: ticks.append(1))
        assert sorted(made) == [f"node-{i}" for i in range(5)]
        assert len(ticks) == 5
        with pytest.raises(LabError, match="node bad: not so"):
            await nodes.create(config, [node_json("bad")])


async def test_nodes_are_waited_for_until_none_carries_the_not_ready_taint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taint = {"key": nodes.NOT_READY, "effect": "NoSchedule"}
    answers: list[Any] = [
        None,
        [node_json("a")],
        [node_json("a"), node_json("b", taints=[taint])],
        [node_json("a"), node_json("b")],
    ]

    async def answer(_: web.Request) -> web.StreamResponse:
        items = answers.pop(0) if len(answers) > 1 else answers[0]
        if items is None:
            return refusal(403)
        return web.json_response({"metadata": {}, "items": items})

    async with serving(answer, tmp_path):
        config = tmp_path / "kubeconfig.yaml"
        await nodes.wait_ready(config, 2)
        assert len(answers) == 1
        monkeypatch.setattr(nodes, "READY_TIMEOUT_S", 0.01)
        with pytest.raises(LabError, match=r"not all of 3 nodes got ready in 0\.01 s"):
            await nodes.wait_ready(config, 3)
