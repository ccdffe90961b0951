"""A cluster's numbers, from Prometheus and from a scheduler's own pages."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from console import sources
from console.readings import NodeUse, Overview, PodPlacement, RoundTrip, Unavailable
from console.settings import Cluster, SettingsError, SourceAddress
from console.sources import FromPrometheus, FromScheduler, HttpSource, samples, source_of

from tests.harness.kube import wait_for

Answer = Callable[[str, dict[str, str]], tuple[int, bytes]]
"""Path and headers (and, of a query, its expression as the header `query`): status and body."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply("")

        def do_POST(self) -> None:
            self.reply(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def reply(self, body: str) -> None:
            url = urlsplit(self.path)
            asked = parse_qs(body or url.query)
            headers = dict(self.headers.items()) | {"query": asked.get("query", [""])[0]}
            status, content = answer(url.path, headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- one server --------------------------------------------------------------------------------


def test_a_page_is_fetched_with_the_token_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    seen: list[str] = []

    def answer(path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        seen.append(headers.get("Authorization", ""))
        return 200, b'{"path": "%s"}' % path.encode()

    with serving(answer) as url:
        found = HttpSource(SourceAddress(f"{url}/", token_file=str(tmp_path / "token")))
        assert found.json("/x") == {"path": "/x"}
        assert found.text("/y") == '{"path": "/y"}'
        named = HttpSource(SourceAddress(url, username="u", password_file=str(tmp_path / "token")))
        named.text("/z")
    assert seen[0] == "Bearer secret"
    assert seen[2].startswith("Basic ")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, b"not ready\n", "/x answers 503: not ready"),
        (200, b"{", "/x: not JSON"),
    ],
)
def test_an_answer_that_is_of_no_use_is_told(status: int, body: bytes, words: str) -> None:
    with (
        serving(lambda path, headers: (status, body)) as url,
        pytest.raises(Unavailable, match=words),
    ):
        HttpSource(SourceAddress(url)).json("/x")


def test_a_body_that_is_too_large_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_BODY", 10)
    with serving(lambda path, headers: (200, b"x" * int(path[1:]))) as url:
        found = HttpSource(SourceAddress(url))
        assert found.text("/10") == "x" * 10
        with pytest.raises(Unavailable):
            found.text("/11")


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer \(ConnectionError\)"):
        HttpSource(SourceAddress("http://127.0.0.1:1")).text("/")


def test_a_token_file_that_cannot_be_read_is_a_mistake_of_the_settings(tmp_path: Path) -> None:
    gone = SourceAddress("http://x", token_file=str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match="No such file"):
        HttpSource(gone)
    with pytest.raises(SettingsError, match="No such file"):
        FromPrometheus(gone)


def test_text_that_is_no_page_of_metrics_is_told() -> None:
    with pytest.raises(Unavailable, match="not a page of metrics"):
        samples("a{ 1\n")
    assert samples('# TYPE a gauge\na 1\na{x="y"} 2\n') == {"a": [({}, 1.0), ({"x": "y"}, 2.0)]}


# -- the scheduler itself ----------------------------------------------------------------------

METRICS = """\
# TYPE scheduler_cache_size gauge
scheduler_cache_size{type="nodes"} 3
scheduler_cache_size{type="pods"} 40
scheduler_cache_size{type="latency_pairs"} 6
# TYPE scheduler_pending_pods gauge
scheduler_pending_pods{queue="active"} 1
scheduler_pending_pods{queue="gated"} 0
# TYPE scheduler_schedule_attempts counter
scheduler_schedule_attempts_total{profile="a",result="scheduled"} %(count)d
scheduler_schedule_attempts_total{profile="b",result="scheduled"} %(count)d
# TYPE scheduler_pod_scheduling_sli_duration_seconds histogram
scheduler_pod_scheduling_sli_duration_seconds_bucket{attempts="1",le="0.01"} 10
scheduler_pod_scheduling_sli_duration_seconds_bucket{attempts="1",le="0.02"} 99
scheduler_pod_scheduling_sli_duration_seconds_bucket{attempts="1",le="0.04"} 100
scheduler_pod_scheduling_sli_duration_seconds_bucket{attempts="1",le="+Inf"} 100
# TYPE gsch_decision_timestamp_seconds gauge
gsch_decision_timestamp_seconds{pod="ns/p",node="",policy="",why="no room"} 10
gsch_decision_timestamp_seconds{pod="ns/p",node="a",policy="",why="fits"} 20
gsch_decision_timestamp_seconds{pod="ns/q",node="b",policy="low",why="near"} 15
"""

RESOURCES = b"""\
# TYPE gsch_node_allocatable gauge
gsch_node_allocatable{node="b",resource="cpu"} 4
gsch_node_allocatable{node="a",resource="cpu"} 8
gsch_node_allocatable{node="a",resource="memory"} 1024
# TYPE gsch_node_requested gauge
gsch_node_requested{node="a",resource="cpu"} 2
"""


class Pages:
    """The pages of a scheduler, whose counters grow with every look."""

    def __init__(self) -> None:
        self.count = 0
        self.failing = ""

    def __call__(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        if path == "/metrics":
            if self.failing:
                return 200, self.failing.encode()
            self.count += 5
            return 200, (METRICS % {"count": self.count}).encode()
        if path == "/metrics/resources":
            return 200, RESOURCES
        row = {"source": "a", "target": "b", "rtt_ms": 1.5}
        return 200, json.dumps([{**row, "age_s": 3.0}, {**row, "target": "c"}]).encode()


@contextmanager
def scheduler(
    pages: Pages, monkeypatch: pytest.MonkeyPatch, readings: int = 1
) -> Iterator[FromScheduler]:
    """A source that has read the scheduler's page so many times."""
    monkeypatch.setattr(sources, "POLL", 0.01)
    with serving(pages) as url:
        found = source_of(Cluster("c", scheduler=SourceAddress(url)))
        assert isinstance(found, FromScheduler)
        wait_for(lambda: found.data_age() is not None and len(times(found)) >= readings - 1)
        yield found


def times(found: FromScheduler) -> list[float]:
    rates = found.overview(3600).rates
    return rates[0].times if rates else []


def test_a_scheduler_s_own_pages_make_an_overview(monkeypatch: pytest.MonkeyPatch) -> None:
    with scheduler(Pages(), monkeypatch, readings=4) as found:
        overview = found.overview(3600)
        assert (overview.nodes, overview.pods, overview.pairs) == (3, 40, 6)
        assert overview.pending == {"active": 1, "gated": 0}
        # 99 of 100 pods took at most 0.02 s.
        assert overview.p99_seconds == pytest.approx(0.02)
        (rates,) = overview.rates
        assert rates.name == "scheduled"
        assert all(value > 0 for value in rates.values)
        assert {line.name: set(line.values) for line in overview.queues} == {
            "active": {1.0}, "gated": {0.0},
        }  # fmt: skip
        assert found.overview(-1).rates == []
        age = found.data_age()
        assert age is not None
        assert 0 <= age < 60


def test_a_scheduler_s_own_pages_tell_of_nodes_pairs_and_decisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scheduler(Pages(), monkeypatch) as found:
        assert found.nodes() == [
            NodeUse("a", {"cpu": (2.0, 8.0), "memory": (0.0, 1024.0)}),
            NodeUse("b", {"cpu": (0.0, 4.0)}),
        ]
        assert found.pairs(False) == [
            RoundTrip("a", "b", 1.5, None, 3.0),
            RoundTrip("a", "c", 1.5, None, None),
        ]
        assert found.pairs(True) == []
        # The latest decision of each pod, the newest first.
        assert found.placements() == [
            PodPlacement("ns/p", "a", "", "fits", 20.0),
            PodPlacement("ns/q", "b", "low", "near", 15.0),
        ]


def test_a_counter_that_starts_anew_counts_as_no_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages()
    with scheduler(pages, monkeypatch, readings=3) as found:
        pages.count = -10
        before = len(times(found))
        wait_for(lambda: len(times(found)) > before + 1)
        assert min(found.overview(3600).rates[0].values) == 0.0


def test_a_scheduler_that_was_never_read_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages()
    pages.failing = "a{ 1\n"
    monkeypatch.setattr(sources, "POLL", 0.01)
    with serving(pages) as url:
        found = FromScheduler(SourceAddress(url))

        def problem() -> str:
            with pytest.raises(Unavailable) as caught:
                found.overview(60)
            return str(caught.value)

        wait_for(lambda: "not a page of metrics" in problem())
        assert found.data_age() is None
        pages.failing = ""
        wait_for(lambda: found.data_age() is not None)
        assert found.overview(60).nodes == 3


# -- Prometheus --------------------------------------------------------------------------------


def vector(*found: tuple[dict[str, str], float]) -> bytes:
    result = [{"metric": labels, "value": [1000.0, str(value)]} for labels, value in found]
    data = {"resultType": "vector", "result": result}
    return json.dumps({"status": "success", "data": data}).encode()


def ranged(*found: tuple[dict[str, str], list[tuple[float, float]]]) -> bytes:
    result = [
        {"metric": labels, "values": [[at, str(value)] for at, value in values]}
        for labels, values in found
    ]
    data = {"resultType": "matrix", "result": result}
    return json.dumps({"status": "success", "data": data}).encode()


@contextmanager
def prometheus(answers: dict[str, bytes], label: str = "") -> Iterator[FromPrometheus]:
    """A source of a Prometheus that answers the queries that a pattern matches."""

    def answer(path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        empty = ranged() if path.endswith("range") else vector()
        found = (
            body
            for pattern, body in answers.items()
            if re.search(pattern, f"{path.rpartition('/')[2]} {headers['query']}")
        )
        return 200, next(found, empty)

    with serving(answer) as url:
        source = source_of(Cluster("c", SourceAddress(url), label=label))
        assert isinstance(source, FromPrometheus)
        yield source


def test_prometheus_makes_an_overview() -> None:
    answers = {
        r"^query max by \(type\) \(scheduler_cache_size\)": vector(
            ({"type": "nodes"}, 3), ({"type": "pods"}, 40), ({"type": "latency_pairs"}, 6)
        ),
        r"^query max by \(queue\) \(scheduler_pending_pods\)": vector(({"queue": "active"}, 2)),
        r"^query histogram_quantile\(0\.99": vector(({}, 0.25)),
        r"^query_range sum by \(result\)": ranged(({"result": "scheduled"}, [(1, 2), (2, 3)])),
        r"^query_range max by \(queue\)": ranged(({"queue": "active"}, [(1, 5)])),
    }
    with prometheus(answers) as found:
        overview = found.overview(3600)
    assert (overview.nodes, overview.pods, overview.pairs) == (3, 40, 6)
    assert overview.pending == {"active": 2}
    assert overview.p99_seconds == 0.25
    assert [(s.name, s.times, s.values) for s in overview.rates] == [("scheduled", [1, 2], [2, 3])]
    assert [(s.name, s.values) for s in overview.queues] == [("active", [5])]


def test_a_prometheus_that_knows_nothing_makes_an_empty_overview() -> None:
    with prometheus({"histogram_quantile": vector(({}, float("nan")))}) as found:
        assert found.overview(900) == Overview()
        assert found.data_age() is None
        assert found.placements() == []
        assert found.nodes() == []


def test_round_trips_of_a_cluster_come_with_loss_and_age() -> None:
    ends = {"source": "a", "target": "b", "source_cluster": "x", "target_cluster": "x"}
    across = ends | {"target": "z", "target_cluster": "y"}
    answers = {
        r"^query gsch_rtt_seconds\{quantile=": vector((ends, 0.0015), (across, 0.03)),
        r"loss": vector((ends, 0.25)),
        r"age": vector((ends, 4.0)),
    }
    with prometheus(answers) as found:
        assert found.pairs(False) == [RoundTrip("a", "b", 1.5, 0.25, 4.0)]


def test_of_several_clusters_only_the_labelled_one_is_asked_for() -> None:
    wanted = r'^query gsch_rtt_seconds\{quantile="0\.5",source_cluster="x",target_cluster="x"\}$'
    ends = {"source": "a", "target": "b", "source_cluster": "x", "target_cluster": "x"}
    with prometheus({wanted: vector((ends, 0.001))}, label="x") as found:
        assert found.pairs(False) == [RoundTrip("a", "b", 1.0, None, None)]


def test_decisions_and_nodes_come_from_prometheus_too() -> None:
    decision = {"pod": "ns/p", "node": "a", "policy": "", "why": "fits"}
    answers = {
        "gsch_decision": vector((decision | {"node": ""}, 10), (decision, 20)),
        "gsch_node_allocatable": vector(({"node": "a", "resource": "cpu"}, 4)),
        "gsch_node_requested": vector(({"node": "a", "resource": "cpu"}, 1)),
    }
    with prometheus(answers) as found:
        assert found.placements() == [PodPlacement("ns/p", "a", "", "fits", 20.0)]
        assert found.nodes() == [NodeUse("a", {"cpu": (1.0, 4.0)})]


def test_a_prometheus_that_does_not_answer_is_unavailable() -> None:
    found = FromPrometheus(SourceAddress("http://127.0.0.1:1"))
    for ask in (
        lambda: found.overview(60),
        lambda: found.pairs(True),
        found.nodes,
        found.data_age,
    ):
        with pytest.raises(Unavailable):
            ask()
