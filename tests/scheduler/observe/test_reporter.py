"""Events and conditions: what is new shows, what is not is not written again."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from cluster.api.event_recorder import NOTE_LIMIT, REPEAT_AFTER_S, EventRecorder
from cluster.api.writer import ApiWriter, Write
from cluster.objects.core import Pod
from scheduler.observe.reporter import Reporter
from tests.harness.make import pod
from tests.harness.scripted import refusal, serving


class Sink:
    """An API server that takes everything; the first answers may be refusals."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self.refusals:
            return refusal(self.refusals.pop(0), **{"Retry-After": "0"})
        self.bodies.append(json.loads(await request.text()))
        return web.json_response({}, status=201)


async def written(folder: Path, sink: Sink, use: Any) -> list[dict[str, Any]]:
    async with serving(sink, folder) as client:
        writer = ApiWriter(client, workers=2)
        task = asyncio.create_task(writer.run())
        use(writer)
        assert await writer.drain(10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return sink.bodies


async def test_a_changed_note_is_written_at_once_and_an_old_one_again(tmp_path: Path) -> None:
    now = [0.0]

    def use(writer: ApiWriter) -> None:
        events = EventRecorder(writer, clock=lambda: now[0])

        def warn(note: str) -> None:
            events.warning(pod("p"), "FailedScheduling", "Scheduling", note, "gsch")

        for note in ("one", "one", "two", "two", "one"):
            warn(note)
            now[0] += 1
        now[0] += REPEAT_AFTER_S
        warn("one")

    bodies = await written(tmp_path, Sink(), use)
    assert sorted(body["note"] for body in bodies) == ["one", "one", "one", "two"]
    assert len({body["metadata"]["name"] for body in bodies}) == 4


async def test_a_long_note_is_cut_as_upstream_cuts_it(tmp_path: Path) -> None:
    def use(writer: ApiWriter) -> None:
        EventRecorder(writer).warning(pod("p"), "R", "A", "é" * 2000, "gsch")

    note = (await written(tmp_path, Sink(), use))[0]["note"]
    assert len(note.encode()) <= NOTE_LIMIT
    assert note.endswith("é ...")


def with_condition(found: Pod, message: str) -> Pod:
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    }  # fmt: skip
    status = msgspec.convert({"conditions": [condition]}, type(found.status))
    return msgspec.structs.replace(found, status=status)


async def test_a_condition_is_written_uncut_once_and_when_it_changes(tmp_path: Path) -> None:
    long = "x" * 3000

    def use(writer: ApiWriter) -> None:
        reporter = Reporter(writer)
        reporter.unschedulable(pod("silent"), "another replica has the word")
        reporter.enable()
        reporter.unschedulable(pod("a"), long)
        reporter.unschedulable(pod("a"), long)
        reporter.unschedulable(with_condition(pod("b"), "known"), "known")

    bodies = await written(tmp_path, Sink(), use)
    patches = [body["status"]["conditions"][0] for body in bodies if "status" in body]
    assert [patch["message"] for patch in patches] == [long]
    assert patches[0]["reason"] == "Unschedulable"


async def test_the_newest_word_replaces_one_that_has_not_gone_out(tmp_path: Path) -> None:
    def use(writer: ApiWriter) -> None:
        for text in ("old", "older", "new"):
            writer.put("key", Write("POST", "/x", json.dumps({"text": text}).encode()))

    assert await written(tmp_path, Sink(), use) == [{"text": "new"}]


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_refusal_for_now_is_tried_again(code: int, tmp_path: Path) -> None:
    def use(writer: ApiWriter) -> None:
        writer.put("key", Write("POST", "/x", b"{}"))

    assert await written(tmp_path, Sink(code, code), use) == [{}]


async def test_a_refusal_for_good_is_given_up_and_counted(tmp_path: Path) -> None:
    kept: list[ApiWriter] = []
    refused: list[int] = []

    def use(writer: ApiWriter) -> None:
        kept.append(writer)
        writer.put("key", Write("POST", "/x", b"{}", on_refused=lambda: refused.append(1)))

    assert await written(tmp_path, Sink(403), use) == []
    assert kept[0].dropped == 1
    assert refused == [1]


async def test_giving_up_a_nomination_and_a_condition_after_it_are_both_written_in_order(
    tmp_path: Path,
) -> None:
    def use(writer: ApiWriter) -> None:
        reporter = Reporter(writer)
        reporter.enable()
        for number in range(20):
            new = pod(f"p{number}")
            reporter.clear_nomination(new)
            reporter.unschedulable(new, "0/1 nodes are available: 1 Insufficient cpu.")

    bodies = await written(tmp_path, Sink(), use)
    for number in range(20):
        own = [b["status"] for b in bodies if b["metadata"].get("uid") == f"uid-p{number}"]
        assert [set(status) for status in own] == [{"nominatedNodeName"}, {"conditions"}]
