"""kubectl looks into pods that run on a real node of another cluster: logs, exec, port-forward."""

import os
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lab import binaries
from lab.measure import free_port
from lab.pods import mount_host, python_command
from lab.real import RealCluster
from tests.harness.forwarding import (
    NAMESPACE,
    PODS,
    admin_of,
    ask_kubelet,
    forwarded,
    namespace,
    phase_of,
)
from tests.harness.kube import Kube, wait_for
from tests.harness.layer import Apart, Front, Layer, Member, Servers

pytestmark = [pytest.mark.lab, pytest.mark.needs("real nodes")]

SPEAKER = """
import http.server, itertools, threading, time
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello from afar\\n" * 20000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Hello)
threading.Thread(target=server.serve_forever, daemon=True).start()
for number in itertools.count():
    print("line", number, flush=True)
    time.sleep(0.2)
"""
KUBELET_PORT = free_port()


@pytest.fixture(scope="module")
def there(clusters: list[Member]) -> Iterator[Member]:
    cluster = RealCluster(f"far-{os.getpid()}")
    node = {"metadata": {"name": "far"}, "status": {"allocatable": {"cpu": "2", "memory": "2Gi"}}}
    cluster.bring_up([node], kube_scheduler=True)
    try:
        kube = Kube(cluster.kubeconfig)
        kube.create(namespace())
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        wait_for(lambda: kube.serves(account))
        own = {"scheduler": "default-scheduler"}
        yield Member("far", cluster, kube, clusters[0].scheduler, own)
    finally:
        cluster.down()


@pytest.fixture(scope="module", params=["one process", "processes"])
def front(
    request: pytest.FixtureRequest,
    enabled: list[Member],
    there: Member,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    """The layer with a pod `speaker` of c1 that runs in `far`."""
    kubelet = {"kubelet": {"address": "127.0.0.1", "port": KUBELET_PORT}}
    here = replace(enabled[0], settings=kubelet)
    folder = tmp_path_factory.mktemp("streams")
    if request.param == "one process":
        with Layer(folder, [here, there]) as layer:
            yield from with_speaker(layer, here)
    else:
        servers: Servers = request.getfixturevalue("servers")
        with Apart(folder, [here, there], servers) as apart:
            yield from with_speaker(apart.front, here)


def with_speaker(front: Front, here: Member) -> Iterator[Front]:
    pod = forwarded("speaker", ["far"], terminationGracePeriodSeconds=0)
    pod["spec"]["containers"][0]["command"] = python_command("-c", SPEAKER)
    pod["spec"] = mount_host(pod["spec"])
    here.kube.create(pod)
    wait_for(lambda: phase_of(here, "speaker") == "Running", 60)
    yield front
    here.kube.delete(f"{PODS}/speaker")
    wait_for(lambda: not here.kube.items(PODS))


def kubectl(here: Member, *words: str) -> list[str]:
    path = str(binaries.ensure(["kubectl"])["kubectl"])
    return [path, "--kubeconfig", str(here.lab.kubeconfig), "-n", NAMESPACE, *words]


def ask(here: Member, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        kubectl(here, *words), input=text, capture_output=True, text=True, timeout=60, check=False
    )


def test_logs_are_read_and_followed(front: Front, enabled: list[Member]) -> None:
    here = enabled[0]
    wait_for(lambda: "line 3\n" in ask(here, "logs", "speaker").stdout)
    tail = ask(here, "logs", "speaker", "--tail=2")
    assert len(tail.stdout.splitlines()) == 2, tail.stderr
    with subprocess.Popen(
        kubectl(here, "logs", "-f", "--tail=1", "speaker"), stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        numbers = [int(following.stdout.readline().split()[1]) for _ in range(6)]
        following.kill()
    assert numbers == list(range(numbers[0], numbers[0] + 6))


def test_what_happens_on_the_node_is_said_at_the_proxy(front: Front, enabled: list[Member]) -> None:
    event, *_ = wait_for(lambda: enabled[0].kube.events(NAMESPACE, "speaker", "Started"))
    assert event["note"] == "cluster far: Container started"


def test_exec_carries_input_output_and_exit_code(front: Front, enabled: list[Member]) -> None:
    here = enabled[0]
    assert ask(here, "exec", "speaker", "--", "cat", "/etc/hostname").stdout == "speaker\n"
    text = "word\n" * 50_000
    assert ask(here, "exec", "-i", "speaker", "--", "cat", text=text).stdout == text
    failed = ask(here, "exec", "speaker", "--", "sh", "-c", "echo no >&2; exit 7")
    assert (failed.returncode, failed.stderr.splitlines()[0]) == (7, "no")


def test_port_forward_reaches_a_server_in_the_pod(front: Front, enabled: list[Member]) -> None:
    port = free_port()
    with subprocess.Popen(
        kubectl(enabled[0], "port-forward", "pod/speaker", f"{port}:8000"),
        stdout=subprocess.PIPE, text=True,
    ) as forwarding:  # fmt: skip
        assert forwarding.stdout is not None
        assert "Forwarding" in forwarding.stdout.readline()
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as reply:
                assert reply.read() == b"hello from afar\n" * 20000
        forwarding.kill()


def test_what_is_not_there_is_said(front: Front, enabled: list[Member]) -> None:
    here = enabled[0]
    unknown = ask(here, "exec", "speaker", "-c", "other", "--", "true")
    assert "other" in unknown.stderr
    assert unknown.returncode == 1
    refused = ask(here, "exec", "speaker", "--", "/no/such/program")
    assert refused.returncode != 0
    assert "no such file" in refused.stderr


def test_only_clients_of_the_cluster_s_authority_that_may_are_answered(
    front: Front, enabled: list[Member], tmp_path: Path
) -> None:
    here = enabled[0]
    pki = here.lab.kubeconfig.parent / "pki"
    certificate, key = tmp_path / "crt", tmp_path / "key"
    request = tmp_path / "csr"
    for words in (
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mallory/O=people",
         "-keyout", str(key), "-out", str(request)],
        ["x509", "-req", "-in", str(request), "-CA", str(pki / "ca.crt"), "-CAkey",
         str(pki / "ca.key"), "-CAcreateserial", "-CAserial", str(tmp_path / "serial"),
         "-out", str(certificate), "-days", "1"],
    ):  # fmt: skip
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    path = f"/containerLogs/{NAMESPACE}/speaker/main"
    nobody = f"/containerLogs/{NAMESPACE}/nobody/main"
    assert ask_kubelet(KUBELET_PORT, path) == "", "nobody without a certificate is answered"
    assert "403" in ask_kubelet(KUBELET_PORT, path, certificate, key).splitlines()[0]
    admin = admin_of(here)
    assert "200 OK" in ask_kubelet(KUBELET_PORT, path, *admin).splitlines()[0]
    assert "404" in ask_kubelet(KUBELET_PORT, "/pods", *admin).splitlines()[0]
    assert "404" in ask_kubelet(KUBELET_PORT, nobody, *admin).splitlines()[0]
    assert "400" in ask_kubelet(KUBELET_PORT, "no path", *admin).splitlines()[0]


def test_a_proxy_shows_nothing_of_a_copy_of_another_request(
    front: Front, enabled: list[Member]
) -> None:
    here = enabled[0]
    meta = here.kube.pod(NAMESPACE, "speaker")["metadata"]
    path = f"/containerLogs/{NAMESPACE}/speaker/main"
    for request_id, answer in (
        ("another", "the pod has no copy here"),
        (meta["annotations"]["gsch.io/request-id"], "line 0"),
    ):
        changed = {"metadata": {"annotations": {"gsch.io/request-id": request_id}}}
        here.kube.patch(f"{PODS}/speaker", changed)
        wait_for(partial(_answered, path, admin_of(here), answer))


def _answered(path: str, admin: tuple[Path, Path], text: str) -> bool:
    return text in ask_kubelet(KUBELET_PORT, path, *admin)
