"""The reflector against a scripted server: nothing lost, nothing doubled."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cluster.api import client, reflector
from cluster.api.reflector import EventType, Reflector
from cluster.objects.core import Node
from tests.harness.scripted import cut, lines, refusal, serving

Json = dict[str, Any]


def obj(name: str, version: int, uid: str = "") -> Json:
    return {
        "metadata": {"name": name, "resourceVersion": str(version), "uid": uid or f"uid-{name}"}
    }


def listed(version: int, *items: Json, more: str = "") -> web.Response:
    metadata = {"resourceVersion": str(version), "continue": more}
    return web.json_response({"metadata": metadata, "items": list(items)})


def event(kind: str, item: Json) -> Json:
    return {"type": kind, "object": item}


Answer = Callable[[web.Request], Any]


class Play:
    """Answers in turn; after the last one watches stay silent. Records what the handler is told."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.done = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        self.asked.append("watch " + query["resourceVersion"] if "watch" in query else "list")
        if not self.answers:
            self.done.set()
            return await lines(request, hold=5)
        answer = self.answers.pop(0)(request)
        found: web.StreamResponse = await answer if asyncio.iscoroutine(answer) else answer
        return found

    def handle(self, kind: EventType, old: Node | None, new: Node | None) -> None:
        item = new or old
        assert item is not None
        assert (old is None) is (kind is EventType.ADDED)
        assert (new is None) is (kind is EventType.DELETED)
        self.told.append((kind.value, item.metadata.name))


async def play(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *answers: Answer
) -> tuple[Play, set[str]]:
    monkeypatch.setattr(reflector, "FIRST_BACKOFF_S", 0.01)
    script = Play(*answers)
    async with serving(script.serve, folder) as api:
        backoff = reflector.Backoff(0.01, 0.02)
        found = Reflector(api, "/api/v1/nodes", Node, script.handle, backoff=backoff)
        task = asyncio.create_task(found.run())
        try:
            await asyncio.wait_for(script.done.wait(), 10)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return script, {key.removeprefix("/") for key in found.objects}


async def test_pages_are_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("a", 1), more="next"),
        lambda r: listed(5, obj("b", 2)),
    )  # fmt: skip
    assert names == {"a", "b"}
    assert script.told == [("Added", "a"), ("Added", "b")]
    assert script.asked == ["list", "list", "watch 5"]


async def test_a_page_whose_history_is_gone_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("a", 1), more="next"),
        lambda r: refusal(410),
        lambda r: listed(9, obj("b", 8)),
    )  # fmt: skip
    assert names == {"b"}
    assert script.told == [("Added", "b")]
    assert script.asked[-1] == "watch 9"


async def test_a_watch_goes_on_from_the_last_event_or_bookmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bookmark = {"metadata": {"resourceVersion": "40"}}
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("a", 1)),
        lambda r: lines(r, event("ADDED", obj("b", 6)), event("MODIFIED", obj("a", 7))),
        lambda r: lines(r, event("DELETED", obj("a", 8)), event("BOOKMARK", bookmark)),
    )  # fmt: skip
    assert script.asked == ["list", "watch 5", "watch 7", "watch 40"]
    assert names == {"b"}
    assert script.told == [
        ("Added", "a"), ("Added", "b"), ("Modified", "a"), ("Deleted", "a"),
    ]  # fmt: skip


async def test_a_cut_in_the_middle_of_a_line_brings_that_event_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5),
        lambda r: lines(r, event("ADDED", obj("a", 6)), b'{"type": "ADDED", "object": {"meta'),
        lambda r: lines(r, event("ADDED", obj("b", 7))),
    )  # fmt: skip
    assert script.asked[:3] == ["list", "watch 5", "watch 6"]
    assert script.told == [("Added", "a"), ("Added", "b")]
    assert names == {"a", "b"}


@pytest.mark.parametrize(
    "expired",
    [
        lambda r: refusal(410),
        lambda r: refusal(504, "Too large resource version"),
        lambda r: lines(r, event("ERROR", {"kind": "Status", "code": 410, "message": "old"})),
    ],
)
async def test_an_expired_watch_lists_again_and_tells_the_difference_only(
    expired: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("same", 1), obj("changed", 2), obj("gone", 3), obj("anew", 4)),
        expired,
        lambda r: listed(90, obj("same", 1), obj("changed", 80), obj("anew", 81, "other-uid"),
                         obj("new", 82)),
    )  # fmt: skip
    assert names == {"same", "changed", "anew", "new"}
    assert script.told[4:] == [
        ("Deleted", "gone"),
        ("Modified", "changed"),
        ("Deleted", "anew"),
        ("Added", "anew"),
        ("Added", "new"),
    ]


async def test_refusals_and_cuts_are_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: refusal(503),
        cut,
        lambda r: refusal(403),
        lambda r: refusal(429, **{"Retry-After": "0"}),
        lambda r: web.Response(text="<html>a proxy's page</html>"),
        lambda r: listed(5, obj("a", 1)),
        lambda r: refusal(500),
        cut,
        lambda r: lines(r, event("ADDED", obj("b", 6))),
    )  # fmt: skip
    assert names == {"a", "b"}
    assert script.told == [("Added", "a"), ("Added", "b")]
    assert script.asked[-1] == "watch 6"


async def test_a_half_open_watch_is_noticed_by_its_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection stands, nothing comes: after WATCH_SILENCE the watch is made anew."""
    monkeypatch.setattr(client, "WATCH_SILENCE", timedelta(seconds=0.3))
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("a", 1)),
        lambda r: lines(r, event("ADDED", obj("b", 6)), hold=60),
        lambda r: lines(r, event("ADDED", obj("c", 7))),
    )  # fmt: skip
    assert names == {"a", "b", "c"}
    assert script.asked[:4] == ["list", "watch 5", "watch 6", "watch 7"]


async def test_an_object_that_cannot_be_read_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"metadata": {"name": "a", "resourceVersion": "8"}, "spec": {"taints": 3}}
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("a", 1), {**broken, "metadata": {"name": "x"}}),
        lambda r: lines(r, event("MODIFIED", broken), event("ADDED", obj("b", 9))),
        lambda r: refusal(410),
        lambda r: listed(10, broken, obj("b", 9)),
    )  # fmt: skip
    assert names == {"a", "b"}
    assert script.told == [("Added", "a"), ("Added", "b")]
    assert script.asked[2] == "watch 9"


async def test_an_object_whose_last_form_cannot_be_read_is_gone_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"metadata": {"name": "a", "resourceVersion": "8"}, "spec": {"taints": 3}}
    script, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("a", 1), obj("b", 2)),
        lambda r: lines(r, event("DELETED", broken)),
    )  # fmt: skip
    assert names == {"b"}
    assert script.told[-1] == ("Deleted", "a")


async def test_a_bug_met_in_an_event_costs_that_event_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def handle(self: Play, kind: EventType, old: Node | None, new: Node | None) -> None:
        told.append(new.metadata.name if new else "")
        if told[-1] == "a":
            raise RuntimeError

    monkeypatch.setattr(Play, "handle", handle)
    _, names = await play(
        tmp_path, monkeypatch,
        lambda r: listed(5, obj("a", 1), obj("b", 2)),
        lambda r: lines(r, event("ADDED", obj("c", 6))),
    )  # fmt: skip
    assert told == ["a", "b", "c"]
    assert names == {"a", "b", "c"}


async def test_watches_that_end_at_once_are_opened_less_and_less_often(
    tmp_path: Path,
) -> None:
    """Each brings a bookmark first, so that they look alive."""
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "40"}})
    watches = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal watches
        if "watch" not in request.query:
            return listed(5, obj("a", 1))
        watches += 1
        return await lines(request, bookmark)

    async with serving(serve, tmp_path) as api:
        found = Reflector(api, "/api/v1/nodes", Node, lambda kind, old, new: None)
        task = asyncio.create_task(found.run())
        await found.synced.wait()
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert 1 <= watches <= 12
