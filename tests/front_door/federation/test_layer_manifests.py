"""What `kubectl apply -k manifests/global/layer` sets up is taken without a warning, and its
configuration holds."""

import subprocess
from typing import Any

import pytest
import yaml
from federation import settings

from lab import binaries
from tests.harness.layer import Member
from tests.harness.process import ROOT

pytestmark = pytest.mark.lab
LAYER = ROOT / "manifests" / "global" / "layer"
POLICIES = ROOT / "manifests" / "global" / "policies"


def kubectl(*words: str) -> subprocess.CompletedProcess[str]:
    path = str(binaries.ensure(["kubectl"])["kubectl"])
    return subprocess.run([path, *words], capture_output=True, text=True, check=False)


def test_the_api_server_takes_them_and_warns_of_nothing(clusters: list[Member]) -> None:
    here = clusters[0]
    # Server-side: the agent's manifests may have made the namespace.
    apply = ["apply", "--server-side", "--force-conflicts", "-k", str(LAYER)]
    try:
        answer = kubectl("--kubeconfig", str(here.lab.kubeconfig), *apply)
        assert answer.returncode == 0, answer.stderr
        assert "Warning" not in answer.stderr, "the namespace enforces the restricted profile"
    finally:
        for name in ("gsch-global-front", "gsch-global-worker"):
            here.kube.delete(f"/apis/apps/v1/namespaces/gsch-system/deployments/{name}")


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (("patch", "deployments.apps", "-n", "gsch-policies"), True),
        (("create", "deployments.apps", "-n", "gsch-policies"), True),
        (("create", "deployments.apps", "-n", "gsch-system"), False),
        (("get", "secrets", "-n", "gsch-policies"), False),
        (("get", "secrets", "-n", "gsch-system"), False),
        (("get", "services", "-n", "gsch-system"), True),
        (("get", "services", "-n", "kube-system"), False),
    ],
)
def test_the_front_may_run_registered_policies_in_their_namespace_alone(
    clusters: list[Member], words: tuple[str, ...], allowed: bool
) -> None:
    config = ("--kubeconfig", str(clusters[0].lab.kubeconfig))
    for folder in (LAYER, POLICIES):
        apply = ("apply", "--server-side", "--force-conflicts", "-k", str(folder))
        assert kubectl(*config, *apply).returncode == 0
    for name in ("gsch-global-front", "gsch-global-worker"):
        clusters[0].kube.delete(f"/apis/apps/v1/namespaces/gsch-system/deployments/{name}")
    front = "system:serviceaccount:gsch-system:gsch-global-front"
    answer = kubectl(*config, "auth", "can-i", *words, "--as", front)
    assert answer.stdout.strip() == ("yes" if allowed else "no"), answer.stderr


def test_their_configuration_holds_and_every_file_of_it_is_in_the_secret() -> None:
    configuration = settings.load(str(LAYER / "global.yaml"))
    assert configuration.token_file
    text = (LAYER / "kustomization.yaml").read_text().partition("apiVersion")[0]
    for path in set(_strings(yaml.safe_load((LAYER / "global.yaml").read_text()))):
        folder, _, name = path.rpartition("/")
        if folder == "/etc/gsch-secrets":
            assert name in text, f"{name} is not among what the Secret has to have"


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    return [value] if isinstance(value, str) else []
