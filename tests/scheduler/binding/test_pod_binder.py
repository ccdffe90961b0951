"""One bind and all that can become of it: each answer of the API server, and none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cluster.objects.core import Pod
from scheduler.binding.pod_binder import Binder, BindResult, Outcome
from tests.harness.make import Json, pod, pod_json
from tests.harness.scripted import cut, refusal, serving

CREATED = "201"
CUT = "cut"


def current(node: str = "", uid: str = "uid-p", **metadata: Any) -> Json:
    """The pod as the API server has it."""
    spec: Json = {"nodeName": node} if node else {}
    body = pod_json("p", **spec)
    body["metadata"] |= {"uid": uid, **metadata}
    return body


class Script:
    """Answers to binds in turn, the last one again and again; and the pod that is read."""

    def __init__(self, binds: list[Any], reads: list[Any]) -> None:
        self._binds, self._reads = iter(binds), iter(reads)
        self.binds = self.reads = 0
        self._last: Any = None

    def _next(self, answers: Iterator[Any]) -> Any:
        self._last = next(answers, self._last)
        return self._last

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            self.binds += 1
            assert request.path == "/api/v1/namespaces/default/pods/p/binding"
            body = await request.json()
            assert body["metadata"]["uid"] == "uid-p"
            assert body["target"]["name"] == "n"
            answer = self._next(self._binds)
        else:
            self.reads += 1
            answer = self._next(self._reads)
        if answer == CUT:
            return cut(request)
        if answer == CREATED:
            return web.json_response({"kind": "Status", "status": "Success"}, status=201)
        if isinstance(answer, dict):
            return web.json_response(answer)
        code, headers = answer if isinstance(answer, tuple) else (answer, {})
        return refusal(code, **headers)


CASES: dict[str, tuple[list[Any], list[Any], Outcome, int, int]] = {
    # binds answered, pods read, outcome, binds made, reads made
    "created": ([CREATED], [], Outcome.BOUND, 1, 0),
    "409: an earlier try of ours had gone through": ([409], [current("n")], Outcome.BOUND, 1, 1),
    "409: somebody else bound it": ([409], [current("other")], Outcome.TAKEN, 1, 1),
    "409: another pod under the name": ([409], [current(uid="new")], Outcome.DELETED, 1, 1),
    "409: being deleted": (
        [409], [current(deletionTimestamp="2026-01-01T00:00:00Z")], Outcome.DELETED, 1, 1,
    ),
    "409: gated or refused for another reason": ([409], [current()], Outcome.FAILED, 1, 1),
    "404: gone": ([404], [404], Outcome.DELETED, 1, 1),
    "404 for the bind, but the pod is there": ([404], [current()], Outcome.FAILED, 1, 1),
    "422": ([422], [], Outcome.FAILED, 1, 0),
    "403": ([403], [], Outcome.FAILED, 1, 0),
    "429 is waited out": ([(429, {"Retry-After": "0"}), CREATED], [], Outcome.BOUND, 2, 0),
    "500 after which the pod is bound": ([500], [current("n")], Outcome.BOUND, 1, 1),
    "500 after which it is not": ([500, CREATED], [current()], Outcome.BOUND, 2, 1),
    "503 with Retry-After": (
        [(503, {"Retry-After": "0"}), CREATED], [current()], Outcome.BOUND, 2, 1,
    ),
    "504 and 504 again": ([504, 504, CREATED], [current(), current()], Outcome.BOUND, 3, 2),
    "the reply is lost, the bind was done": ([CUT], [current("n")], Outcome.BOUND, 1, 1),
    "the reply is lost, the bind was not done": ([CUT, CREATED], [current()], Outcome.BOUND, 2, 1),
    "the reply is lost, and reading fails for a while": (
        [CUT], [CUT, 503, 500, current("n")], Outcome.BOUND, 1, 4,
    ),
    "the reply is lost, and the pod was deleted": ([CUT], [404], Outcome.DELETED, 1, 1),
    "the reply is lost, and another bound it": ([CUT], [current("x")], Outcome.TAKEN, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_outcome(case: str, tmp_path: Path) -> None:
    binds, reads, outcome, made, read = CASES[case]
    script = Script(binds, reads)
    async with serving(script, tmp_path) as client:
        result = await Binder(client).bind(pod("p"), "n")
    assert result.outcome is outcome
    assert (script.binds, script.reads) == (made, read)


async def test_what_the_api_server_said_is_passed_on(tmp_path: Path) -> None:
    async with serving(Script([422], []), tmp_path) as client:
        assert await Binder(client).bind(pod("p"), "n") == BindResult(Outcome.FAILED, "422 no")


async def test_patience_ends(tmp_path: Path) -> None:
    script = Script([429], [])
    async with serving(script, tmp_path) as client:
        result = await Binder(client, retry_for_s=0.3).bind(pod("p"), "n")
    assert result == BindResult(Outcome.FAILED, "429 no")
    assert script.binds > 1


async def test_a_lasting_403_on_reading_ends_when_the_watch_shows_the_pod(tmp_path: Path) -> None:
    """It holds no bind slot meanwhile, and the reason is passed on."""
    script = Script([CUT], [403])
    shown: list[str | None] = [None, None]
    reasons: list[str] = []
    slot = asyncio.Semaphore(1)

    def observed(_: Pod) -> str | None:
        assert not slot.locked()
        return shown.pop(0) if shown else "n"

    async with serving(script, tmp_path) as client:
        binder = Binder(client, observed=observed)
        result = await binder.bind(pod("p"), "n", slot, lambda _, why: reasons.append(why))
    assert result.outcome is Outcome.BOUND
    assert reasons == ["403 no", "403 no"]


async def test_a_pod_deleted_while_it_cannot_be_read_is_gone(tmp_path: Path) -> None:
    async with serving(Script([CUT], [403]), tmp_path) as client:
        result = await Binder(client, observed=lambda _: "").bind(pod("p"), "n")
    assert result.outcome is Outcome.DELETED
