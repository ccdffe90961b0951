"""From the API server's objects to the snapshot, and who hears of it."""

import asyncio
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web

from cluster.api.client import ApiClient
from cluster.api.reflector import EventType
from cluster.objects.core import ObjectMeta, Pod
from cluster.state.snapshot import PodChange, Snapshot
from filters.common.handle import WatchedKind
from scheduler import cluster_feed
from scheduler.cluster_feed import ClusterFeed, SharedSpecs
from scheduler.queue.events import ClusterEvent
from tests.harness.in_process import until
from tests.harness.make import Json, labelled, node, node_json, pod, pod_json
from tests.harness.scripted import lines, refusal, serving


class Listener:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def pod_pending(self, old: Pod | None, new: Pod) -> None:
        self.heard.append(("pending", new.metadata.name))

    def pod_bound(self, old: Pod | None, new: Pod, change: PodChange | None) -> None:
        self.heard.append(("bound", new.metadata.name, change))

    def pod_deleted(self, pod: Pod, freed: bool) -> None:
        self.heard.append(("deleted", pod.metadata.name, freed))

    def object_changed(self, kind: str, key: str) -> None:
        self.heard.append((kind, key))

    def cluster_changed(self, event: ClusterEvent) -> None:
        self.heard.append(event.label)


def feed(listener: Listener | None = None) -> tuple[ClusterFeed, Snapshot]:
    found = Snapshot()
    return ClusterFeed(cast(ApiClient, None), found, listener=listener), found


ADDED, MODIFIED, DELETED = EventType.ADDED, EventType.MODIFIED, EventType.DELETED


def test_nodes_come_change_and_go() -> None:
    listener = Listener()
    made, found = feed(listener)
    made.on_node(ADDED, None, node("a"))
    made.on_node(MODIFIED, node("a"), node("a"))
    made.on_node(MODIFIED, node("a"), node("a", cpu="8", labels={"x": "1"}))
    made.on_node(MODIFIED, node("a"), node("a", cpu="lots"))
    made.on_node(DELETED, node("a"), None)
    made.on_node(DELETED, node("never-there"), None)
    assert listener.heard == [
        "NodeAdd", "NodeAllocatableChange", "NodeLabelChange", ("Node", "a"), "NodeDelete",
    ]  # fmt: skip
    assert found.node_count == 0


def test_pods_are_counted_where_they_are_until_they_end() -> None:
    listener = Listener()
    made, found = feed(listener)
    made.on_node(ADDED, None, node("a"))
    listener.heard.clear()
    waits, runs = pod("p"), pod("p", nodeName="a")
    done = msgspec.structs.replace(
        runs, status=msgspec.structs.replace(runs.status, phase="Succeeded")
    )
    made.on_pod(ADDED, None, waits)
    made.on_pod(MODIFIED, waits, runs)
    assert list(found.pods) == ["default/p"]
    made.on_pod(MODIFIED, runs, runs)
    made.on_pod(MODIFIED, runs, done)
    made.on_pod(DELETED, done, None)
    bad = pod("bad", nodeName="a", requests={"cpu": "x"})
    made.on_pod(ADDED, None, bad)
    assert found.pods == {}
    assert listener.heard == [
        ("pending", "p"),
        ("bound", "p", PodChange.REQUESTS | PodChange.LOOK),
        ("bound", "p", PodChange.NONE),
        ("deleted", "p", True),
        ("deleted", "p", False),
        ("bound", "bad", None),
    ]


def test_without_a_listener_the_snapshot_is_kept_all_the_same() -> None:
    made, found = feed()
    made.on_node(ADDED, None, node("a"))
    made.on_pod(ADDED, None, pod("waits"))
    made.on_pod(ADDED, None, pod("runs", nodeName="a"))
    assert list(found.pods) == ["default/runs"]
    made.on_pod(DELETED, pod("runs", nodeName="a"), None)
    assert found.pods == {}


def test_pods_that_come_in_a_row_from_one_controller_share_what_is_alike() -> None:
    shared = SharedSpecs()
    first, second = (labelled(pod(name), app="web") for name in ("p", "q"))
    assert shared(first) is first
    like = shared(second)
    assert like == second
    assert like.spec is first.spec
    assert like.metadata.labels is first.metadata.labels
    other = labelled(pod("r"), app="db")
    assert shared(other).metadata.labels == {"app": "db"}
    bare = shared(pod("s"))
    assert bare.metadata.labels is None
    different = pod("t", requests={"cpu": "1"})
    assert shared(different) is different


class Thing(msgspec.Struct):
    """A kind that some plugin watches."""

    metadata: ObjectMeta


THINGS = WatchedKind("/apis/x/v1/things", Thing)


async def test_all_kinds_are_followed_and_pods_only_once_the_rest_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod is never judged by half a cluster."""
    asked: list[str] = []
    nodes_told = asyncio.Event()
    items: dict[str, list[Json]] = {
        "nodes": [node_json("a")],
        "pods": [pod_json("p", nodeName="a")],
        "things": [{"metadata": {"name": "t"}}],
        "storageclasses": [{"metadata": {"name": "late"}, "provisioner": "x"}],
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        if "watch" in request.query:
            return await lines(request, hold=600)
        if kind == "podgroups":
            return refusal(404)
        if kind == "nodes":
            await nodes_told.wait()
        asked.append(kind)
        body = {"metadata": {"resourceVersion": "1"}, "items": items.get(kind, [])}
        return web.json_response(body)

    found, listener = Snapshot(), Listener()
    changes: list[Any] = []
    async with serving(answer, tmp_path) as client:
        made = ClusterFeed(
            client,
            found,
            listener=listener,
            kinds=[THINGS],
            plugin_object_changed=lambda path, old, new: changes.append((path, old, new)),
        )
        task = asyncio.create_task(made.run())
        await until(lambda: made.problem() == "waiting for the first list of nodes, pods")
        assert "pods" not in asked
        nodes_told.set()
        await asyncio.wait_for(made.synced(), 60)
        assert made.problem() == ""
        monkeypatch.setattr(cluster_feed, "STALE_AFTER_S", -1.0)
        assert made.problem().startswith("nothing heard from the watch of nodes, pods, ")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert asked.index("pods") > asked.index("nodes")
    assert list(found.pods) == ["default/p"]
    assert list(found.storage.classes) == ["late"]
    assert ("StorageClass", "late") in listener.heard
    assert "StorageClassChange" in listener.heard
    ((path, old, new),) = changes
    assert (path, old, new.metadata.name) == (THINGS.path, None, "t")
    assert list(made.plugin_objects) == [THINGS.path]
