"""What `kubectl apply -k manifests/` sets up is enough for the scheduler, and no more."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.api.access import Access
from cluster.api.client import ApiClient
from cluster.api.credentials import of_service_account
from cluster.objects.core import Node, ObjectList
from lab import binaries
from lab.cluster import LabCluster
from lab.measure import free_port
from tests.front_door.conftest import MakeNodes
from tests.harness.extender import Extender, args
from tests.harness.kube import Kube, wait_for
from tests.harness.layer import Away
from tests.harness.make import Json, node_json, pod_json
from tests.harness.process import ROOT, Gsch

SYSTEM = "gsch-system"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:gsch"


@pytest.fixture(scope="module")
def applied(lab: LabCluster, kube: Kube) -> Iterator[None]:
    kubectl = str(binaries.ensure(["kubectl"])["kubectl"])
    answer = subprocess.run(
        [kubectl, "--kubeconfig", str(lab.kubeconfig), "apply", "-k", str(ROOT / "manifests")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    # What a strict pod-security admission would refuse, or the API server does not know, warns.
    assert "Warning" not in answer.stderr
    yield
    kube.delete(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/gsch")


@pytest.fixture
def account(applied: None, lab: LabCluster, kube: Kube, tmp_path: Path) -> Path:
    """A kubeconfig of the service account's own, with a token from the API server."""
    return kubeconfig_of(SYSTEM, "gsch", lab, kube, tmp_path)


def kubeconfig_of(
    namespace: str, name: str, lab: LabCluster | Away, kube: Kube, tmp_path: Path
) -> Path:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = kube.request("POST", path, body)["status"]["token"]
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    found = tmp_path / "account.yaml"
    found.write_text(yaml.safe_dump(config))
    return found


def test_the_extender_runs_with_exactly_its_rights(
    applied: None, lab: LabCluster, kube: Kube, make_nodes: MakeNodes, tmp_path: Path
) -> None:
    make_nodes(node_json("n"))
    kubectl = str(binaries.ensure(["kubectl"])["kubectl"])
    examples = ROOT / "examples" / "config"
    command = [kubectl, "--kubeconfig", str(lab.kubeconfig), "apply", "-f"]
    subprocess.run([*command, str(examples / "extender-rbac.yaml")], check=True)
    account = kubeconfig_of("kube-system", "gsch-extender", lab, kube, tmp_path)
    settings = yaml.safe_load((examples / "extender.yaml").read_text())
    settings["extender"]["port"] = free_port()
    with Extender(tmp_path, account, **settings) as running:
        pod = pod_json("p")
        assert running.call("/filter", args(pod, "n"))[1]["NodeNames"] == ["n"]
        assert running.stop() == 0
        assert "forbidden" not in running.log.read_text()


def test_the_scheduler_runs_with_exactly_these_rights(
    account: Path, kube: Kube, namespace: str, make_nodes: MakeNodes, tmp_path: Path
) -> None:
    make_nodes(node_json("n", cpu="1"))
    settings = yaml.safe_load((ROOT / "manifests" / "gsch.yaml").read_text())
    settings["server"] = {"port": 0}
    settings["profiles"] = [{"schedulerName": "manifest"}]
    settings["leaderElection"] |= {"leaseDuration": 3, "renewDeadline": 2, "retryPeriod": 0.5}
    kube.create(pod_json("fits", namespace=namespace, scheduler="manifest"))
    kube.create(pod_json("big", {"cpu": "9"}, namespace=namespace, scheduler="manifest"))
    with Gsch(tmp_path, account, **settings) as running:
        assert kube.node_of(namespace, "fits", 40) == "n"
        kube.refusal(namespace, "big")
        wait_for(lambda: kube.events(namespace, "fits") and kube.events(namespace, "big"))
        assert running.stop() == 0
        refused = [line for line in running.log.read_text().splitlines() if "forbidden" in line]
        assert refused == []


@pytest.mark.parametrize(
    ("verb", "group", "resource", "subresource", "allowed"),
    [
        ("list", "", "nodes", "", True),
        ("get", "", "pods", "", True),
        ("create", "", "pods", "binding", True),
        ("patch", "", "pods", "status", True),
        ("create", "events.k8s.io", "events", "", True),
        # Preemption deletes pods and volumes are promised to claims: both by these rights alone.
        ("delete", "", "pods", "", True),
        ("patch", "", "persistentvolumes", "", True),
        ("patch", "", "persistentvolumeclaims", "", True),
        ("delete", "", "persistentvolumeclaims", "", False),
        ("deletecollection", "", "pods", "", False),
        ("create", "", "pods", "", False),
        ("update", "", "pods", "", False),
        ("patch", "", "pods", "", False),
        ("create", "", "pods", "exec", False),
        ("create", "", "pods", "eviction", False),
        ("get", "", "secrets", "", False),
        ("list", "", "secrets", "", False),
        ("list", "", "configmaps", "", False),
        ("update", "", "nodes", "", False),
        ("patch", "", "nodes", "", False),
        ("update", "coordination.k8s.io", "leases", "", False),
        ("*", "*", "*", "", False),
    ],
)
def test_the_api_server_s_own_authoriser_agrees(
    verb: str, group: str, resource: str, subresource: str, allowed: bool,
    applied: None, kube: Kube,
) -> None:  # fmt: skip
    attributes: Json = {"verb": verb, "group": group, "resource": resource, "namespace": "default"}
    if subresource:
        attributes["subresource"] = subresource
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "resourceAttributes": attributes},
    }
    answer = kube.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    assert answer["status"]["allowed"] is allowed


async def test_in_a_pod_the_account_s_token_is_sent_and_its_rotation_followed(
    account: Path, lab: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(account.read_text())
    token = tmp_path / "token"
    token.write_text(config["users"][0]["user"]["token"])
    authority = config["clusters"][0]["cluster"]["certificate-authority"]
    (tmp_path / "ca.crt").write_bytes(Path(authority).read_bytes())
    monkeypatch.setattr(of_service_account, "__defaults__", (tmp_path,))
    host, port = lab.server().removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    access = Access()
    async with ApiClient(access) as client:
        assert await client.get("/api/v1/nodes", ObjectList[Node]) is not None
        good = token.read_text()
        token.write_text("rotated-away")
        await access.reload()
        reply = await client.request("GET", "/api/v1/nodes")
        assert reply.status == 401
        # The kubelet writes the next token: the 401 makes the client read it.
        token.write_text(good)
        reply = await client.request("GET", "/api/v1/nodes")
        assert reply.status == 200


def test_an_exec_plugin_gives_the_token(
    account: Path, kube: Kube, tmp_path: Path, namespace: str
) -> None:
    config = yaml.safe_load(account.read_text())
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": config["users"][0]["user"]["token"]},
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(credential)}\nEND\n")
    plugin.chmod(0o755)
    config["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    kubeconfig = tmp_path / "exec.yaml"
    kubeconfig.write_text(yaml.safe_dump(config))
    assert os.access(plugin, os.X_OK)
    with Gsch(tmp_path, kubeconfig, profiles=[{"schedulerName": "plugged"}]) as running:
        assert running.lines("scheduling")
