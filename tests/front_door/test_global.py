"""Requests over HTTP, placed in two real clusters, each with a scheduler of its own."""

import hashlib
import hmac
import json
import secrets
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from federation.agent import works

from lab import binaries
from lab.backing import Postgres
from tests.front_door.test_manifests import kubeconfig_of
from tests.harness.console import Looking, browser, console
from tests.harness.kube import wait_for
from tests.harness.layer import FINAL, Away, Layer, Member, clear, members, pods_by_request
from tests.harness.make import pod_json
from tests.harness.process import ROOT, gsch

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    with members(tmp_path_factory.mktemp("members"), "c1", "c2") as made:
        yield made


@pytest.fixture
def layer(clusters: list[Member], tmp_path: Path) -> Iterator[Layer]:
    with Layer(tmp_path, clusters) as running:
        yield running
    clear(clusters)


def pod(name: str, cpu: str = "10m", **spec: Any) -> str:
    made = pod_json(name, {"cpu": cpu}, **spec)
    del made["metadata"]["namespace"]
    return yaml.safe_dump(made)


def deployment(name: str, replicas: int, cpu: str = "10m") -> str:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return yaml.safe_dump(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [container]},
                },
            },
        }
    )


def test_a_request_runs_in_the_first_cluster_that_has_room(
    layer: Layer, clusters: list[Member]
) -> None:
    small, large = pod("small"), deployment("large", 4, cpu="2500m")
    first = layer.ended(layer.submit(small, clusters=["c1", "c2"]))
    assert (first["state"], first["attempts"][-1]["cluster"]) == ("completed", "c1")
    # Three nodes of 4 CPUs each take three of these and not four.
    beyond = layer.ended(layer.submit(large, clusters=["c1"]))
    assert beyond["state"] == "failed"
    assert "Insufficient cpu" in beyond["message"]
    assert pods_by_request(clusters) == {first["id"]: ["c1"]}


def test_pods_get_our_scheduler_a_config_and_labels_and_run_there(
    layer: Layer, clusters: list[Member]
) -> None:
    found = layer.ended(
        layer.submit(deployment("web", 2), clusters=["c2"], policy="GSelectedCluster")
    )
    assert found["state"] == "completed", found
    pods = clusters[1].kube.pods("default").values()
    assert {pod["spec"]["schedulerName"] for pod in pods} == {"gsch"}
    assert all(pod["spec"]["nodeName"].startswith("c2-") for pod in pods)
    (env,) = {v["value"] for p in pods for v in p["spec"]["containers"][0]["env"]}
    assert yaml.safe_load(env) == {"type": "local"}
    work = clusters[1].kube.get(f"/apis/federation.gsch.io/v1alpha1/works/{found['id']}")
    (reference,) = work["spec"]["objects"]
    assert (reference["kind"], reference["name"]) == ("Deployment", "web")
    assert work["spec"]["result"]["status"] == "success"


def test_cancelling_a_completed_request_removes_all_of_it(
    layer: Layer, clusters: list[Member]
) -> None:
    request_id = layer.submit(deployment("web", 2) + "---\n" + pod("beside"), clusters=["c1"])
    assert layer.ended(request_id)["state"] == "completed"
    layer.ok("DELETE", f"/requests/{request_id}")
    wait_for(lambda: layer.ok("GET", f"/requests/{request_id}")["state"] == "canceled")
    assert pods_by_request(clusters) == {}
    assert clusters[0].kube.items("/apis/apps/v1/namespaces/default/deployments") == []


def test_a_set_gets_its_copies_in_every_cluster(layer: Layer, clusters: list[Member]) -> None:
    found = layer.ended(
        layer.submit(deployment("every", 2), "GSetClusters", clusters=[["c1", "c2"]])
    )
    assert found["state"] == "completed", found
    assert sorted(pods_by_request(clusters)[found["id"]]) == ["c1", "c1", "c2", "c2"]


def test_a_divided_set_shares_its_pods_out(layer: Layer, clusters: list[Member]) -> None:
    found = layer.ended(
        layer.submit(
            deployment("shared", 6, cpu="1900m"),
            "GSetClusters",
            clusters=[["c1", "c2"]],
            replicaScheduling="Divided",
        )
    )
    assert found["state"] == "completed", found
    where = pods_by_request(clusters)[found["id"]]
    assert len(where) == 6
    assert set(where) == {"c1", "c2"}


def test_what_another_made_is_neither_taken_over_nor_removed(
    layer: Layer, clusters: list[Member]
) -> None:
    clusters[0].kube.create(pod_json("mine", {"cpu": "10m"}, scheduler="other"))
    found = layer.ended(layer.submit(pod("mine"), clusters=["c1", "c2"]))
    assert found["attempts"][0]["message"].startswith("Pod mine exists already")
    assert (found["state"], found["attempts"][-1]["cluster"]) == ("completed", "c2")
    assert clusters[0].kube.pod("default", "mine")["spec"]["schedulerName"] == "other"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"yaml": "kind: Pod"}, "line 1: apiVersion is missing"),
    ({"yaml": "a: [1, 2"}, "no YAML: line 2, column 1"),
    ({"yaml": "- 1"}, "line 1: an object is expected, this is a list"),
    ({"yaml": ""}, "the YAML has no object"),
    ({"yaml": pod("Upper")}, "is no name"),
    ({"yaml": pod("p", cpu="1x")}, "1x"),
    ({"yaml": pod("p") + "---\n" + pod("p")}, "is there already, in line 1"),
    ({"yaml": pod("p", nodeName="n")}, "nodeName names a node"),
    ({"yaml": "apiVersion: v1\nkind: Node\nmetadata: {name: n}"}, "belongs to the cluster itself"),
    ({"yaml": "x" * (1 << 20) + "yz"}, "bytes, at most"),
    ({"policy": "GBest"}, "policy: 'GBest' is none"),
    ({"clusters": ["c9"]}, "no agent of a cluster 'c9' has reported; there are: c1, c2"),
    ({"clusters": ["c1", "c1"]}, "c1 is there twice"),
    ({"clusters": [["c1", ["c2"]]]}, "request body: Expected `str`"),
    ({"clusters": [[]]}, "a level is empty"),
    ({"surprise": 1}, "unknown field `surprise`"),
    ({"mode": "node", "node": "n"}, "mode node: GSelectedCluster with exactly one"),
    ({"sourceNode": "n"}, "sourceCluster: say in which cluster"),
    ({"acceptWithinSeconds": 0}, "acceptWithinSeconds"),
]


def test_bad_input_is_refused_with_what_is_wrong_and_where(layer: Layer) -> None:
    for fields, message in BAD:
        body: dict[str, Any] = {"yaml": pod("p"), "policy": "GMostRequestedPriority"}
        body.update(fields)
        status, found = layer.call("POST", "/requests", body)
        assert status == 400, (fields, found)
        assert message in found["error"]["message"], (fields, found)
    assert layer.call("POST", "/requests", b"{nonsense")[0] == 400
    assert layer.call("GET", "/requests/none")[0] == 404
    assert layer.ok("GET", "/requests")["items"] == []


def test_an_alias_bomb_is_refused_at_once(layer: Layer) -> None:
    levels = "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    started = time.monotonic()
    status, found = layer.call(
        "POST",
        "/requests",
        {"yaml": f"a: &a [x]\n{levels}", "policy": "GMostRequestedPriority"},
    )
    assert (status, "unfold to more than" in found["error"]["message"]) == (400, True)
    assert time.monotonic() - started < 5


def test_an_idempotency_key_makes_one_request(layer: Layer, clusters: list[Member]) -> None:
    body = {"yaml": pod("once"), "policy": "GMostRequestedPriority"}
    key = {"Idempotency-Key": "k1"}
    ids = {layer.ok("POST", "/requests", body, **key)["id"] for _ in range(3)}
    assert len(ids) == 1
    status, found = layer.call("POST", "/requests", body | {"fast": True}, **key)
    assert (status, "another body" in found["error"]["message"]) == (409, True)
    assert layer.ended(ids.pop())["state"] == "completed"
    assert len(pods_by_request(clusters)) == 1


def test_low_latency_from_a_cluster_alone_stays_in_it(layer: Layer, clusters: list[Member]) -> None:
    found = layer.ended(layer.submit(pod("near"), "GLowLatencyPriority", sourceCluster="c2"))
    assert (found["state"], found["attempts"][-1]["cluster"]) == ("completed", "c2")
    assert found["attempts"][-1]["rttMs"] == 0.0


def test_a_dry_run_ranks_clusters_and_makes_nothing(layer: Layer) -> None:
    body = {"yaml": pod("p", cpu="100"), "policy": "GMostRequestedPriority", "clusters": ["c1"]}
    found = layer.ok("POST", "/requests?dryRun=All", body)
    assert found["levels"] == [
        {"asked": [], "leftOut": {"c1": "no node has room: insufficient cpu"}}
    ]
    assert layer.ok("GET", "/requests")["items"] == []


def test_no_request_is_lost_or_doubled_while_the_layer_is_killed_again_and_again(
    clusters: list[Member], layer: Layer
) -> None:
    """kill -9 at random moments: every request completes, and has exactly one pod."""
    number = 60
    with ThreadPoolExecutor(8) as pool:
        ids = list(
            pool.map(lambda n: layer.submit(pod(f"p{n}"), clusters=[["c1", "c2"]]), range(number))
        )
    for _ in range(4):
        before = len(pods_by_request(clusters))
        wait_for(partial(_more_than, clusters, min(before, number - 1)), pause=0.01)
        layer.signal(signal.SIGKILL)
        layer.process.wait(10)
        layer.start()
    ended = [layer.ended(request_id) for request_id in ids]
    assert {found["state"] for found in ended} == {"completed"}, ended
    where = pods_by_request(clusters)
    assert {request_id: len(where[request_id]) for request_id in ids} == dict.fromkeys(ids, 1)
    for found in ended:
        running = [a["cluster"] for a in found["attempts"] if a["state"] == "succeeded"]
        assert running == where[found["id"]]


def _more_than(clusters: list[Member], number: int) -> bool:
    return len(pods_by_request(clusters)) > number


def test_requests_in_flight_move_to_postgresql(clusters: list[Member], tmp_path: Path) -> None:
    """The layer is killed under work; its database is carried over, and all goes on there."""
    number = 24
    with Postgres(f"postgres-{secrets.token_hex(4)}") as postgres:
        with Layer(tmp_path, clusters) as layer:
            ids = [layer.submit(pod(f"p{n}"), clusters=[["c1", "c2"]]) for n in range(number)]
            wait_for(partial(_more_than, clusters, 4), pause=0.01)
            layer.kill()
        done = gsch("global", "migrate", f"sqlite:///{tmp_path}/global.db", "--to", postgres.url)
        assert done.returncode == 0, done.stderr
        assert f"requests: {number} rows" in done.stdout
        with Layer(tmp_path, clusters, database=postgres.url) as layer:
            ended = [layer.ended(request_id) for request_id in ids]
            assert {found["state"] for found in ended} == {"completed"}
            where = pods_by_request(clusters)
            assert {r: len(where[r]) for r in ids} == dict.fromkeys(ids, 1)
    clear(clusters)


def test_requests_without_any_agent_wait_and_finish_once_agents_come(
    clusters: list[Member], tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    number = 150
    with Layer(tmp_path, clusters) as layer:
        layer.ended(layer.submit(pod("first"), clusters=["c1"]))
    away = [replace(one, lab=Away(one.name)) for one in clusters]
    with Layer(tmp_path, away, wait=False) as layer:
        with ThreadPoolExecutor(8) as pool:
            made = pool.map(
                lambda n: layer.submit(pod(f"q{n}"), clusters=[["c1", "c2"]]), range(number)
            )
            ids = list(made)
        found = layer.ok("GET", f"/requests/{ids[0]}")
        assert found["state"] not in FINAL
    with Layer(tmp_path, clusters) as layer:
        ended = [layer.ended(request_id) for request_id in ids]
        assert {found["state"] for found in ended} == {"completed"}, ended
        assert {found["failures"] for found in ended} == {0}
        assert len(pods_by_request(clusters)) == number + 1
    clear(clusters)


def test_what_finished_long_ago_is_forgotten_here_and_in_the_clusters(
    clusters: list[Member], tmp_path: Path
) -> None:
    with Layer(tmp_path, clusters) as layer:
        request_id = layer.submit(pod("old"), clusters=["c1"])
        layer.ended(request_id)
        layer.ok("DELETE", f"/requests/{request_id}")
        wait_for(lambda: layer.ok("GET", f"/requests/{request_id}")["state"] == "canceled")
    works = "/apis/federation.gsch.io/v1alpha1/works"
    assert [w["spec"]["state"] for w in clusters[0].kube.items(works)] == ["Revoked"]
    with Layer(tmp_path, clusters, keepFinishedDays=0.00001) as layer:
        wait_for(lambda: layer.call("GET", f"/requests/{request_id}")[0] == 404)
        wait_for(lambda: not clusters[0].kube.items(works))


def test_a_callback_is_signed_and_comes_again_until_it_is_taken(
    clusters: list[Member], tmp_path: Path
) -> None:
    received: list[tuple[bytes, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((body, self.headers["X-Gsch-Signature"]))
            self.send_response(503 if len(received) < 3 else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"http://127.0.0.1:{server.server_port}/told"
    key = tmp_path / "callbacks.key"
    callbacks = {"keyFile": str(key), "allowPrivate": True}
    with Layer(tmp_path, clusters, callbacks=callbacks) as layer:
        request_id = layer.submit(pod("told"), clusters=["c1"], callbackUrl=target)
        wait_for(lambda: len(received) >= 3)
    server.shutdown()
    body, signature = received[-1]
    assert json.loads(body)["request_id"] == request_id
    assert json.loads(body)["status"] == "completed"
    expected = hmac.new(key.read_bytes().strip(), body, hashlib.sha256).hexdigest()
    assert signature == f"sha256={expected}"
    assert {one for one, _ in received} == {body}
    clear(clusters)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1:9/", "is a private address"),
        ("http://169.254.169.254/latest/meta-data", "is a private address"),
        ("http://[::ffff:10.0.0.1]/", "is a private address"),
        ("ftp://example.com/", "https://HOST/PATH"),
        ("https://user:secret@example.com/", "leave user and password out"),
        ("https://" + "x" * 3000, "at most 2000 characters"),
    ],
)
def test_callbacks_go_to_no_private_address(layer: Layer, url: str, problem: str) -> None:
    body = {"yaml": pod("p"), "policy": "GMostRequestedPriority", "callbackUrl": url}
    status, found = layer.call("POST", "/requests", body)
    assert (status, problem in found["error"]["message"]) == (400, True), found


def test_a_watch_tells_the_history_as_it_grows_until_the_end(layer: Layer) -> None:
    request_id = layer.submit(deployment("seen", 2), clusters=[["c1", "c2"]])
    url = f"{layer.url}/api/v1/requests/{request_id}/events"
    with urllib.request.urlopen(url, timeout=60) as stream:
        lines = stream.read().decode().splitlines()
    texts = [json.loads(x.removeprefix("data: "))["text"] for x in lines if x[:7] == "data: {"
             and x != "data: {}"]  # fmt: skip
    assert "event: end" in lines
    assert texts[-1] == "completed"
    assert any("applying" in text for text in texts)
    # From where it broke off.
    last = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")][-2]
    request = urllib.request.Request(url, headers={"Last-Event-ID": last})
    with urllib.request.urlopen(request, timeout=60) as stream:
        assert stream.read().decode().count("data: {") == 2


def test_the_agent_runs_with_exactly_the_rights_of_its_manifests(
    clusters: list[Member], tmp_path: Path
) -> None:
    one = clusters[0]
    kubectl = str(binaries.ensure(["kubectl"])["kubectl"])
    # Server-side: an agent may have made the kind Work already.
    command = [kubectl, "--kubeconfig", str(one.lab.kubeconfig), "apply", "--server-side",
               "--force-conflicts", "-k", str(ROOT / "manifests" / "global" / "agent")]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr
    one.kube.delete("/apis/apps/v1/namespaces/gsch-system/deployments/gsch-cluster-agent")
    account = kubeconfig_of("gsch-system", "gsch-cluster-agent", one.lab, one.kube, tmp_path)
    with_account = replace(one, lab=Away(one.name, account))
    several = deployment("web", 2) + "---\n" + yaml.safe_dump({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {}
    })  # fmt: skip
    role = yaml.safe_dump({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "more"}, "rules": [],
    })  # fmt: skip
    with Layer(tmp_path, [with_account]) as layer:
        found = layer.ended(layer.submit(several, clusters=["c1"]))
        assert found["state"] == "completed", found
        # What `edit` may not, a request may not: in the API server's own words.
        refused = layer.ended(layer.submit(role, clusters=["c1"]))
        assert refused["state"] == "failed"
        assert "cannot get resource" in refused["message"] or "forbidden" in refused["message"]
        layer.ok("DELETE", f"/requests/{found['id']}")
        wait_for(lambda: layer.ok("GET", f"/requests/{found['id']}")["state"] == "canceled")
        assert pods_by_request(clusters) == {}
        lines = layer.log.read_text().splitlines()
        assert [x for x in lines if "forbidden" in x and "roles" not in x] == []


def test_the_manifest_of_works_is_the_code_s() -> None:
    text = (ROOT / "manifests" / "global" / "agent" / "works.yaml").read_text()
    assert yaml.safe_load(text) == works.definition()


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
        page.wait_for_function("document.getElementById('yaml').value.includes('by-hand')")
        page.get_by_label("Priority").select_option("GMostRequestedPriority")
        page.get_by_role("button", name="Choose target clusters…").click()
        page.get_by_role("button", name="select c2 for level 1").click()
        page.get_by_role("button", name="Add a level").click()
        page.get_by_role("button", name="Select all").click()
        page.get_by_role("button", name="Done").click()
        assert page.locator("#levels-text").inner_text() == "c2 → c1"
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
