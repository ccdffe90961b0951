"""What `kubectl apply -k manifests/global/agent` sets up is enough for an agent, and no more."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from federation.agent import works

from lab import binaries
from lab.measure import free_port
from tests.front_door.test_manifests import kubeconfig_of
from tests.harness.forwarding import NAMESPACE, PODS, admin_of, ask_kubelet, forwarded, phase_of
from tests.harness.kube import wait_for
from tests.harness.layer import Away, Layer, Member, deployment, pods_by_request
from tests.harness.process import ROOT

pytestmark = pytest.mark.lab


def as_the_agent(one: Member, folder: Path) -> Member:
    """The cluster with its agent's manifests, seen with the rights of its agent."""
    kubectl = str(binaries.ensure(["kubectl"])["kubectl"])
    # Server-side: an agent may have made the kind Work already.
    command = [kubectl, "--kubeconfig", str(one.lab.kubeconfig), "apply", "--server-side",
               "--force-conflicts", "-k", str(ROOT / "manifests" / "global" / "agent")]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr
    one.kube.delete("/apis/apps/v1/namespaces/gsch-system/deployments/gsch-cluster-agent")
    account = kubeconfig_of("gsch-system", "gsch-cluster-agent", one.lab, one.kube, folder)
    return replace(one, lab=Away(one.name, account))


def test_the_agent_runs_with_exactly_the_rights_of_its_manifests(
    clusters: list[Member], tmp_path: Path
) -> None:
    with_account = as_the_agent(clusters[0], tmp_path)
    several = deployment("web", 2) + "---\n" + yaml.safe_dump({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {}
    })  # fmt: skip
    role = yaml.safe_dump({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "more"}, "rules": [],
    })  # fmt: skip
    with Layer(tmp_path, [with_account]) as layer:
        record = layer.ended(layer.submit(several, clusters=["c1"]))
        assert record["state"] == "completed", record
        # What `edit` may not, a request may not: in the API server's own words.
        refused = layer.ended(layer.submit(role, clusters=["c1"]))
        assert refused["state"] == "failed"
        assert "cannot get resource" in refused["message"] or "forbidden" in refused["message"]
        layer.ok("DELETE", f"/requests/{record['id']}")
        wait_for(lambda: layer.ok("GET", f"/requests/{record['id']}")["state"] == "canceled")
        assert pods_by_request(clusters) == {}
        lines = layer.log.read_text().splitlines()
        assert [x for x in lines if "forbidden" in x and "roles" not in x] == []


def test_pods_are_forwarded_with_exactly_the_rights_of_the_manifests(
    enabled: list[Member], tmp_path: Path
) -> None:
    here, there = enabled
    with_account = as_the_agent(here, tmp_path)
    here.kube.create({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "gsch-forwarding", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": "gsch-forwarding"},
        "subjects": [{"kind": "ServiceAccount", "name": "gsch-cluster-agent",
                      "namespace": "gsch-system"}],
    }, {"apiVersion": "v1", "kind": "Secret", "stringData": {"key": "value"},
        "metadata": {"name": "keys", "namespace": NAMESPACE}})  # fmt: skip
    port = free_port()
    with_account = replace(
        with_account, settings={"kubelet": {"address": "127.0.0.1", "port": port}}
    )
    with Layer(tmp_path, [with_account, there]) as layer:
        volumes = [{"name": "keys", "secret": {"secretName": "keys"}}]
        here.kube.create(forwarded("web", volumes=volumes))
        wait_for(lambda: phase_of(here, "web") == "Running")
        wait_for(lambda: here.kube.events(NAMESPACE, "web", "Forwarded"))
        path = f"/containerLogs/{NAMESPACE}/web/main"
        # Fake nodes have no logs, which is what the other cluster's API server says.
        assert "no logs found" in ask_kubelet(port, path, *admin_of(here))
        here.kube.delete(f"{PODS}/web")
        wait_for(lambda: not here.kube.items(PODS) and not there.kube.items(PODS))
        assert [x for x in layer.log.read_text().splitlines() if "forbidden" in x] == []


def test_the_manifest_of_works_is_the_code_s() -> None:
    text = (ROOT / "manifests" / "global" / "agent" / "works.yaml").read_text()
    assert yaml.safe_load(text) == works.definition()
