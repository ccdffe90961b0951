"""The extender's routes: what kube-scheduler sends, and how failures are answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from cluster.objects.core import Pod
from cluster.state.snapshot import Snapshot
from extender import front
from extender.front import Facts, RequestLimits, application
from extender.service import ExtenderService
from extender.verbs import Verbs
from latency.matrix import Matrix, Readings
from latency.pairs import Pair
from scheduler.binding.pod_binder import Binder, BindResult, Outcome
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks
from tests.harness.extender import args
from tests.harness.make import Json, node, node_json, pod, pod_json, snapshot

BODY = 64 * 1024
NEAR = json.dumps({"priority": "GLowLatencyPriority", "option": {"sourceNode": "a"}})
PACK = json.dumps({"priority": "GMostRequestedPriority"})


class Binds:
    """Stands for the API server's bind."""

    def __init__(self, outcome: Outcome = Outcome.BOUND) -> None:
        self.outcome = outcome
        self.bound: list[tuple[str, str]] = []

    async def bind(self, pod: Pod, node: str, *_: Any, **__: Any) -> BindResult:
        self.bound.append((pod.key, node))
        return BindResult(self.outcome, "as told")


def world() -> Snapshot:
    return snapshot(
        node("a", cpu="4"),
        node("b", cpu="4"),
        node("c", cpu="1"),
        node("d", unschedulable=True),
        pods=(pod("there", requests={"cpu": "3"}, nodeName="b"),),
    )


class Extender:
    """What a test asks, and what it changes."""

    def __init__(self, client: ClientSession, found: Snapshot) -> None:
        self.client, self.snapshot = client, found
        self.problem = ""

    async def call(
        self, path: str, body: Any = None, method: str = "POST", **headers: str
    ) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.request(method, path, data=data, headers=headers) as reply:
            text = await reply.text()
            return reply.status, json.loads(text) if text.startswith(("{", "[")) else text


@asynccontextmanager
async def extender(
    margin: float | None = None, token: bytes = b"", binds: Binds | None = None
) -> AsyncIterator[Extender]:
    found, matrix = world(), Matrix()
    matrix.replace(Readings.of([Pair("a", "b", 1.0), Pair("a", "c", 9.0)]))
    framework = next(iter(frameworks(Configuration(), matrix).values()))

    async def running_on(name: str) -> set[str] | None:
        return {record.uid for record in found.pods.values() if record.node == name}

    service = ExtenderService(
        found, Verbs(found, framework, margin), cast(Binder, binds or Binds()), running_on
    )
    made: list[Extender] = []
    facts = Facts(
        problem=lambda: made[0].problem,
        sizes=lambda: (found.node_count, len(found.pods)),
        profile="<gsch>",
        configuration=lambda: msgspec.json.encode(Configuration()),
    )
    app = application(service, facts, RequestLimits(BODY, token))
    async with TestServer(app) as server, ClientSession(str(server.make_url("/"))) as client:
        made.append(Extender(client, found))
        yield made[0]


def wanting(cpu: str = "2", config: str | None = None) -> Json:
    raw = pod_json("wanting", {"cpu": cpu}, config)
    raw["metadata"]["uid"] = "uid-wanting"
    return raw


async def test_nodes_that_do_not_fit_are_told_with_their_reasons() -> None:
    async with extender() as found:
        status, answer = await found.call("/filter", args(wanting(), "a", "b", "c", "d"))
    assert status == 200
    assert answer["NodeNames"] == ["a"]
    assert answer["FailedNodes"] == {"b": "Insufficient cpu"}
    # What no removal helps: a node that is too small, and one that is cordoned.
    assert answer["FailedAndUnresolvableNodes"] == {
        "c": "Insufficient cpu",
        "d": "node(s) were unschedulable",
    }


async def test_whole_nodes_come_back_as_they_came() -> None:
    nodes = [node_json(name) | {"extra": name} for name in ("a", "c")]
    body = {"Pod": wanting(), "Nodes": {"items": nodes}, "NodeNames": None}
    async with extender() as found:
        _, answer = await found.call("/filter", body)
    assert answer["Nodes"]["items"] == nodes[:1]
    assert not answer.get("NodeNames")


async def test_a_pod_that_is_refused_as_a_whole_is_refused_on_every_node() -> None:
    raw = wanting()
    raw["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "gone"}}]
    async with extender() as found:
        _, answer = await found.call("/filter", args(raw, "a", "b"))
    reason = 'persistentvolumeclaim "gone" not found'
    assert answer["FailedAndUnresolvableNodes"] == {"a": reason, "b": reason}


async def test_within_a_margin_only_the_nearest_nodes_are_left() -> None:
    async with extender(margin=2.0) as found:
        _, answer = await found.call("/filter", args(wanting("100m", NEAR), "a", "b", "c"))
    assert answer["NodeNames"] == ["a", "b"]
    assert answer["FailedAndUnresolvableNodes"] == {
        "c": "node(s) more than 2 ms farther than the nearest that fits"
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # No policy, no say: kube-scheduler's own scores decide.
        (None, []),
        # The nearest first; the farthest is not named.
        (NEAR, [("a", 2), ("b", 1)]),
        # The fuller, the better.
        (PACK, [("b", 1)]),
    ],
)
async def test_nodes_are_ranked_by_the_pod_s_policy(config: str | None, expected: Any) -> None:
    names = ("a", "b", "c") if config == NEAR else ("a", "b")
    async with extender() as found:
        _, answer = await found.call("/prioritize", args(wanting("100m", config), *names))
    assert [(entry["Host"], entry["Score"]) for entry in answer] == expected


@pytest.mark.parametrize("form", ["NodeNameToMetaVictims", "NodeNameToVictims"])
async def test_only_candidates_whose_victims_make_room_are_left(form: str) -> None:
    victims: Any = [{"UID": "uid-there"}]
    if form == "NodeNameToVictims":
        victims = [pod_json("there") | {"metadata": {"name": "there", "uid": "uid-there"}}]
    candidates = {"b": {"Pods": victims, "NumPDBViolations": 1}, "c": {"Pods": []}}
    async with extender() as found:
        status, answer = await found.call("/preempt", {"Pod": wanting(), form: candidates})
        assert status == 200, answer
        assert list(answer["NodeNameToMetaVictims"]) == ["b"]
        assert answer["NodeNameToMetaVictims"]["b"]["NumPDBViolations"] == 1
        assert "default/there" in found.snapshot.pods
        status, answer = await found.call("/preempt", {"Pod": wanting()})
    assert (status, answer["Error"]) == (
        422,
        "neither NodeNameToMetaVictims nor NodeNameToVictims",
    )


@pytest.mark.parametrize("verb", ["prioritize", "preempt", "bind"])
async def test_caches_that_cannot_be_trusted_are_not_asked(verb: str) -> None:
    async with extender() as found:
        found.problem = "waiting for the first list of nodes"
        assert await found.call(f"/{verb}", args(wanting(), "a")) == (
            503,
            {"Error": "waiting for the first list of nodes"},
        )
        _, answer = await found.call("/filter", args(wanting(), "a"))
        assert answer["Error"] == "gsch extender: waiting for the first list of nodes"
        assert await found.call("/readyz", method="GET") == (503, f"{found.problem}\n")
        assert await found.call("/livez", method="GET") == (200, "ok\n")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not what kube-scheduler sends"),
        (b"\xff", 400, "not what kube-scheduler sends"),
        ({"Pod": wanting()}, 422, "neither NodeNames nor Nodes"),
        (b" " * (BODY + 1), 413, f"more than {BODY} bytes"),
    ],
)
async def test_a_request_that_cannot_be_read_is_answered_as_an_error(
    body: Any, status: int, words: str
) -> None:
    async with extender() as found:
        answered, answer = await found.call("/filter", body)
        assert (answered, words in answer["Error"]) == (status, True)
        _, metrics = await found.call("/metrics", method="GET")
    assert f'gsch_extender_requests_total{{code="{status}",verb="filter"}} 1.0' in metrics


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "BODY_TIMEOUT_S", 0.01)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with extender() as found, found.client.post("/filter", data=never()) as reply:
        assert reply.status == 408
        assert "no more of the body" in (await reply.json())["Error"]


async def test_a_bug_is_answered_and_does_not_end_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(ExtenderService, "filter", broken)
    async with extender() as found:
        status, answer = await found.call("/filter", args(wanting(), "a"))
        assert (status, answer) == (
            500,
            {"Error": "internal error; the extender's log says more"},
        )
        assert (await found.call("/livez", method="GET"))[0] == 200


async def test_errors_of_routes_and_methods_are_json_too() -> None:
    async with extender(token=b"0123456789abcdef") as found:
        bearer = {"Authorization": "Bearer 0123456789abcdef"}
        status, answer = await found.call("/filter", method="GET", **bearer)
        assert (status, answer["Error"]) == (405, "/filter is called by POST")
        status, answer = await found.call("/nothing", {}, **bearer)
        assert (status, answer["Error"]) == (404, "Not Found")
        status, answer = await found.call("/filter", {})
        assert (status, answer["Error"]) == (401, "a bearer token is needed")
        assert (await found.call("/livez", method="GET"))[0] == 200


async def test_the_front_page_tells_the_state_and_quotes_it() -> None:
    async with extender() as found:
        _, ready = await found.call("/", method="GET")
        assert "Ready: every cache is in step" in ready
        assert "<td>4</td>" in ready
        assert "&lt;gsch&gt;" in ready
        found.problem = "nothing heard from <pods>"
        _, problem = await found.call("/", method="GET")
        assert "nothing heard from &lt;pods&gt;" in problem
        _, configuration = await found.call("/configz", method="GET")
        assert configuration["profiles"][0]["schedulerName"] == "gsch"


@pytest.mark.parametrize(
    ("outcome", "error"), [(Outcome.BOUND, ""), (Outcome.TAKEN, "taken: as told")]
)
async def test_a_bind_is_the_api_server_s_word(outcome: Outcome, error: str) -> None:
    binds = Binds(outcome)
    body = {"PodName": "p", "PodNamespace": "ns", "PodUID": "u", "Node": "a"}
    async with extender(binds=binds) as found:
        status, answer = await found.call("/bind", body)
    assert status == 200
    assert binds.bound == [("ns/p", "a")]
    assert error in answer.get("Error", "")
    assert bool(answer.get("Error")) is bool(error)
