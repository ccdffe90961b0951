"""A real node: pods run on it, logs and exec work, and nothing of it stays."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lab import binaries, host
from lab.binaries import LabError
from lab.pods import mount_host
from lab.processes import wait_until
from lab.real import RealCluster
from tests.harness.make import Json
from tests.harness.process import gsch

pytestmark = [pytest.mark.lab, pytest.mark.needs("real nodes")]

NODE = {
    "kind": "Node",
    "metadata": {"name": "one", "labels": {"place": "here"}},
    "spec": {"taints": [{"key": "k", "value": "v", "effect": "PreferNoSchedule"}]},
    "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}},
}


def test_a_pod_runs_speaks_and_answers_and_down_leaves_nothing(tmp_path: Path) -> None:
    name = f"one-{os.getpid()}"
    file = tmp_path / "nodes.yaml"
    file.write_text(json.dumps(NODE))
    root, archive = tmp_path / "root", tmp_path / "own.tar"
    root.mkdir()
    (root / "hello").write_text("from a folder\n")
    shutil.copy(binaries.ensure(["pause"])["pause"], root / "wait")
    said = gsch("lab", "image", "local/own:1", str(root), str(archive))
    assert said.returncode == 0, said.stderr
    words = ["up", name, "--real", "--kube-scheduler", "--node-file", str(file)]
    words += ["--image", str(archive)]
    said = gsch("lab", *words)
    assert said.returncode == 0, said.stderr
    cluster = RealCluster(name)
    kubectl = [str(binaries.ensure(["kubectl"])["kubectl"])]
    kubectl += ["--kubeconfig", str(cluster.kubeconfig)]

    def ask(*words: str, text: str = "") -> str:
        answer = subprocess.run(
            [*kubectl, *words], input=text, capture_output=True, text=True, check=False
        )
        return answer.stdout

    node = json.loads(ask("get", "node", "one", "-o", "json"))
    assert node["status"]["allocatable"]["cpu"] == "1"
    assert node["metadata"]["labels"]["place"] == "here"
    assert node["spec"]["taints"] == NODE["spec"]["taints"]  # type: ignore[index]
    assert wait_until(lambda: "default" in ask("get", "serviceaccounts"), 20)
    container = {"name": "c", "command": ["bash", "-c", "echo here I am; exec sleep 1000"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "chatty"},
        "spec": mount_host({"containers": [container], "terminationGracePeriodSeconds": 0}),
    }
    ask("create", "-f", "-", text=json.dumps(pod))
    assert ask("wait", "pod/chatty", "--for=condition=Ready", "--timeout=30s")
    assert wait_until(lambda: ask("logs", "chatty") == "here I am\n", 10)
    assert ask("exec", "chatty", "--", "cat", "/etc/hostname") == "chatty\n"

    own = {"name": "c", "image": "local/own:1", "imagePullPolicy": "Never", "command": ["/wait"]}
    spec = {"containers": [own], "terminationGracePeriodSeconds": 0}
    ask("create", "-f", "-", text=json.dumps({**pod, "metadata": {"name": "own"}, "spec": spec}))
    assert ask("wait", "pod/own", "--for=condition=Ready", "--timeout=30s")

    link = cluster.link
    assert gsch("lab", "down", name).returncode == 0
    assert not cluster.exists
    assert not list(host.NAMESPACES.glob(f"gsch-{name}.*"))
    assert not host.members(f"gsch-lab-{name}.*")
    assert not [g for root in host.hierarchies() for g in root.glob(f"gsch-lab-{name}.*")]
    assert str(cluster.folder) not in Path("/proc/mounts").read_text()
    assert link not in [line.split(":")[1].split("@")[0].strip()
                        for line in host.run("ip", "-o", "link").splitlines()]  # fmt: skip
    assert not list(Path("/var/lib/cni/results").glob(f"gsch-{name}.*"))


def test_a_bad_distance_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    name = f"bad-{os.getpid()}"
    file = tmp_path / "nodes.yaml"
    meta = {"name": "one", "annotations": {"lab.gsch.io/rtt-ms": "far"}}
    file.write_text(json.dumps({"kind": "Node", "metadata": meta}))
    said = gsch("lab", "up", name, "--real", "--node-file", str(file))
    assert said.returncode == 1
    assert "node one: annotation lab.gsch.io/rtt-ms: 'far' is no number" in said.stderr
    assert not RealCluster(name).exists
    assert not list(host.NAMESPACES.glob(f"gsch-{name}.*"))


SERVE = "mkdir /tmp/w; cd /tmp/w; hostname > index.html; exec python3 -m http.server 8000"
ASK = "import urllib.request as u; print(u.urlopen('http://{}', timeout=9).read().decode().strip())"


def test_services_and_names_lead_to_pods_of_every_node(tmp_path: Path) -> None:
    cluster = RealCluster(f"svc-{os.getpid()}")
    cluster.bring_up([{"kind": "Node", "metadata": {"name": name}} for name in ("n-1", "n-2")])
    try:
        wait_until(lambda: "default" in cluster.kubectl("get", "serviceaccounts"), 20)
        pods = [bash_pod(f"web-{n}", SERVE, f"n-{n}", {"app": "web"}) for n in (1, 2)]
        spec = {"selector": {"app": "web"}, "type": "NodePort"}
        port = {"port": 80, "targetPort": 8000, "nodePort": 31001}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {**spec, "ports": [port]},
        }
        items = [*pods, bash_pod("client", "exec sleep 1000", "n-1", {}), service]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        cluster.kubectl("create", "-f", "-", text=text)
        cluster.kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")

        def answers(host: str) -> str:
            command = ["exec", "client", "--", "python3", "-c", ASK.format(host)]
            try:
                return cluster.kubectl(*command).strip()
            except LabError:
                return ""

        for host_ in ("web", "web.default.svc.cluster.local", f"{cluster.address(1)}:31001"):
            answering: set[str] = set()
            deadline = time.monotonic() + 60
            while not answering >= {"web-1", "web-2"} and time.monotonic() < deadline:
                answering.add(answers(host_))
            assert answering >= {"web-1", "web-2"}, host_
    finally:
        cluster.down()


def bash_pod(name: str, command: str, node: str, labels: dict[str, str]) -> Json:
    container = {"name": "c", "command": ["bash", "-c", command]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "nodeName": node}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": mount_host(spec),
    }
