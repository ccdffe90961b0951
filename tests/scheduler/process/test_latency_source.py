"""Where the latency matrix comes from, and how it is kept."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cluster.api.client import ApiClient
from cluster.errors import ConfigError
from latency.matrix import FOREVER, Matrix, Readings
from latency.pairs import LatencyError, Pair
from scheduler.config.configuration import (
    AgentsService,
    ConfigMapReference,
    Latency,
    PrometheusServer,
)
from scheduler.process.latency_source import (
    Fitted,
    Poller,
    from_prometheus,
    once,
    predicted,
    sources,
    sparse,
)
from tests.harness.in_process import until
from tests.harness.scripted import lines, refusal, serving

TEXT = "- {source: a, target: b, rtt_ms: %s}\n"
MAP = ConfigMapReference("ns", "latency")


def config_map(text: str | None, version: int = 1) -> dict[str, Any]:
    meta = {"name": "latency", "namespace": "ns", "resourceVersion": str(version)}
    return {"metadata": meta, "data": {} if text is None else {"latency.yaml": text}}


class ConfigMaps:
    """An API server with one ConfigMap, whose changes a watch tells."""

    def __init__(self, first: str | None) -> None:
        self.first, self.changes = first, asyncio.Queue[dict[str, Any]]()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/configmaps/latency"):
            return web.json_response(config_map(self.first))
        if not request.path.endswith("/configmaps"):
            return refusal(404)
        if "watch" in request.query:
            return await lines(request, await self.changes.get())
        meta = {"resourceVersion": "1"}
        return web.json_response({"metadata": meta, "items": [config_map(self.first)]})


@asynccontextmanager
async def kept(settings: Latency, client: ApiClient, matrix: Matrix) -> AsyncIterator[None]:
    """While the block runs, so does what keeps the matrix."""
    tasks = [asyncio.create_task(work) for work in sources(settings, client, matrix)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def known(matrix: Matrix) -> list[tuple[str, str, float]]:
    return [(source, target, ms) for source, target, ms, _ in matrix.pairs()]


async def test_a_config_map_is_followed_and_bad_text_leaves_the_last_good(tmp_path: Path) -> None:
    server, matrix = ConfigMaps(TEXT % 5), Matrix()
    async with serving(server, tmp_path) as client, kept(Latency(config_map=MAP), client, matrix):
        await until(lambda: known(matrix) == [("a", "b", 5.0)])
        version = matrix.version
        for number, text in enumerate(("- nonsense", TEXT % 7), 2):
            await server.changes.put({"type": "MODIFIED", "object": config_map(text, number)})
        await until(lambda: known(matrix) == [("a", "b", 7.0)])
        assert matrix.version == version + 1


async def test_a_config_map_that_goes_leaves_its_last_matrix(tmp_path: Path) -> None:
    server, matrix = ConfigMaps(TEXT % 5), Matrix()
    async with serving(server, tmp_path) as client, kept(Latency(config_map=MAP), client, matrix):
        await until(lambda: len(matrix) == 1)
        await server.changes.put({"type": "DELETED", "object": config_map(None, 2)})
        await server.changes.put({"type": "ADDED", "object": config_map(TEXT % 9, 3)})
        await until(lambda: known(matrix) == [("a", "b", 9.0)])


@pytest.mark.parametrize(
    "settings",
    [Latency(), Latency(max_age_seconds=30, interval_seconds=15)],
)
async def test_without_a_source_nothing_keeps_the_matrix(settings: Latency, tmp_path: Path) -> None:
    matrix = Matrix()
    async with serving(ConfigMaps(None), tmp_path) as client:
        assert sources(settings, client, matrix) == []
        assert known(await once(settings, client)) == []
    assert matrix.max_age == FOREVER


async def test_a_file_is_read_once_at_the_start_so_that_mistakes_show(tmp_path: Path) -> None:
    path = tmp_path / "latency.yaml"
    settings = Latency(file=str(path))
    async with serving(ConfigMaps(None), tmp_path) as client:
        with pytest.raises(LatencyError, match="No such file"):
            sources(settings, client, Matrix())
        with pytest.raises(LatencyError, match="No such file"):
            await once(settings, client)
        path.write_text(TEXT % 3)
        matrix = Matrix()
        for work in sources(settings, client, matrix):
            work.close()
        assert known(matrix) == known(await once(settings, client)) == [("a", "b", 3.0)]


async def test_a_config_map_is_read_once_for_a_question(tmp_path: Path) -> None:
    async with serving(ConfigMaps(TEXT % 4), tmp_path) as client:
        assert known(await once(Latency(config_map=MAP), client)) == [("a", "b", 4.0)]
    async with serving(ConfigMaps(None), tmp_path) as client:
        assert known(await once(Latency(config_map=MAP), client)) == []
    async with serving(ConfigMaps("- nonsense"), tmp_path) as client:
        with pytest.raises(LatencyError, match="configmaps/latency"):
            await once(Latency(config_map=MAP), client)


async def test_agents_are_found_by_their_service_and_asked(tmp_path: Path) -> None:
    async def agent(_: web.Request) -> web.Response:
        return web.json_response([{"node": "b", "latency": 2.0, "age_s": 1.0}])

    application = web.Application()
    application.router.add_get("/{path:.*}", agent)
    async with TestServer(application, host="127.0.0.1") as server:
        endpoint = {"addresses": ["127.0.0.1"], "nodeName": "a"}
        slices = {
            "metadata": {"resourceVersion": "1"},
            "items": [{"metadata": {"name": "s", "namespace": "ns"}, "endpoints": [endpoint]}],
        }

        async def answer(request: web.Request) -> web.StreamResponse:
            if "watch" in request.query:
                return await lines(request, hold=0.1)
            assert request.path.endswith("/namespaces/ns/endpointslices")
            assert request.query["labelSelector"] == "kubernetes.io/service-name=agents"
            return web.json_response(slices)

        assert server.port is not None
        settings = Latency(agents=AgentsService("ns", "agents", server.port), interval_seconds=0.05)
        async with serving(answer, tmp_path) as client:
            assert known(await once(settings, client)) == [("a", "b", 2.0)]
            matrix = Matrix()
            async with kept(settings, client, matrix):
                await until(lambda: known(matrix) == [("a", "b", 2.0)])
            assert matrix.max_age == settings.max_age_seconds


async def test_a_token_file_that_cannot_be_read_is_named_by_its_field(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    async with serving(ConfigMaps(None), tmp_path) as client:
        for settings, field in (
            (Latency(agents=AgentsService("n", "s", token_file=gone)), "latency.agents.tokenFile"),
            (Latency(prometheus=PrometheusServer("http://x", token_file=gone)),
             "latency.prometheus.tokenFile"),
            (Latency(prometheus=PrometheusServer("http://x", username="u", password_file=gone)),
             "latency.prometheus.passwordFile"),
        ):  # fmt: skip
            with pytest.raises(ConfigError, match=field):
                sources(settings, client, Matrix())


async def test_prometheus_is_asked_again_and_again(tmp_path: Path) -> None:
    asked: list[str] = []

    async def prometheus(request: web.Request) -> web.Response:
        form = {**request.query, **(await request.post())}
        asked.append(str(form.get("query", "")))
        labels = {"source": "a", "target": "b", "quantile": "0.5"}
        value = [time.time(), "0.003" if "gsch_rtt_seconds{" in asked[-1] else "0"]
        result = [{"metric": labels, "value": value}]
        data = {"resultType": "vector", "result": result}
        return web.Response(body=json.dumps({"status": "success", "data": data}))

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", prometheus)
    async with TestServer(application, host="127.0.0.1") as server:
        settings = Latency(
            prometheus=PrometheusServer(str(server.make_url("/"))), interval_seconds=0.01
        )
        async with serving(ConfigMaps(None), tmp_path) as client:
            ((source, target, ms),) = known(await once(settings, client))
            assert (source, target) == ("a", "b")
            assert ms == pytest.approx(3.0)
            matrix = Matrix()
            async with kept(settings, client, matrix):
                await until(lambda: len(matrix) == 1)
                first = matrix.version
                await until(lambda: matrix.version > first)
        assert callable(from_prometheus(PrometheusServer("http://127.0.0.1:1"), "", 1.0))


@pytest.mark.parametrize("error", [LatencyError("not there"), RuntimeError("a bug")])
async def test_a_source_that_fails_leaves_what_it_said_last(error: Exception) -> None:
    answers: list[Readings | Exception] = [
        Readings.of([Pair("a", "b", 1.0)]), error, Readings.of([Pair("a", "b", 2.0)]),
    ]  # fmt: skip
    seen: list[list[tuple[str, str, float]]] = []
    matrix = Matrix()

    async def ask() -> Readings:
        seen.append(known(matrix))
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    task = asyncio.create_task(Poller(ask, matrix, 0.001).run())
    await until(lambda: known(matrix) == [("a", "b", 2.0)])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen[:3] == [[], [("a", "b", 1.0)], [("a", "b", 1.0)]]


async def test_what_a_poll_brought_is_unknown_once_it_is_too_old() -> None:
    matrix = Matrix(max_age=60.0)

    async def ask() -> Readings:
        return Readings.of([Pair("a", "b", 1.0)], time.time() - 61)

    ran: Callable[[], Awaitable[Readings]] = ask
    task = asyncio.create_task(Poller(ran, matrix, 0.001).run())
    await until(lambda: matrix.version >= 2)
    assert len(matrix) == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def star(nodes: int) -> Readings:
    """Every node measured from the first one and from its neighbour: most pairs are not."""
    pairs = [Pair("n0", f"n{i}", float(i)) for i in range(1, nodes)]
    pairs += [Pair(f"n{i}", f"n{i + 1}", 1.0) for i in range(1, nodes - 1)]
    return Readings.of(pairs)


def test_only_what_is_mostly_unknown_is_worth_predicting() -> None:
    assert not sparse(Readings())
    assert predicted(Readings()) is None
    everything = [Pair(a, b, 1.0) for a in "abc" for b in "abc" if a != b]
    assert not sparse(Readings.of(everything))
    # Half of six pairs are known, or one less.
    assert not sparse(Readings.of(everything[:3]))
    assert sparse(Readings.of([Pair("a", "b", 1.0), Pair("b", "c", 1.0)]))
    found = predicted(star(12))
    assert found is not None
    assert set(found.rows) == {f"n{i}" for i in range(12)}


def test_coordinates_are_dropped_once_nearly_all_is_measured() -> None:
    fitted, readings = Fitted(), star(12)
    kept_coordinates = fitted.of(readings, 0.0)
    assert fitted.of(readings, 1.0) is kept_coordinates
    names = [f"n{i}" for i in range(12)]
    full = Readings.of([Pair(a, b, 1.0) for a in names for b in names if a != b])
    assert fitted.of(full, 2.0) is None
