"""Pods that ask for the global layer, and clusters from which they may be forwarded."""

import contextlib
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

from lab import binaries
from tests.harness.kube import wait_for
from tests.harness.layer import Member
from tests.harness.make import Json, pod_json
from tests.harness.process import ROOT

NAMESPACE = "edge"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def namespace(**labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": labels}}  # fmt: skip


def enable(clusters: list[Member]) -> None:
    """c1 may forward pods of its namespace `edge`; c2 has that namespace too."""
    here, there = clusters
    kubectl = str(binaries.ensure(["kubectl"])["kubectl"])
    manifests = ROOT / "manifests" / "global" / "forwarding"
    command = [kubectl, "--kubeconfig", str(here.lab.kubeconfig), "apply", "-k", str(manifests)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    here.kube.create(namespace(**{"gsch.io/forwarding": "enabled"}))
    there.kube.create(namespace())
    wait_for(lambda: here.kube.serves(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"))
    wait_for(lambda: there.kube.serves(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"))
    # Admission policies take effect a moment after they are made.
    wait_for(lambda: _tolerates_for_ever(here))


def _tolerates_for_ever(here: Member) -> bool:
    pod = here.kube.request("POST", f"{PODS}?dryRun=All", forwarded("probe", scheduler="nobody"))
    return all("tolerationSeconds" not in one for one in pod["spec"]["tolerations"])


def forwarded(name: str, clusters: Any = ("c2",), scheduler: str = "gsch", **spec: Any) -> Json:
    config = json.dumps({"type": "global", "targetClusters": list(clusters)})
    requests = {"cpu": "100m"}
    return pod_json(name, requests, config, scheduler, NAMESPACE, **spec)


def phase_of(member: Member, name: str) -> str:
    pods = {p["metadata"]["name"]: p for p in member.kube.items(PODS)}
    return str(pods[name]["status"].get("phase", "")) if name in pods else ""


def running(member: Member) -> dict[str, str]:
    """uid by name of the running pods."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in member.kube.items(PODS)
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    }


def admin_of(here: Member) -> tuple[Path, Path]:
    """Certificate and key with which its API server asks kubelets."""
    pki = here.lab.kubeconfig.parent / "pki"
    return pki / "admin.crt", pki / "admin.key"


def ask_kubelet(
    port: int, path: str, certificate: Path | None = None, key: Path | None = None
) -> str:
    """What the kubelet API of virtual nodes answers, head and body."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain) as connection,
        # How a refused certificate shows depends on who is faster.
        contextlib.suppress(ssl.SSLError, ConnectionError),
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
        while data := connection.recv(65536):
            answer += data
    return answer.decode()
