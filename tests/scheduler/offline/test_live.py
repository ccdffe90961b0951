"""A cluster as the API server has it, read once."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from cluster.api.client import ApiError
from cluster.objects.core import Node
from cluster.state.resource_types import RESOURCES
from scheduler.offline import live
from scheduler.offline.manifests import read
from tests.harness.make import Json, node_json, pod_json
from tests.harness.scripted import refusal, serving
from tests.harness.volumes import claim


class Objects:
    """An API server with these objects; collections come in pages of one."""

    def __init__(self, *missing: str, **collections: list[Json]) -> None:
        self.missing, self.collections = missing, collections
        self.asked: list[str] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.endswith(self.missing or ("\0",)):
            return refusal(404, "the server could not find the requested resource")
        name = request.path.rpartition("/")[2]
        if "/pods/" in request.path:
            found = [p for p in self.collections["pods"] if p["metadata"]["name"] == name]
            return web.json_response(found[0]) if found else refusal(404, f"{name} not found")
        items = self.collections.get(name, [])
        start = int(request.query.get("continue") or 0)
        more = str(start + 1) if start + 1 < len(items) else ""
        page = {"metadata": {"continue": more}, "items": items[start : start + 1]}
        return web.json_response(page)


def with_env(raw: Json) -> Json:
    raw["spec"]["containers"][0]["env"] = [
        {"name": "PASSWORD", "value": "secret"},
        {"name": "gschConfig", "value": "{}"},
    ]
    raw["spec"]["initContainers"] = [{"name": "i", "env": [{"name": "TOKEN", "value": "secret"}]}]
    return raw


def there() -> Objects:
    return Objects(
        "/podgroups",
        nodes=[node_json("a"), node_json("b")],
        pods=[
            pod_json("running", {"cpu": "1"}, nodeName="a"),
            pod_json("pending"),
            with_env(pod_json("other", {"cpu": "2"}, nodeName="b")),
        ],
        persistentvolumeclaims=[claim()],
    )


async def test_all_pages_of_all_collections_are_read(tmp_path: Path) -> None:
    async with serving(there(), tmp_path) as client:
        pods, snapshot = await live.cluster(client)
    assert [pod.metadata.name for pod in pods] == ["running", "pending", "other"]
    assert snapshot.view().requested("cpu").tolist() == [1000, 2000]
    assert list(snapshot.storage.claims) == ["default/data"]


async def test_a_pod_that_runs_is_looked_at_as_if_it_were_pending(tmp_path: Path) -> None:
    async with serving(there(), tmp_path) as client:
        pod, snapshot = await live.pod_and_cluster(client, "default/running")
    assert (pod.key, pod.spec.node_name) == ("default/running", "")
    assert snapshot.view().requested("cpu").tolist() == [0, 2000]


async def test_a_pod_that_is_not_there_is_the_api_server_s_word(tmp_path: Path) -> None:
    async with serving(there(), tmp_path) as client:
        with pytest.raises(ApiError, match="ghost not found"):
            await live.pod_and_cluster(client, "default/ghost")


async def test_only_a_kind_that_every_server_has_must_be_there(tmp_path: Path) -> None:
    async with serving(Objects("/services", nodes=[], pods=[]), tmp_path) as client:
        with pytest.raises(ApiError, match="could not find"):
            await live.cluster(client)


async def test_a_recording_has_every_kind_and_reads_back(tmp_path: Path) -> None:
    server = there()
    async with serving(server, tmp_path) as client:
        recorded: list[dict[str, Any]] = await live.recording(client)
    assert {resource.path for resource in RESOURCES.values()} <= set(server.asked)
    kinds = [item["kind"] for item in recorded]
    assert kinds == ["Node", "Node", "Pod", "Pod", "Pod", "PersistentVolumeClaim"]
    path = tmp_path / "recorded.yaml"
    path.write_text(yaml.safe_dump(recorded[0]))
    (again,) = read([path]).nodes
    assert isinstance(again, Node)
    assert again.metadata.name == "a"
    assert again.status.allocatable == node_json("a")["status"]["allocatable"]


async def test_a_recording_keeps_no_values_of_environment_variables(tmp_path: Path) -> None:
    async with serving(there(), tmp_path) as client:
        recorded = await live.recording(client)
    assert "secret" not in str(recorded)
    (other,) = (r for r in recorded if r["metadata"]["name"] == "other")
    assert other["spec"]["containers"][0]["env"] == [{"name": "gschConfig", "value": "{}"}]
    assert "env" not in other["spec"]["initContainers"][0]
