"""Making room for a pod: its victims are deleted while it waits, and what happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cluster.api.reflector import EventType
from cluster.objects.core import Pod
from latency.matrix import Matrix
from scheduler.config.configuration import Configuration
from scheduler.queue.scheduling_queue import QueueState
from scheduler.scheduler import Scheduler
from tests.harness.in_process import scheduling, until
from tests.harness.make import node, pod
from tests.harness.scripted import refusal, serving


class Server:
    """Takes every write; `refused` deletions get this status."""

    def __init__(self, refused: int = 0) -> None:
        self.refused = refused
        self.deleted: list[str] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            if self.refused:
                return refusal(self.refused, "may not")
            self.deleted.append(request.path.rpartition("/")[2])
        return web.json_response({}, status=201 if request.method == "POST" else 200)


def running(name: str, cpu: str, priority: int = 0, on: str = "a") -> Pod:
    return pod(name, requests={"cpu": cpu}, priority=priority, nodeName=on)


@asynccontextmanager
async def cluster(server: Server, folder: Path, *pods: Pod) -> AsyncIterator[Scheduler]:
    """A scheduler of one node of four cores, on which these pods run."""
    async with serving(server, folder) as client:
        made = Scheduler(client, Configuration(seed=1), Matrix())
        for reflector in made.feed.reflectors.values():
            reflector.synced.set()
        made.snapshot.set_node(node("a", cpu="4"))
        for one in pods:
            arrive(made, one)
        async with scheduling(made):
            yield made
        await made.preemptor.drain(10)


def arrive(made: Scheduler, *pods: Pod) -> None:
    for one in pods:
        made.feed.on_pod(EventType.ADDED, None, one)


def leave(made: Scheduler, one: Pod) -> None:
    made.feed.on_pod(EventType.DELETED, one, None)


def nominated(made: Scheduler) -> int | None:
    """The row on which room is being made for the new pod."""
    return made.nominator.row("default/new")


NEW: Any = {"requests": {"cpu": "3"}, "priority": 9}


async def test_victims_are_deleted_and_the_pod_takes_their_place(tmp_path: Path) -> None:
    server, low = Server(), running("low", "2")
    async with cluster(server, tmp_path, low, running("stays", "1", 9)) as made:
        arrive(made, pod("new", **NEW))
        await until(lambda: server.deleted == ["low"])
        assert nominated(made) == 0
        assert "default/new" not in made.snapshot.pods
        leave(made, low)
        await until(lambda: "default/new" in made.snapshot.pods)
        assert made.snapshot.pods["default/new"].node == "a"


async def test_room_that_is_made_is_left_to_the_pod_it_is_made_for(tmp_path: Path) -> None:
    server, low = Server(), running("low", "4")
    async with cluster(server, tmp_path, low) as made:
        arrive(made, pod("new", **NEW))
        await until(lambda: server.deleted == ["low"])
        arrive(made, pod("lesser", requests={"cpu": "2"}, priority=1))
        leave(made, low)
        await until(lambda: "default/new" in made.snapshot.pods)
        await until(lambda: made.queue.pods["default/lesser"].state is QueueState.UNSCHEDULABLE)
        assert "default/lesser" not in made.snapshot.pods


async def test_a_victim_that_may_not_be_deleted_ends_the_nomination(tmp_path: Path) -> None:
    server = Server(refused=403)
    async with cluster(server, tmp_path, running("low", "2")) as made:
        # Each try fails anew, after a backoff; in between nobody is promised the node.
        arrive(made, pod("new", **NEW))
        await until(lambda: made.nominator.given_up == {"default/new": "a"})
        assert nominated(made) is None
        assert "default/low" in made.snapshot.pods
        assert not made.queue.pods["default/new"].held


async def test_a_pod_nominated_before_gives_way_to_a_greater_one(tmp_path: Path) -> None:
    server, low = Server(), running("low", "4")
    async with cluster(server, tmp_path, low) as made:
        arrive(made, pod("first", requests={"cpu": "3"}, priority=5))
        await until(lambda: server.deleted == ["low"])
        arrive(made, pod("new", **NEW))
        await until(lambda: nominated(made) == 0)
        assert made.nominator.row("default/first") is None
        leave(made, low)
        await until(lambda: "default/new" in made.snapshot.pods)
        assert "default/first" not in made.snapshot.pods


async def test_a_pod_that_waits_for_its_victims_chooses_no_others(tmp_path: Path) -> None:
    server = Server()
    lows = [running("one", "2"), running("two", "2", 1)]
    async with cluster(server, tmp_path, *lows) as made:
        arrive(made, pod("new", requests={"cpu": "2"}, priority=9))
        await until(lambda: server.deleted == ["one"])
        await until(lambda: not made.queue.pods["default/new"].held)
        # Something else changes: the pod is tried again, and its victim is still there.
        made.snapshot.set_node(node("b", cpu="1"))
        made.queue.release("default/new", "NodeAdd")
        attempts = made.queue.pods["default/new"].attempts
        await until(lambda: made.queue.pods["default/new"].attempts > attempts)
        await until(lambda: made.queue.pods["default/new"].state is QueueState.UNSCHEDULABLE)
        await made.preemptor.drain(10)
        assert server.deleted == ["one"]


@pytest.mark.parametrize("end", ["deleted", "changed"])
async def test_a_search_for_a_pod_that_goes_or_changes_has_no_outcome(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of no time at all: the search goes on for many turns."""
    monkeypatch.setattr("scheduler.preemption.executor.SLICE_S", 0.0)
    server = Server()
    async with cluster(server, tmp_path) as made:
        for number in range(40):
            made.snapshot.set_node(node(f"n{number}", cpu="4"))
            arrive(made, running(f"low{number}", "4", on=f"n{number}"))
        arrive(made, running("own", "4"))
        new = pod("new", **NEW)
        arrive(made, new)
        await until(lambda: made.preemptor.searching)
        if end == "deleted":
            leave(made, new)
        else:
            changed = pod("new", requests={"cpu": "5"}, priority=9)
            made.feed.on_pod(EventType.MODIFIED, new, changed)
        await until(lambda: not made.preemptor.searching)
        await asyncio.sleep(0)
        assert server.deleted == []
        assert nominated(made) is None
