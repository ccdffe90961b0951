"""The console in a real Chromium, over a real scheduler, with and without Prometheus."""

import json
import os
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from lab.cluster import LabCluster
from lab.measure import PrometheusProcess, free_port
from tests.harness.console import Looking, browser, console
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import ROOT, Gsch, gsch

pytestmark = [pytest.mark.needs("chromium", "prometheus", "openssl")]

NODES = [f"edge-{number}" for number in range(1, 13)]
SHOTS = os.environ.get("GSCH_SCREENSHOTS", "")
"""A folder for the pictures in docs/; none are taken without it."""


@dataclass
class World:
    """A scheduler at work, and a Prometheus that scrapes it and three agents."""

    scheduler: str
    prometheus: PrometheusProcess
    namespace: str
    kube: Kube


def config(source: str) -> str:
    option = {"sourceNode": source}
    return json.dumps({"type": "local", "priority": "GLowLatencyPriority", "option": option})


@pytest.fixture(scope="module")
def world(lab: LabCluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, namespace = tmp_path_factory.mktemp("console"), "console"
    times = folder / "times.yaml"
    pairs = [
        {"source": a, "target": b, "rtt_ms": 1.0 + 2.5 * abs(i - j)}
        for i, a in enumerate(NODES)
        for j, b in enumerate(NODES)
        if i != j
    ]
    times.write_text(json.dumps(pairs))
    settings: Json = {
        "profiles": [{"schedulerName": "shown"}],
        "latency": {"file": str(times)},
    }
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    wait_for(lambda: kube.items(f"/api/v1/namespaces/{namespace}/serviceaccounts"))
    plain = [node_json(name, cpu="4") for name in NODES if name != "edge-3"]
    with_gpus = node_json("edge-3", cpu="4")
    with_gpus["status"]["allocatable"]["nvidia.com/gpu"] = "2"
    kube.create(with_gpus, *plain)
    try:
        with Gsch(folder, lab.kubeconfig, **settings) as running:
            for number in range(8):
                pod = pod_json(f"near-{number}", {"cpu": "900m"}, config("edge-3"), "shown")
                pod["metadata"]["namespace"] = namespace
                kube.create(pod)
                kube.node_of(namespace, f"near-{number}", 40)
            big = pod_json("too-big", {"cpu": "64"}, scheduler="shown", namespace=namespace)
            kube.create(big)
            kube.refusal(namespace, "too-big")
            port = running.wait_for_log(running.SERVING)[0]["port"]
            with PrometheusProcess(folder / "prometheus", [f"127.0.0.1:{port}"], "1s") as server:
                yield World(f"http://127.0.0.1:{port}", server, namespace, kube)
    finally:
        kube.delete(f"/api/v1/namespaces/{namespace}/pods")
        kube.delete(f"/api/v1/namespaces/{namespace}")
        kube.delete("/api/v1/nodes")
        wait_for(lambda: not kube.items("/api/v1/nodes"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def url(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A console with no Prometheus: straight from the scheduler."""
    with console(tmp_path_factory.mktemp("direct"), "--scheduler", world.scheduler) as found:
        wait_for(lambda: "No numbers" not in text(found))
        yield found


def text(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as reply:
        body: bytes = reply.read()
    return body.decode()


def shot(looking: Looking, name: str) -> None:
    if SHOTS:
        looking.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=False)


def test_every_view_draws_its_charts_without_an_error_in_the_browser(
    url: str, chromium: Browser
) -> None:
    looking = Looking(chromium)
    page = looking.open(url)
    expect(page.locator("h1")).to_have_text("Overview")
    expect(page.locator(".tiles")).to_contain_text("Nodes")
    expect(page.locator(".tiles div", has_text="Nodes").first).to_contain_text("12")
    expect(page.locator("table")).to_contain_text("unschedulable")
    # By keyboard alone: along the navigation to the next view.
    page.get_by_role("link", name="Latency").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Latency")
    looking.drawn()
    assert page.locator(".heat .plot-container").count() == 1
    assert page.locator(".graph .plot-container").count() == 1
    expect(page.locator("tbody tr").first).to_contain_text("28.5")
    shot(looking, "console-latency")
    page.get_by_role("link", name="Packing").click()
    looking.drawn()
    expect(page.locator("tbody tr").first).to_contain_text("edge-3")
    expect(page.locator("thead")).to_contain_text("nvidia.com/gpu")
    shot(looking, "console-packing")
    assert looking.errors == []


def test_a_placement_says_why_and_leads_to_its_explanation(
    url: str, world: World, chromium: Browser
) -> None:
    looking = Looking(chromium)
    page = looking.open(f"{url}/placements?filter=near-0")
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("edge-3")
    expect(row).to_contain_text("0 ms from its source, the nearest: 1 of 12 nodes that fit")
    page.goto(f"{url}/placements?filter=too-big")
    expect(page.locator("tbody tr")).to_contain_text("0/12 nodes are available")
    if SHOTS:
        looking.open(f"{url}/placements")
        shot(looking, "console-placements")
        page.goto(f"{url}/placements?filter=too-big")
    page.get_by_role("link", name=f"{world.namespace}/too-big").click()
    expect(page.locator("h1")).to_have_text(f"Why: {world.namespace}/too-big")
    expect(page.locator("tbody tr")).to_have_count(12)
    expect(page.locator("tbody")).to_contain_text("more cpu")
    assert looking.errors == []


def test_state_is_in_the_url_and_a_filter_narrows_chart_table_and_csv(
    url: str, chromium: Browser
) -> None:
    looking = Looking(chromium)
    page = looking.open(f"{url}/latency")
    page.get_by_label("Filter").fill("edge-1")
    page.get_by_label("Filter").press("Enter")
    page.wait_for_url(re.compile("filter=edge-1"))
    looking.drawn()
    # edge-1, edge-10, edge-11, edge-12: twelve pairs.
    expect(page.locator("tbody tr")).to_have_count(12)
    shared = Looking(chromium).open(page.url)
    expect(shared.locator("tbody tr")).to_have_count(12)
    link = page.locator("a.csv").get_attribute("href")
    rows = text(f"{url}/latency{link}").splitlines()
    assert rows[0] == "source,target,round trip (ms),loss,age (s)"
    assert len(rows) == 13


def test_the_page_keeps_itself_up_to_date_until_told_not_to(
    url: str, world: World, chromium: Browser
) -> None:
    looking = Looking(chromium)
    page = looking.open(f"{url}/placements?filter=late")
    expect(page.locator("main")).to_contain_text("Nothing to show")
    world.kube.create(
        pod_json("late-1", {"cpu": "100m"}, scheduler="shown", namespace=world.namespace)
    )
    expect(page.locator("tbody tr")).to_have_count(1, timeout=30_000)
    page.get_by_role("button", name="Pause updates").click()
    world.kube.create(
        pod_json("late-2", {"cpu": "100m"}, scheduler="shown", namespace=world.namespace)
    )
    wait_for(lambda: "late-2" in text(f"{url}/placements?filter=late"))
    expect(page.locator("tbody tr")).to_have_count(1)


def test_light_and_dark_follow_the_system_and_the_choice(url: str, chromium: Browser) -> None:
    def ground(looking: Looking) -> str:
        return str(looking.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = Looking(chromium), Looking(chromium, "dark")
    light.open(url)
    dark.open(url)
    assert ground(light) != ground(dark)
    shot(dark, "console-dark")
    chosen = Looking(chromium)
    chosen.open(url)
    chosen.page.get_by_label("Theme").select_option("dark")
    chosen.page.wait_for_url(re.compile("theme=dark"))
    assert ground(chosen) == ground(dark)


def test_with_prometheus_everything_comes_from_there(
    world: World, chromium: Browser, tmp_path: Path
) -> None:
    wait_for(lambda: world.prometheus.query("scheduler_cache_size"))
    with console(tmp_path, "--prometheus", world.prometheus.url) as url:
        looking = Looking(chromium)
        page = looking.open(f"{url}/?range=15m")
        expect(page.locator(".tiles div", has_text="Nodes").first).to_contain_text("12")
        assert page.locator(".rates .plot-container").count() == 1
        shot(looking, "console-overview")
        looking.open(f"{url}/placements?filter=near-7")
        expect(page.locator("tbody tr")).to_contain_text("ms from its source")
        # Nobody scrapes agents or /metrics/resources here, and the pages say so.
        page.goto(f"{url}/latency")
        expect(page.locator("main")).to_contain_text("Are the latency agents running")
        page.goto(f"{url}/packing")
        expect(page.locator("main")).to_contain_text("/metrics/resources")
        assert looking.errors == []


def test_what_agents_measure_is_shown_between_nodes_and_between_clusters(
    world: World, chromium: Browser, tmp_path: Path
) -> None:
    peers = [
        {"name": "beside", "address": "127.0.0.2"},
        {"name": "gate", "address": "127.0.0.3", "cluster": "c2"},
    ]
    (tmp_path / "peers.yaml").write_text(json.dumps(peers))
    port = free_port()
    command = [sys.executable, "-m", "gsch", "agent", "--node", "here", "--cluster", "c1"]
    command += ["--peers", str(tmp_path / "peers.yaml"), "--interval", "0.3", "--port", str(port)]
    agent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        with (
            PrometheusProcess(tmp_path / "p", [f"127.0.0.1:{port}"], "1s") as server,
            console(tmp_path, "--prometheus", server.url) as url,
        ):
            wait_for(lambda: len(server.query('gsch_rtt_seconds{quantile="0.5"}')) == 2)
            page = Looking(chromium).open(f"{url}/latency")
            expect(page.locator("tbody tr")).to_have_count(1)
            expect(page.locator("tbody tr")).to_contain_text("beside")
            page.get_by_label("Between").select_option("clusters")
            page.wait_for_url(re.compile("of=clusters"))
            expect(page.locator("tbody tr")).to_have_count(1)
            expect(page.locator("tbody tr")).to_contain_text("c1")
            expect(page.locator("tbody tr")).to_contain_text("c2")
    finally:
        agent.terminate()
        agent.wait(10)


def test_an_absent_prometheus_and_an_unknown_cluster_are_said(
    chromium: Browser, tmp_path: Path
) -> None:
    with console(tmp_path, "--prometheus", "http://127.0.0.1:1") as url:
        page = Looking(chromium).page
        page.goto(url)
        expect(page.get_by_role("alert")).to_contain_text("No numbers from Prometheus")
        page.goto(f"{url}/?cluster=nowhere")
        expect(page.get_by_role("alert")).to_contain_text("no cluster 'nowhere'")
        with pytest.raises(urllib.error.HTTPError) as caught:
            text(f"{url}/latency?format=csv")
        assert caught.value.code == 503


def test_every_expression_of_dashboard_and_rules_is_one_that_prometheus_takes(
    world: World,
) -> None:
    folder = ROOT / "manifests" / "monitoring"
    dashboard = json.loads((folder / "grafana-dashboard.json").read_text())
    expressions = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    assert len(expressions) > 15
    for expression in expressions:
        ready = expression.replace("$__rate_interval", "1m").replace("$source", ".*")
        world.prometheus.query(ready)
    # Those about the scheduler have an answer here.
    wait_for(lambda: world.prometheus.query('max(scheduler_cache_size{type="nodes"})'))
    answer = subprocess.run(
        ["promtool", "check", "rules", str(folder / "rules.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


# -- who may look --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=console",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


def test_a_prometheus_behind_tls_and_a_password_is_asked_with_both(
    world: World, certificate: tuple[Path, Path], chromium: Browser, tmp_path: Path
) -> None:
    certfile, keyfile = certificate
    settings = {
        "tls_server_config": {"cert_file": str(certfile), "key_file": str(keyfile)},
        # bcrypt of the password below.
        "basic_auth_users": {"me": "$2b$05$abcdefghijklmnopqrstuuO6GRt3JwkgQVngJ5VD9PxuqMLrAKaCy"},
    }
    (tmp_path / "web.yml").write_text(json.dumps(settings))
    (tmp_path / "right").write_text("pass-of-prometheus\n")
    (tmp_path / "wrong").write_text("some-other-password\n")
    target = world.scheduler.removeprefix("http://")
    further = [f"--web.config.file={tmp_path}/web.yml"]
    with PrometheusProcess(tmp_path / "p", [target], "1s", further) as server:
        url = server.url.replace("http://", "https://")
        clusters = [
            {
                "name": name,
                "prometheus": {
                    "url": url,
                    "username": "me",
                    "passwordFile": str(tmp_path / password),
                    "caFile": ca,
                },
            }
            for name, password, ca in (
                ("good", "right", str(certfile)),
                ("bad", "wrong", str(certfile)),
                ("strange", "right", ""),
            )
        ]
        (tmp_path / "clusters.yaml").write_text(json.dumps(clusters))
        with console(tmp_path, "--clusters", str(tmp_path / "clusters.yaml")) as shown:
            wait_for(lambda: "Nothing to show" not in text(shown))
            page = Looking(chromium).open(shown)
            expect(page.locator(".tiles div", has_text="Nodes").first).to_contain_text("12")
            # The selector leads to the next cluster, whose password is wrong.
            page.get_by_label("Cluster").select_option("bad")
            expect(page.get_by_role("alert")).to_contain_text("No numbers from Prometheus")
            assert "some-other-password" not in page.content()
            page.get_by_label("Cluster").select_option("strange")
            expect(page.get_by_role("alert")).to_contain_text("certificate")


def test_beyond_loopback_it_wants_tls_and_a_token(tmp_path: Path) -> None:
    said = gsch("console", "--prometheus", "http://x", "--bind-address", "192.0.2.1")
    assert said.returncode == 1
    assert "is beyond loopback" in said.stderr


def test_a_token_is_asked_for_once_and_kept_from_scripts(
    certificate: tuple[Path, Path], chromium: Browser, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("a-secret-of-some-length")
    tls = ["--tls-cert-file", str(certificate[0]), "--tls-private-key-file", str(certificate[1])]
    options = ["--prometheus", "http://127.0.0.1:1", "--token-file", str(token), *tls]
    with console(tmp_path, *options) as url:
        context = ssl.create_default_context(cafile=str(certificate[0]))
        for path in ("/", "/latency?format=csv", "/events", "/?token=wrong"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(url + path, timeout=30, context=context)
            assert caught.value.code == 401
        page = chromium.new_context(ignore_https_errors=True).new_page()
        page.goto(f"{url}/placements?token=a-secret-of-some-length")
        assert page.url == f"{url}/placements"
        expect(page.locator("h1")).to_have_text("Placements")
        cookie = page.context.cookies()[0]
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        request = urllib.request.Request(url, method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30, context=context)
        assert caught.value.code == 405
