"""The demo's forwarded pod: made in one cluster, run in another, and seen in both."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.binaries import LabError
from lab.kubectl import kubectl
from lab.processes import wait_until

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "manifests" / "global" / "forwarding"
NAMESPACE, NAME = "edge", "camera"
READY_WITHIN_S, RUNS_WITHIN_S = 20.0, 60.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """How it went, in a line."""

    message: str
    as_expected: bool


def run(here: Path, there: Path) -> Forwarded:
    """A pod of the cluster behind `here` (c1), with `type: global`, runs in c2. Raises LabError."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kubectl(there, "create", "-f", "-", text=json.dumps(namespace))
    kubectl(here, "apply", "-k", str(MANIFESTS))
    labels = {"gsch.io/forwarding": "enabled"}
    enabled = {**namespace, "metadata": {"name": NAMESPACE, "labels": labels}}
    kubectl(here, "create", "-f", "-", text=json.dumps(enabled))
    # A namespace's account comes a moment later.
    if not wait_until(lambda: _made(here), READY_WITHIN_S):
        raise LabError(f"pod {NAMESPACE}/{NAME} was not taken")
    runs = wait_until(lambda: _pod(here)["status"].get("phase") == "Running", RUNS_WITHIN_S)
    proxy = _pod(here)
    if not runs:
        return Forwarded(f"forwarded pod {NAME}: {proxy['status'].get('phase')}", False)
    node = _pod(there)["spec"]["nodeName"]
    message = (
        f"forwarded pod {NAME}: made in c1, where it is {proxy['status']['phase']} on "
        f"{proxy['spec']['nodeName']}; runs in c2 on {node}"
    )
    return Forwarded(message, True)


def _made(here: Path) -> bool:
    config = json.dumps({"type": "global", "targetClusters": ["c2"]})
    container = {
        "name": "main",
        "image": "registry.example/camera:1",
        "env": [{"name": "gschConfig", "value": config}],
        "resources": {"requests": {"cpu": "100m"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"schedulerName": "gsch", "containers": [container]},
    }
    try:
        kubectl(here, "create", "-f", "-", text=json.dumps(pod))
    except LabError:
        return False
    return True


def _pod(kubeconfig: Path) -> Json:
    answer: Json = json.loads(
        kubectl(kubeconfig, "get", "pod", NAME, "-n", NAMESPACE, "-o", "json")
    )
    return answer
