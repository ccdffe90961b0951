"""From the decision to the bind: what plugins may do between, and what each end means."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cluster.api.reflector import EventType
from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from filters.common.plugin import Event, Plugin, PodInfo, Refusal
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import Framework
from scheduler.queue.scheduling_queue import QueueState
from scheduler.scheduler import Scheduler
from tests.harness.in_process import scheduling, until
from tests.harness.make import Json, node, pod, pod_json
from tests.harness.scripted import refusal, serving


class Server:
    """Answers binds with these statuses in turn, then with 201; pods are where `on` says."""

    def __init__(self, *statuses: int, on: str | None = "") -> None:
        self.statuses, self.on = list(statuses), on
        self.bound: list[str] = []
        self.patches: list[Json] = []
        self.notes: list[str] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/binding"):
            status = self.statuses.pop(0) if self.statuses else 201
            if status != 201:
                return refusal(status, "as told", **{"Retry-After": "0"})
            self.bound.append((await request.json())["target"]["name"])
        elif request.method == "PATCH":
            self.patches.append((await request.json())["status"])
        elif request.method == "POST":
            self.notes.append((await request.json())["note"])
        elif request.method == "GET":
            if self.on is None:
                return refusal(404)
            raw = pod_json(request.path.rpartition("/")[2], nodeName=self.on)
            raw["metadata"]["uid"] = f"uid-{raw['metadata']['name']}"
            return web.json_response(raw)
        return web.json_response({}, status=201 if request.method == "POST" else 200)


@asynccontextmanager
async def cluster(server: Server, folder: Path) -> AsyncIterator[Scheduler]:
    """A scheduler of one node."""
    async with serving(server, folder) as client:
        made = Scheduler(client, Configuration(seed=1), Matrix())
        for reflector in made.feed.reflectors.values():
            reflector.synced.set()
        made.snapshot.set_node(node("a", cpu="4"))
        writing = asyncio.create_task(made.writer.run())
        async with scheduling(made):
            yield made
        made.stop()
        await made.binding.drain(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def arrive(made: Scheduler, *pods: Pod) -> None:
    for one in pods:
        made.feed.on_pod(EventType.ADDED, None, one)


def framework(made: Scheduler) -> Framework:
    return made.frameworks["gsch"]


def place(made: Scheduler) -> QueueState | None:
    queued = made.queue.pods.get("default/p")
    return queued.state if queued is not None else None


async def test_a_pod_that_is_bound_leaves_the_queue_and_its_owner_is_told(tmp_path: Path) -> None:
    server = Server()
    async with cluster(server, tmp_path) as made:
        arrive(made, pod("p"))
        await until(lambda: place(made) is None and bool(server.notes))
        assert made.snapshot.assumed["default/p"].deadline is not None
    assert server.bound == ["a"]
    assert server.notes == ["Successfully assigned default/p to a"]


async def test_a_refused_bind_gives_the_room_back_and_the_pod_backs_off(tmp_path: Path) -> None:
    server = Server(422)
    async with cluster(server, tmp_path) as made:
        arrive(made, pod("p"))
        await until(lambda: place(made) is QueueState.BACKOFF)
        assert made.snapshot.pods == {}
        await until(lambda: bool(server.notes))
    assert server.notes == ["binding to a failed: 422 as told"]


@pytest.mark.parametrize("on", [None, "elsewhere"], ids=["gone", "taken"])
async def test_a_pod_that_is_gone_or_elsewhere_is_let_go(on: str | None, tmp_path: Path) -> None:
    server = Server(409, on=on)
    async with cluster(server, tmp_path) as made:
        arrive(made, pod("p"))
        await until(lambda: len(made.queue.pods) == 0)
        assert made.snapshot.pods == {}
        assert server.bound == []


async def test_a_bind_whose_answer_was_lost_counts_where_the_pod_is_on_the_node(
    tmp_path: Path,
) -> None:
    server = Server(500, on="a")
    async with cluster(server, tmp_path) as made:
        arrive(made, pod("p"))
        await until(lambda: place(made) is None)
        assert list(made.snapshot.pods) == ["default/p"]


class Prepares(Plugin):
    """Has something to do before the bind, which ends as the test says."""

    NAME = "Prepares"
    events = Event.NODE_TAINT

    def __init__(self) -> None:
        self.asked = 0
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def pre_bind(self, info: PodInfo, held: Any, node: str) -> None:
        self.asked += 1
        await asyncio.shield(self.outcome)


class Permits(Plugin):
    """Holds every pod until it is allowed."""

    NAME = "Permits"
    events = Event.NODE_TAINT

    def permit(self, info: PodInfo, held: Any, snapshot: Snapshot, row: int) -> float:
        return 600.0


async def test_while_a_plugin_prepares_the_api_server_shows_where_the_pod_will_go(
    tmp_path: Path,
) -> None:
    server = Server()
    async with cluster(server, tmp_path) as made:
        plugin = Prepares()
        framework(made).pre_binds = (plugin,)
        arrive(made, pod("p"))
        await until(lambda: {"nominatedNodeName": "a"} in server.patches)
        assert server.bound == []
        plugin.outcome.set_result(None)
        await until(lambda: server.bound == ["a"])


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (Refusal("the disk is away"), "the disk is away"),
        (ZeroDivisionError("a bug"), "internal error in pre-bind: ZeroDivisionError('a bug')"),
    ],
)
async def test_a_plugin_that_fails_before_the_bind_sends_the_pod_back(
    error: Exception, note: str, tmp_path: Path
) -> None:
    server = Server()
    async with cluster(server, tmp_path) as made:
        plugin = Prepares()
        framework(made).pre_binds = (plugin,)
        arrive(made, pod("p"))
        await until(lambda: plugin.asked == 1)
        plugin.outcome.set_exception(error)
        await until(lambda: place(made) is QueueState.BACKOFF)
        assert made.snapshot.pods == {}
        # What was shown of the node is taken back, and is not believed until then.
        assert made.nominator.shown("default/p", "a") == ""
        await until(lambda: {"nominatedNodeName": None} in server.patches)
        await until(lambda: note in server.notes)
    assert server.bound == []


async def test_a_pod_that_is_being_prepared_gives_way_to_a_greater_one(tmp_path: Path) -> None:
    server = Server()
    async with cluster(server, tmp_path) as made:
        plugin = Prepares()
        framework(made).pre_binds = (plugin,)
        arrive(made, pod("p", requests={"cpu": "3"}))
        await until(lambda: plugin.asked == 1)
        arrive(made, pod("greater", requests={"cpu": "3"}, priority=9))
        await until(lambda: "default/greater" in made.snapshot.pods)
        assert "default/p" not in made.snapshot.pods
        note = "given up: a pod of higher priority needs the room"
        await until(lambda: note in server.notes)
        assert not made.binding.give_up("default/p", "uid-p")


async def test_a_pod_that_is_held_is_bound_once_it_is_allowed(tmp_path: Path) -> None:
    server = Server()
    async with cluster(server, tmp_path) as made:
        framework(made).permits = (Permits(),)
        handle = framework(made).instances[0].handle
        arrive(made, pod("p"))
        await until(lambda: len(handle.waiting_pods()) == 1)
        assert handle.allow("uid-p", "Permits")
        await until(lambda: server.bound == ["a"])


async def test_a_pod_that_is_rejected_waits_for_that_plugin_s_events(tmp_path: Path) -> None:
    server = Server()
    async with cluster(server, tmp_path) as made:
        framework(made).permits = (Permits(),)
        handle = framework(made).instances[0].handle
        arrive(made, pod("p"))
        await until(lambda: len(handle.waiting_pods()) == 1)
        assert handle.reject("uid-p", "Permits", "no quota")
        await until(lambda: place(made) is QueueState.UNSCHEDULABLE)
        assert made.queue.pods["default/p"].plugins == {"Permits"}
        assert made.snapshot.pods == {}
        await until(lambda: "0/1 nodes are available: 1 no quota." in server.notes)


async def test_no_more_binds_than_slots_are_under_way(tmp_path: Path) -> None:
    under_way, most = 0, 0

    class Slow(Server):
        async def __call__(self, request: web.Request) -> web.StreamResponse:
            nonlocal under_way, most
            if not request.path.endswith("/binding"):
                return await super().__call__(request)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1
            return await super().__call__(request)

    server = Slow()
    async with serving(server, tmp_path) as client:
        made = Scheduler(client, Configuration(seed=1, parallelism=3), Matrix())
        for reflector in made.feed.reflectors.values():
            reflector.synced.set()
        made.snapshot.set_node(node("a"))
        async with scheduling(made):
            arrive(made, *(pod(f"p{number}") for number in range(30)))
            await until(lambda: len(server.bound) == 30)
    assert most <= 3
