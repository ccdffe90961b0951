"""The console's job pages, in a browser."""

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.harness.console import Looking, browser, console
from tests.harness.layer import Layer, Member, deployment, pods_by_request

pytestmark = pytest.mark.lab
NONE = "req-00000000-0000-0000-0000-000000000000"


@pytest.mark.needs("chromium")
def test_a_person_hands_a_job_in_by_the_page_and_sees_where_it_runs(
    layer: Layer, clusters: list[Member], tmp_path: Path
) -> None:
    made = tmp_path / "web.yaml"
    made.write_text(deployment("by-hand", 2))
    with console(tmp_path, "--global", layer.url) as url, browser() as chromium:
        looking = Looking(chromium)
        page = looking.open(url)
        page.get_by_role("link", name="Hand in the first one").click()
        page.get_by_label("YAML file").set_input_files(made)
        expect(page.locator("#yaml")).to_have_value(re.compile("by-hand"))
        page.get_by_label("Priority").select_option("GMostRequestedPriority")
        page.get_by_role("button", name="Choose target clusters…").click()
        page.get_by_role("button", name="select c2 for level 1").click()
        page.get_by_role("button", name="Add a level").click()
        page.get_by_role("button", name="Select all").click()
        page.get_by_role("button", name="Done").click()
        page.locator("#levels-text").get_by_text("c2 → c1", exact=True).wait_for()
        page.get_by_role("button", name="Start").click()
        page.get_by_text("completed", exact=True).first.wait_for(timeout=120_000)
        page.get_by_role("row").filter(has_text="succeeded").filter(has_text="c2").wait_for()
        page.get_by_role("link", name="← all jobs").click()
        # Its pods, with what their cluster says of them, as the page refreshes itself.
        rows = page.get_by_role("row").filter(has_text="by-hand")
        rows.filter(has_text="Running").nth(1).wait_for(timeout=120_000)
        cells = rows.first.get_by_role("cell").all_inner_texts()
        assert (cells[2], cells[3][:4], cells[5]) == ("c2", "c2-n", "Running")
        assert cells[8] == "i"
        page.get_by_role("row").filter(has_text="completed").get_by_role("link").click()
        page.get_by_role("button", name="Remove it and its pods").click()
        page.get_by_text("canceled", exact=True).first.wait_for(timeout=120_000)
        assert pods_by_request(clusters) == {}
        assert looking.errors == []


@pytest.mark.needs("chromium")
def test_a_job_that_is_refused_comes_back_with_the_reason_and_what_was_typed(
    layer: Layer, tmp_path: Path
) -> None:
    with console(tmp_path, "--global", layer.url) as url, browser() as chromium:
        looking = Looking(chromium)
        page = looking.open(f"{url}/jobs/new?policy=GSetClusters")
        assert page.get_by_label("Priority").input_value() == "GSetClusters"
        page.get_by_label("or its text, to edit").fill("kind: Pod")
        page.get_by_role("button", name="Start").click()
        alert = page.get_by_role("alert")
        assert "GSetClusters needs the clusters by name" in alert.inner_text()
        assert page.get_by_label("or its text, to edit").input_value() == "kind: Pod"


def test_a_form_of_another_site_is_refused(layer: Layer, tmp_path: Path) -> None:
    with console(tmp_path, "--global", layer.url) as url:
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
            request = urllib.request.Request(f"{url}/jobs", b"yaml=x", headers, method="POST")
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=60)
            assert caught.value.code == 403
    assert layer.ok("GET", "/requests")["items"] == []


def answered(url: str, data: bytes | None = None) -> tuple[int, str]:
    """Status and page; forms come from the console's own pages."""
    origin = {"Origin": url.partition("/jobs")[0]}
    request = urllib.request.Request(url, data, origin)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_what_is_wrong_with_a_job_is_a_page_that_says_so(layer: Layer, tmp_path: Path) -> None:
    with console(tmp_path, "--global", layer.url) as url:
        for path, data, status, words in (
            (f"/jobs/{NONE}", None, 404, "there is no such request"),
            (f"/jobs/{NONE}/cancel", b"x=", 404, "there is no such request"),
            ("/jobs/none/cancel", b"x=", 404, "That is not the id of a job."),
            ("/jobs/none", None, 404, "That is not the id of a job."),
            ("/jobs", b"clusters=[[", 400, "clusters: "),
            ("/jobs", b"yaml=kind%3A+%5B&policy=GMostRequestedPriority", 400, "no YAML: line"),
        ):
            assert (answered(f"{url}{path}", data)[0], path) == (status, path)
            assert words in answered(f"{url}{path}", data)[1]
        layer.kill()
        status, page = answered(f"{url}/jobs")
        assert (status, "does not answer" in page) == (200, True)
        status, page = answered(f"{url}/jobs", b"yaml=x&policy=GMostRequestedPriority")
        assert (status, "does not answer" in page) == (400, True)
        assert "does not answer" in answered(f"{url}/jobs/{NONE}")[1]
