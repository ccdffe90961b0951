"""Victims are told why and deleted, each exactly as it was chosen."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cluster.state.records import PodRecord
from scheduler.preemption import eviction
from scheduler.preemption.eviction import EvictionFailed, evict
from tests.harness.make import node, pod, snapshot
from tests.harness.scripted import cut, refusal, serving

PATH = "/api/v1/namespaces/default/pods/victim"


def victim() -> PodRecord:
    return snapshot(node("a"), pods=(pod("victim", nodeName="a"),)).pods["default/victim"]


class Server:
    """Answers with these statuses in turn (0: a cut connection), then 200."""

    def __init__(self, *statuses: int, **headers: str) -> None:
        self.statuses, self.headers = list(statuses), headers
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[Any] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        self.bodies.append(json.loads(await request.text()))
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            return cut(request)
        if status == 200:
            return web.json_response({})
        return refusal(status, "the server said so", **{"Retry-After": "0"} | self.headers)


async def evicted(server: Server, folder: Path) -> None:
    async with serving(server, folder) as client:
        await evict(client, victim(), "gsch", asyncio.Semaphore(1))


MARK, DELETE = ("PATCH", f"{PATH}/status"), ("DELETE", PATH)


async def test_a_victim_is_marked_and_then_deleted_by_its_uid(tmp_path: Path) -> None:
    server = Server()
    await evicted(server, tmp_path)
    assert server.calls == [MARK, DELETE]
    marked, deleted = server.bodies
    assert marked["metadata"] == {"uid": "uid-victim"}
    (condition,) = marked["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "DisruptionTarget",
        "True",
        "PreemptionByScheduler",
    )
    assert condition["message"] == "gsch: preempting to accommodate a higher priority pod"
    assert deleted["preconditions"] == {"uid": "uid-victim"}
    assert "gracePeriodSeconds" not in deleted


@pytest.mark.parametrize(
    ("statuses", "calls"),
    [
        # Gone, or made anew under its name: left alone.
        ((404,), [MARK]),
        ((409,), [MARK]),
        ((200, 404), [MARK, DELETE]),
        ((200, 409), [MARK, DELETE]),
        # For now only: once more.
        ((429, 503), [MARK, MARK, MARK, DELETE]),
        ((0,), [MARK, MARK, DELETE]),
        ((200, 500), [MARK, DELETE, DELETE]),
    ],
)
async def test_an_answer_is_taken_for_what_it_means(
    statuses: tuple[int, ...], calls: Any, tmp_path: Path
) -> None:
    server = Server(*statuses)
    await evicted(server, tmp_path)
    assert server.calls == calls


@pytest.mark.parametrize(("statuses", "count"), [((403,), 1), ((422,), 1), ((200, 403), 2)])
async def test_a_refusal_for_good_is_raised_in_the_server_s_words(
    statuses: tuple[int, ...], count: int, tmp_path: Path
) -> None:
    server = Server(*statuses)
    with pytest.raises(EvictionFailed, match=f"{statuses[-1]} the server said so"):
        await evicted(server, tmp_path)
    assert len(server.calls) == count


@pytest.mark.parametrize("status", [0, 503])
async def test_trying_again_ends(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eviction, "RETRY_FOR_S", 0.0)
    server = Server(*[status] * 50)
    with pytest.raises(EvictionFailed):
        await evicted(server, tmp_path)
    assert len(server.calls) == 1


async def test_a_request_waits_for_its_slot(tmp_path: Path) -> None:
    server, slots = Server(), asyncio.Semaphore(0)
    async with serving(server, tmp_path) as client:
        task = asyncio.create_task(evict(client, victim(), "gsch", slots))
        await asyncio.sleep(0)
        assert server.calls == []
        slots.release()
        await asyncio.wait_for(task, 60)
    assert server.calls == [MARK, DELETE]
