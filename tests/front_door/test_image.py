"""The container image and `kubectl apply -k manifests/`, as they stand, on real nodes."""

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from lab import images
from lab.real import RealCluster
from tests.harness.kube import Kube, wait_for
from tests.harness.process import ROOT

pytestmark = [pytest.mark.lab, pytest.mark.needs("real nodes", "image tools")]

SYSTEM = "gsch-system"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/gsch"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Two real nodes that have the image, and everything of the manifests on them."""
    archive = tmp_path_factory.mktemp("image") / "gsch.tar"
    built = subprocess.run(
        [ROOT / "scripts" / "image", archive], capture_output=True, text=True, timeout=900
    )
    assert built.returncode == 0, built.stdout + built.stderr
    made = RealCluster(f"img-{os.getpid()}")
    nodes = [{"kind": "Node", "metadata": {"name": f"node-{n}"}} for n in (1, 2)]
    made.bring_up(nodes, kube_scheduler=True, image_files=[archive])
    archive.unlink()
    try:
        made.kubectl("apply", "-k", str(ROOT / "manifests"))
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def ready(cluster: RealCluster) -> RealCluster:
    for what in ("deployment/gsch", "daemonset/gsch-agent"):
        cluster.kubectl("-n", SYSTEM, "rollout", "status", what, "--timeout=150s")
    return cluster


def schedulers(cluster: RealCluster) -> list[dict[str, Any]]:
    selector = "app.kubernetes.io/name=gsch"
    text = cluster.kubectl("-n", SYSTEM, "get", "pods", "-l", selector, "-o", "json")
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


def holder(kube: Kube) -> str:
    """The pod that holds the lease; empty with none."""
    lease = kube.request("GET", LEASE)
    return str((lease.get("spec") or {}).get("holderIdentity") or "").partition("_")[0]


def pod(name: str) -> dict[str, Any]:
    container = {"name": "c", "image": images.PAUSE, "imagePullPolicy": "Never"}
    spec = {
        "schedulerName": "gsch",
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def test_schedulers_console_and_agents_run_with_least_privileges(ready: RealCluster) -> None:
    pods = schedulers(ready)
    assert {p["spec"]["nodeName"] for p in pods} == {"node-1", "node-2"}
    name = pods[0]["metadata"]["name"]
    for container in ("gsch", "console"):
        inside = partial(
            ready.kubectl, "-n", SYSTEM, "exec", name, "-c", container, "--", "sh", "-c"
        )
        assert inside("id -u").strip() == "65532"
        assert "Read-only" in inside("touch /here 2>&1 || true")
        assert inside("grep CapEff /proc/self/status").split()[1].strip("0") == ""


def test_a_pod_is_placed_and_runs(ready: RealCluster) -> None:
    kube = Kube(ready.kubeconfig)
    kube.create(pod("first"))
    ready.kubectl("wait", "pod/first", "--for=condition=Ready", "--timeout=60s")
    events = kube.items("/apis/events.k8s.io/v1/namespaces/default/events")
    scheduled = [e for e in events if e["reason"] == "Scheduled"]
    assert [e["reportingController"] for e in scheduled] == ["gsch"]


def test_a_killed_scheduler_is_replaced_and_pods_are_placed_meanwhile(ready: RealCluster) -> None:
    kube = Kube(ready.kubeconfig)
    leader = wait_for(lambda: holder(kube))
    words = ["delete", "pod", leader, "--grace-period=0", "--force"]
    ready.kubectl("-n", SYSTEM, *words)
    kube.create(pod("second"))
    wait_for(lambda: holder(kube) not in ("", leader))
    ready.kubectl("wait", "pod/second", "--for=condition=Ready", "--timeout=60s")
    ready.kubectl("-n", SYSTEM, "rollout", "status", "deployment/gsch", "--timeout=120s")
    assert leader not in {p["metadata"]["name"] for p in schedulers(ready)}


def test_agents_measure_one_another_and_the_scheduler_knows(ready: RealCluster) -> None:
    name = schedulers(ready)[0]["metadata"]["name"]
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:{}').read().decode())"

    def latency() -> str:
        path = ask.format("10359/latency")
        command = ["-n", SYSTEM, "exec", name, "-c", "gsch", "--", "python", "-c", path]
        return ready.kubectl(*command)

    wait_for(lambda: "node-1" in latency() and "node-2" in latency())


def test_the_image_holds_no_settings_of_where_it_was_built(ready: RealCluster) -> None:
    name = schedulers(ready)[0]["metadata"]["name"]
    command = "cat /etc/pip.conf /run/secrets/certificates 2>&1; env | grep -i pip_; true"
    said = ready.kubectl("-n", SYSTEM, "exec", name, "-c", "gsch", "--", "sh", "-c", command)
    assert said.count("No such file") == 2
    assert len(said.splitlines()) == 2


def test_the_console_answers_on_its_loopback(ready: RealCluster) -> None:
    name = schedulers(ready)[0]["metadata"]["name"]
    program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/').status)"
    command = ["-n", SYSTEM, "exec", name, "-c", "console", "--", "python", "-c", program]
    assert ready.kubectl(*command).strip() == "200"
