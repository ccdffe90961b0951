"""The pages as Flask serves them: every state is in the URL."""

import csv
import gzip
import io
from dataclasses import dataclass, field
from typing import Any

import pytest
from console.pages import application
from console.readings import NodeUse, Overview, PodPlacement, RoundTrip, Source, Unavailable
from console.settings import Cluster, SourceAddress
from flask.testing import FlaskClient

NOWHERE = SourceAddress("http://127.0.0.1:1")


@dataclass
class Fixed:
    """A source that says what it is told to, or that it is unavailable."""

    problem: str = ""
    age: float | None = 1.0
    decisions: list[PodPlacement] = field(default_factory=list)
    kind: str = "fixed source"
    asked: int = 0

    def _say(self) -> None:
        self.asked += 1
        if self.problem:
            raise Unavailable(self.problem)

    def overview(self, seconds: float) -> Overview:
        self._say()
        return Overview(nodes=1234, pods=5, pending={"active": 7.0})

    def pairs(self, between_clusters: bool) -> list[RoundTrip]:
        self._say()
        return [RoundTrip("c1", "c2", 30.0)] if between_clusters else [RoundTrip("a", "b", 1.5)]

    def placements(self) -> list[PodPlacement]:
        self._say()
        return self.decisions

    def nodes(self) -> list[NodeUse]:
        self._say()
        return [NodeUse("edge-1", {"cpu": (1.0, 4.0)})]

    def data_age(self) -> float | None:
        return self.age


def client(**sources: Fixed) -> FlaskClient:
    """A browser of a console over these clusters; `core` has a scheduler."""
    found: dict[str, Source] = dict(sources)
    clusters = [
        Cluster(name, NOWHERE, NOWHERE if name == "core" else SourceAddress()) for name in found
    ]
    return application(clusters, found).test_client()


def text(browser: FlaskClient, url: str, status: int = 200) -> str:
    answer = browser.get(url)
    assert answer.status_code == status, answer.text
    return answer.text


@pytest.mark.parametrize(
    ("path", "words"),
    [("/", "1\u202f234"), ("/latency", "30"), ("/placements", "ns/p"), ("/packing", "edge-1")],
)
def test_every_page_shows_the_numbers_of_its_source(path: str, words: str) -> None:
    source = Fixed(decisions=[PodPlacement("ns/p", "a", "", "fits", 0.0)])
    page = text(client(edge=source), f"{path}?of=clusters")
    assert words in page
    assert "fixed source" in page
    assert page.lstrip().lower().startswith("<!doctype html>")
    fragment = text(client(edge=source), f"{path}?of=clusters&fragment")
    assert words in fragment
    assert "<!doctype" not in fragment.lower()


def test_another_cluster_is_chosen_by_name_and_an_unknown_one_is_not_found() -> None:
    browser = client(edge=Fixed(), core=Fixed(kind="core source"))
    assert "core source" in text(browser, "/?cluster=core")
    assert "core source" not in text(browser, "/")
    assert "There is no cluster &#39;x&#39; here." in text(browser, "/?cluster=x", 404)
    assert "Not found" in text(browser, "/nothing/here", 404)


@pytest.mark.parametrize(("age", "stale"), [(1.0, False), (61.0, True), (None, False)])
def test_old_numbers_are_shown_as_old(age: float | None, stale: bool) -> None:
    page = text(client(edge=Fixed(age=age)), "/")
    assert ("These numbers are old" in page) is stale


def test_a_source_that_is_unavailable_is_said_on_the_page_and_in_the_csv() -> None:
    browser = client(edge=Fixed("the server is <away>"))
    assert "the server is &lt;away&gt;" in text(browser, "/latency")
    answer = browser.get("/latency?format=csv")
    assert (answer.status_code, answer.text) == (503, "the server is <away>\n")


def test_what_a_url_says_that_makes_no_sense_counts_as_not_said() -> None:
    source = Fixed()
    browser = client(edge=source)
    plain = text(browser, "/")
    odd = text(browser, "/?range=9y&page=-3&of=x&theme=pink")
    assert plain.count("<option") == odd.count("<option")
    assert "pink" not in odd.replace("theme=pink", "")


def test_a_csv_has_all_rows_and_no_formulas() -> None:
    decisions = [PodPlacement(f"ns/p{i}", "n", "", "=1+1", 0.0) for i in range(150)]
    answer = client(edge=Fixed(decisions=decisions)).get("/placements?format=csv&page=2")
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="edge-placements.csv"'
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == ["pod", "node", "policy", "why", "decided (UTC)"]
    assert len(rows) == 151
    assert rows[1] == ["ns/p0", "n", "default", "'=1+1", "1970-01-01 00:00:00"]


def test_however_many_look_a_page_is_worked_out_once_in_a_moment() -> None:
    source = Fixed()
    browser = client(edge=source)
    for _ in range(3):
        text(browser, "/packing")
    assert source.asked == 1
    text(browser, "/packing?filter=x")
    assert source.asked == 2


def test_pods_are_explained_by_the_cluster_s_scheduler_alone() -> None:
    browser = client(edge=Fixed(), core=Fixed())
    said = text(browser, "/explain/ns/p")
    assert "No scheduler is configured that could explain pods." in said
    assert "does not answer" in text(browser, "/explain/ns/p?cluster=core")
    assert "not the name of a pod" in text(browser, "/explain/NS/p", 404)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_own_files_are_served_packed_where_the_browser_takes_that(encoding: str) -> None:
    browser = client(edge=Fixed())
    headers: Any = {"Accept-Encoding": encoding}
    answer = browser.get("/static/plotly.min.js", headers=headers)
    assert answer.mimetype == "text/javascript"
    assert answer.headers.get("Content-Encoding", "") == encoding
    body = gzip.decompress(answer.data) if encoding else answer.data
    assert b"plotly" in body[:2000]
    assert browser.get("/static/../pages.py").status_code == 404
    assert browser.get("/static/none.css").status_code == 404
