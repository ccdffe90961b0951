"""Ages, coordinates, and what Prometheus and the agents say."""

import asyncio
import gc
import json
import time

import msgspec
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from latency.agent.peers import Peer
from latency.coordinates import fit, relative_errors
from latency.matrix import Indexed, Matrix, Readings
from latency.pairs import LatencyError
from latency.sources import prometheus
from latency.sources.agents import Agents
from latency.sources.prometheus import (
    TIMES,
    Login,
    Measured,
    Prometheus,
    between_clusters,
    node_readings,
    samples_in,
    values,
)
from scheduler.process.latency_source import REFIT, REFIT_SOON, Fitted, predicted
from tests.harness.make import Json


def readings(*rows: tuple[str, str, float, float]) -> Readings:
    return Readings(
        [row[0] for row in rows],
        [row[1] for row in rows],
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
    )


def test_entries_that_grow_too_old_are_unknown_and_readers_are_told_by_the_version() -> None:
    matrix = Matrix(max_age=60)
    matrix.replace(readings(("a", "b", 1, 100), ("a", "c", 2, 150)))
    matrix.expire(155)
    assert (len(matrix), matrix.version) == (2, 1)
    matrix.expire(170)
    assert (len(matrix), matrix.version) == (1, 2)
    assert np.isnan(matrix.from_source("a", ["b"])[0])
    assert matrix.from_source("a", ["c"])[0] == 2
    assert not matrix.measured("a", "b")
    assert list(matrix.pairs()) == [("a", "c", 2.0, 150.0)]
    matrix.expire(171)
    assert matrix.version == 2


def test_a_stale_pair_leaves_the_other_direction_in_force() -> None:
    matrix = Matrix(max_age=60)
    matrix.replace(readings(("a", "b", 1, 0), ("b", "a", 9, 100)))
    matrix.expire(100)
    assert matrix.from_source("a", ["b"])[0] == 9


def world(nodes: int, seed: int) -> NDArray[np.float64]:
    """Metros in a plane, access links, noise of 10 % and a few detours."""
    rng = np.random.default_rng(seed)
    metros = rng.uniform(0, 40, size=(6, 2))
    at = metros[rng.integers(0, 6, nodes)] + rng.normal(scale=0.6, size=(nodes, 2))
    access = rng.gamma(2, 0.4, size=nodes) + 0.1
    times = np.linalg.norm(at[:, None] - at[None], axis=2) + access[:, None] + access[None]
    noise = np.triu(np.exp(rng.normal(scale=0.1, size=(nodes, nodes))), 1)
    found: NDArray[np.float64] = times * (noise + noise.T)
    return found


def test_coordinates_predict_most_pairs_from_a_few() -> None:
    times = world(300, seed=4)
    names = [f"n{number}" for number in range(300)]
    rng = np.random.default_rng(5)
    one = np.repeat(np.arange(300), 16)
    other = (one + rng.integers(1, 300, len(one))) % 300
    found = fit([names[i] for i in one], [names[i] for i in other], times[one, other])
    errors = relative_errors(found, times, names)
    assert np.median(errors) < 0.2
    # Guessing the median everywhere is what there would be without them.
    upper = np.triu_indices(300, 1)
    blind = np.abs(np.median(times[upper]) - times[upper]) / times[upper]
    assert np.median(errors) < np.median(blind) / 2


def test_pairs_that_nobody_measured_come_from_coordinates_and_measured_ones_do_not() -> None:
    times = world(40, seed=1)
    names = [f"n{number}" for number in range(40)]
    rows = [
        (names[i], names[(i + step) % 40], float(times[i, (i + step) % 40]), 0.0)
        for i in range(40)
        for step in (1, 3, 7, 12)
    ]
    sparse = readings(*rows)
    coordinates = predicted(sparse)
    assert coordinates is not None
    matrix = Matrix()
    matrix.replace(sparse, coordinates)
    row = matrix.from_source("n0", names)
    assert not np.isnan(row).any()
    assert row[1] == times[0, 1]
    assert row[0] == 0
    assert not matrix.measured("n0", "n2")
    dense = readings(*((a, b, 1.0, 0.0) for a in "abc" for b in "abc" if a != b))
    assert predicted(dense) is None


def series(source: str, target: str, value: float, **clusters: str) -> Json:
    labels = {"__name__": "gsch_rtt_seconds", "source": source, "target": target, **clusters}
    return {"metric": labels, "value": [1000.5, str(value)]}


def measured(times: list[Json], **others: list[Json]) -> Measured:
    columns = [times, *(others.get(name, []) for name in ("ages", "jitters", "losses"))]
    return Measured(*(values(samples_in(answer(column))) for column in columns))


def answer(result: list[Json]) -> bytes:
    """As Prometheus writes it: without white space."""
    return msgspec.json.encode(
        {"status": "success", "data": {"resultType": "vector", "result": result}}
    )


HERE = {"source_cluster": "c1", "target_cluster": "c1"}


def test_samples_of_several_clusters_are_kept_apart() -> None:
    there = {"source_cluster": "c2", "target_cluster": "c2"}
    across = {"source_cluster": "c1", "target_cluster": "c2"}
    found = measured(
        [
            series("a", "b", 0.001, **HERE),
            series("a", "b", 0.002, **there),
            series("a", "g1", 0.030, **across),
            series("b", "g2", 0.020, **across),
            series("a", "c", float("nan"), **HERE),
        ],
        ages=[series("a", "b", 50, **HERE), series("b", "g2", 40, **across)],
    )
    nodes = node_readings(found, 100, "c1")
    assert (list(nodes.sources), nodes.times.tolist(), nodes.stamps.tolist()) == (
        ["a"],
        [1.0],
        [50],
    )
    between = between_clusters(found, 100)
    assert (list(between.sources), list(between.targets)) == (["c1"], ["c2"])
    assert between.times.tolist() == [20.0]
    assert between.stamps.tolist() == [60]


def test_loss_and_jitter_make_a_round_trip_longer() -> None:
    """At equal medians 40 % loss ranks behind 5 %, and what loses everything is unknown."""
    losses = {"steady": 0.05, "lossy": 0.4, "dead": 1.0, "shaky": 0.0}
    found = measured(
        [series("a", name, 0.010, **HERE) for name in losses],
        losses=[series("a", name, loss, **HERE) for name, loss in losses.items()],
        jitters=[series("a", "shaky", 0.004, **HERE)],
    )
    times = dict(zip(*_columns(node_readings(found, 100, "", 1.0)), strict=True))
    assert times == {
        "steady": pytest.approx(10 / 0.95), "lossy": pytest.approx(10 / 0.6), "shaky": 14.0,
    }  # fmt: skip
    steadier = node_readings(found, 100, "", 0.0)
    assert dict(zip(*_columns(steadier), strict=True))["shaky"] == 10.0


def _columns(found: Readings) -> tuple[list[str], list[float]]:
    return list(found.targets), found.times.tolist()


LABEL = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    st.lists(st.tuples(LABEL, LABEL, st.floats(0, 1e3)), max_size=9),
    st.integers(1, 200),
    st.integers(0, 1),
)
def test_pieces_say_what_the_whole_says(
    rows: list[tuple[str, str, float]], piece: int, indent: int
) -> None:
    """Whatever is in the labels, and however the answer is written."""
    tricky = '},{"metric":{"source":"x'
    result = [series(f"{one}{tricky}", other, value) for one, other, value in rows]
    body = answer(result)
    if indent:
        body = msgspec.json.format(body, indent=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prometheus, "MAX_PIECE", piece)
        found = list(samples_in(body))
    assert [(s.metric.source, s.metric.target) for s in found] == [
        (r["metric"]["source"], r["metric"]["target"]) for r in result
    ]


def test_an_answer_of_160_000_series_leaves_the_interpreter_to_others() -> None:
    """No piece of it takes long: between two of them another thread may run."""
    body = answer([series(f"node-{n // 32}", f"node-{n % 5000}", 0.01, **HERE)
                   for n in range(160_000)])  # fmt: skip
    gc.collect()
    gc.freeze()
    longest, last = 0.0, time.thread_time()
    for number, _ in enumerate(samples_in(body)):
        if number % 100 == 0:
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    gc.unfreeze()
    # In one piece, as on c68a26d, 0.4 to 0.9 s.
    assert longest < 0.05


def test_what_is_read_often_is_indexed_beside_the_event_loop() -> None:
    rows = [(f"n{n // 32}", f"n{n % 5000}", 1.0, 0.0) for n in range(160_000)]
    indexed = Indexed(readings(*rows))
    matrix = Matrix()
    started = time.thread_time()
    matrix.replace(indexed)
    assert time.thread_time() - started < 0.02
    assert len(matrix) == 160_000


def test_a_prometheus_that_is_not_there_is_said_in_a_line() -> None:
    server = Prometheus("http://127.0.0.1:1", Login(username="u", password="very-secret"))
    with pytest.raises(LatencyError) as caught:
        server.query("up")
    said = str(caught.value)
    assert "http://127.0.0.1:1" in said
    assert "very-secret" not in said
    assert "\n" not in said


def test_predictions_end_with_the_measurements_that_they_rest_on() -> None:
    times = world(20, seed=1)
    names = [f"n{number}" for number in range(20)]
    rows = [
        (names[i], names[(i + step) % 20], float(times[i, (i + step) % 20]), 100.0)
        for i in range(20)
        for step in (1, 3)
    ]
    sparse = readings(*rows)
    matrix = Matrix(max_age=60)
    matrix.replace(sparse, predicted(sparse))
    matrix.expire(110)
    assert not np.isnan(matrix.from_source("n0", names)).any()
    matrix.expire(200)
    assert len(matrix) == 0
    assert np.isnan(matrix.from_source("n0", names)[1:]).all()


def test_coordinates_are_fitted_anew_only_now_and_then_and_sooner_for_new_nodes() -> None:
    ring = [(f"n{i}", f"n{(i + 1) % 9}", 5.0, 0.0) for i in range(9)]
    fitted = Fitted()
    first = fitted.of(readings(*ring), now=0)
    assert first is not None
    assert fitted.of(readings(*ring), now=REFIT - 1) is first
    grown = readings(*ring, ("n0", "new", 7.0, 0.0))
    assert fitted.of(grown, now=REFIT_SOON - 1) is first
    second = fitted.of(grown, now=REFIT_SOON)
    assert second is not None
    assert "new" in second.rows
    assert fitted.of(grown, now=REFIT_SOON + REFIT) is not second
    dense = readings(*((a, b, 1.0, 0.0) for a in "abc" for b in "abc" if a != b))
    assert fitted.of(dense, now=0) is None


async def test_an_agent_s_answer_may_come_in_parts() -> None:
    rows = [{"node": f"n{i}", "latency": 1.0, "loss": 0, "age_s": 1} for i in range(2000)]
    body = json.dumps(rows).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(body)
        await response.prepare(request)
        for start in range(0, len(body), 14_000):
            await response.write(body[start : start + 14_000])
            await asyncio.sleep(0.001)
        return response

    app = web.Application()
    app.router.add_get("/monitoring/near-nodes/latency", answer)
    async with TestServer(app) as server:
        agents = Agents()
        agents.peers = [Peer("a", "127.0.0.1", port=server.port or 0)]
        assert len(await agents.readings()) == 2000


async def test_a_token_is_sent_to_prometheus_and_a_refusal_said() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer the-token-of-it":
            return web.Response(status=401, text="who are you")
        asked.append(request.query["query"])
        return web.json_response({"status": "success", "data": {"result": []}})

    app = web.Application()
    app.router.add_get("/api/v1/query", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        right = Prometheus(url, Login(token="the-token-of-it"))
        assert len(await asyncio.to_thread(right.readings)) == 0
        assert asked[0] == TIMES
        with pytest.raises(LatencyError, match="401"):
            await asyncio.to_thread(Prometheus(url, Login(token="another")).query, "up")


async def test_agents_that_do_not_answer_cost_only_their_own_rows() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer t"
        rows = [
            {"node": "b", "latency": 1.5, "loss": 0.2, "age_s": 2, "jitter": 0.5},
            {"node": "c", "latency": None, "loss": 1, "age_s": None},
        ]
        return web.json_response(rows)

    app = web.Application()
    app.router.add_get("/monitoring/near-nodes/latency", answer)
    async with TestServer(app) as server:
        agents = Agents("t")
        agents.peers = [
            Peer("a", "127.0.0.1", port=server.port or 0),
            Peer("b", "127.0.0.1", port=1),
        ]
        found = await agents.readings()
        assert (list(found.sources), list(found.targets)) == (["a"], ["b"])
        assert found.times.tolist() == [(1.5 + 0.5) / 0.8]
        agents.peers = agents.peers[1:]
        with pytest.raises(LatencyError, match="no agent answers: b"):
            await agents.readings()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'[{"node": "\xff", "latency": 1, "age_s": 0}]', id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="nested without end"),
    ],
)
async def test_an_answer_that_is_no_json_is_that_agent_s_alone(body: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/monitoring/near-nodes/latency", answer)
    async with TestServer(app) as server:
        agents = Agents()
        agents.peers = [Peer("a", "127.0.0.1", port=server.port or 0)]
        with pytest.raises(LatencyError, match="no agent answers: a"):
            await agents.readings()


async def test_a_time_out_of_range_is_not_taken_and_no_age_lies_in_the_future() -> None:
    async def answer(request: web.Request) -> web.Response:
        rows = [
            {"node": "b", "latency": -5.0, "loss": 0, "age_s": 1},
            {"node": "c", "latency": 1e9, "loss": 0, "age_s": 1},
            {"node": "d", "latency": 1.0, "loss": 0, "age_s": -1e9},
        ]
        return web.json_response(rows)

    app = web.Application()
    app.router.add_get("/monitoring/near-nodes/latency", answer)
    async with TestServer(app) as server:
        agents = Agents()
        agents.peers = [Peer("a", "127.0.0.1", port=server.port or 0)]
        found = await agents.readings()
    assert list(found.targets) == ["d"]
    assert found.stamps[0] <= time.time()
