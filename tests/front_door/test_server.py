"""The scheduler's own HTTP server, its configuration file, and the reload of it."""

import json
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from lab.cluster import LabCluster
from tests.front_door.conftest import MakeNodes
from tests.harness.kube import Kube, wait_for
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import Gsch, gsch

METRICS = (
    "scheduler_schedule_attempts_total",
    "scheduler_scheduling_attempt_duration_seconds_bucket",
    "scheduler_pending_pods",
    "scheduler_pod_scheduling_attempts_bucket",
    "scheduler_framework_extension_point_duration_seconds_bucket",
    "scheduler_queue_incoming_pods_total",
    "scheduler_pod_scheduling_sli_duration_seconds_bucket",
    "scheduler_unschedulable_pods",
    "scheduler_preemption_attempts_total",
    "scheduler_preemption_victims_count",
)


def test_health_metrics_and_configuration(
    scheduler: Gsch, kube: Kube, namespace: str, make_nodes: MakeNodes
) -> None:
    make_nodes(node_json("n", cpu="1"))
    assert scheduler.get("/livez") == scheduler.get("/readyz") == "ok\n"
    kube.create(
        pod_json("fits", namespace=namespace), pod_json("big", {"cpu": "9"}, namespace=namespace)
    )
    kube.node_of(namespace, "fits")
    kube.refusal(namespace, "big")
    text = scheduler.get("/metrics")
    assert [name for name in METRICS if f"\n{name}" not in text] == []
    refused = scheduler.metric(
        "scheduler_unschedulable_pods", plugin="NodeResourcesFit", profile="gsch"
    )
    assert refused == 1
    names = [p["schedulerName"] for p in json.loads(scheduler.get("/configz"))["profiles"]]
    assert names == ["gsch", "griffin_scheduler"]


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_tls_and_token_beyond_loopback(lab: LabCluster, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("a-long-enough-token\n")
    server = {
        "port": 0,
        "bindAddress": "0.0.0.0",  # noqa: S104 - what is tested
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "tokenFile": str(token),
    }
    settings: Json = {"profiles": [{"schedulerName": "secured"}], "server": server}
    with Gsch(tmp_path, lab.kubeconfig, **settings) as running:
        port = running.wait_for_log("serving")[0]["port"]
        trust = ssl.create_default_context(cafile=str(certificate))

        def status(path: str, token: str = "") -> int:
            request = urllib.request.Request(f"https://127.0.0.1:{port}{path}")
            if token:
                request.add_header("Authorization", f"Bearer {token}")
            try:
                with urllib.request.urlopen(request, context=trust, timeout=60) as reply:
                    return int(reply.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        assert status("/livez") == status("/readyz") == 200
        assert status("/metrics") == status("/configz", "a-long-enough-tokem") == 401
        assert status("/metrics", "a-long-enough-token") == 200


def test_a_reload_takes_new_profiles_and_keeps_the_queue(
    lab: LabCluster, kube: Kube, namespace: str, make_nodes: MakeNodes, tmp_path: Path
) -> None:
    make_nodes(node_json("n", cpu="1"))
    with Gsch(tmp_path, lab.kubeconfig, profiles=[{"schedulerName": "one"}]) as running:
        kube.create(pod_json("waits", {"cpu": "5"}, namespace=namespace, scheduler="one"))
        kube.refusal(namespace, "waits")
        running.config.write_text("profiles: [")
        running.signal(signal.SIGHUP)
        running.wait_for_log("configuration not taken, the old one stays")
        kube.create(pod_json("early", namespace=namespace, scheduler="two"))
        running.configure(profiles=[{"schedulerName": "one"}, {"schedulerName": "two"}])
        running.signal(signal.SIGHUP)
        running.wait_for_log("configuration taken")
        kube.create(pod_json("new", namespace=namespace, scheduler="two"))
        assert kube.node_of(namespace, "new") == kube.node_of(namespace, "early") == "n"
        assert "waits" in kube.pods(namespace)
        kube.create(node_json("big", cpu="8"))
        assert kube.node_of(namespace, "waits") == "big"


def test_not_ready_while_the_api_server_is_out_of_reach(tmp_path: Path, lab: LabCluster) -> None:
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    kubeconfig = tmp_path / "kubeconfig.yaml"
    kubeconfig.write_text(yaml.safe_dump(config))
    running = Gsch(tmp_path, kubeconfig)
    running.launch()
    try:
        running.wait_for_log("cannot list")
        assert running.get("/livez") == "ok\n"
        with pytest.raises(urllib.error.HTTPError) as caught:
            running.get("/readyz")
        with caught.value as error:
            assert error.code == 503
            assert b"waiting for the first list of nodes" in error.read()
    finally:
        assert running.stop() == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Other", "apiVersion must be"),
        ("apiVersion: config.gsch.io/v1alpha1\nkind: GschConfiguration\nprofilez: []", "profilez"),
        ("[", "not YAML"),
    ],
)
def test_a_bad_configuration_ends_with_one_clear_line(
    text: str, words: str, tmp_path: Path, lab: LabCluster
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    for command in (["config", "check", str(file)], ["run", "--config", str(file)]):
        answer = gsch(*command, kubeconfig=lab.kubeconfig)
        assert answer.returncode == 1
        assert words in answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_missing_kubeconfig_is_said_plainly(tmp_path: Path) -> None:
    answer = gsch("run", "--kubeconfig", str(tmp_path / "none"))
    assert answer.returncode == 1
    assert "--kubeconfig" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_is_taken_is_said_plainly(
    scheduler: Gsch, tmp_path: Path, lab: LabCluster
) -> None:
    port = scheduler.wait_for_log("serving")[0]["port"]
    running = Gsch(tmp_path, lab.kubeconfig, server={"port": port})
    running.launch()
    assert wait_for(lambda: running.process.poll() is not None)
    assert running.process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in running.text()
    assert "Traceback" not in running.text()
