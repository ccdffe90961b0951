"""Ages, coordinates, and what Prometheus and the agents say."""

import asyncio
import json

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray

from latency.agents import Agents
from latency.coordinates import fit, relative_errors
from latency.matrix import Matrix, Readings
from latency.pairs import LatencyError
from latency.peers import Peer
from latency.prometheus import TIMES, Login, Prometheus, between_clusters, node_readings
from scheduler.latency_source import REFIT, REFIT_SOON, Fitted, predicted


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
    matrix.tick(155)
    assert (len(matrix), matrix.version) == (2, 1)
    matrix.tick(170)
    assert (len(matrix), matrix.version) == (1, 2)
    assert np.isnan(matrix.from_source("a", ["b"])[0])
    assert matrix.from_source("a", ["c"])[0] == 2
    assert not matrix.measured("a", "b")
    assert list(matrix.pairs()) == [("a", "c", 2.0, 150.0)]
    matrix.tick(171)
    assert matrix.version == 2


def test_a_stale_pair_leaves_the_other_direction_in_force() -> None:
    matrix = Matrix(max_age=60)
    matrix.replace(readings(("a", "b", 1, 0), ("b", "a", 9, 100)))
    matrix.tick(100)
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


def sample(source: str, target: str, value: float, **clusters: str) -> dict[str, object]:
    return {"metric": {"source": source, "target": target, **clusters}, "value": [0, str(value)]}


def test_samples_of_several_clusters_are_kept_apart() -> None:
    here = {"source_cluster": "c1", "target_cluster": "c1"}
    there = {"source_cluster": "c2", "target_cluster": "c2"}
    across = {"source_cluster": "c1", "target_cluster": "c2"}
    times = [
        sample("a", "b", 0.001, **here),
        sample("a", "b", 0.002, **there),
        sample("a", "g1", 0.030, **across),
        sample("b", "g2", 0.020, **across),
        sample("a", "c", float("nan"), **here),
    ]
    stamps = [sample("a", "b", 50, **here), sample("b", "g2", 60, **across)]
    nodes = node_readings(times, stamps, "c1")
    assert (list(nodes.sources), nodes.times.tolist(), nodes.stamps.tolist()) == (
        ["a"],
        [1.0],
        [50],
    )
    between = between_clusters(times, stamps)
    assert (list(between.sources), list(between.targets)) == (["c1"], ["c2"])
    assert between.times.tolist() == [20.0]
    assert between.stamps.tolist() == [60]


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
    matrix.tick(110)
    assert not np.isnan(matrix.from_source("n0", names)).any()
    matrix.tick(200)
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
            {"node": "b", "latency": 1.5, "loss": 0, "age_s": 2},
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
        assert found.times.tolist() == [1.5]
        agents.peers = agents.peers[1:]
        with pytest.raises(LatencyError, match="no agent answers: b"):
            await agents.readings()
