"""Kubeconfig files and service accounts: whose credentials are taken, and what is said of bad
ones."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.api.access import Access
from cluster.api.credentials import AccessError, load, of_service_account


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "edge", "cluster": {"server": "https://a:6443", **cluster}}],
                "users": [{"name": "me", "user": user}],
                "contexts": [{"name": "here", "context": {"cluster": "edge", "user": "me"}}],
                "current-context": "here",
            }
        )
    )
    return str(path)


def data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("user", "header", "identity"),
    [
        ({"token": "t0"}, "Bearer t0", None),
        ({"tokenFile": "token", "token": "t0"}, "Bearer t1", None),
        ({"client-certificate-data": data("C"), "client-key-data": data("K")}, None, b"C\nK"),
        ({"client-certificate": "c.pem", "client-key": "k.pem"}, None, b"c\nk"),
        ({"client-certificate": "c.pem"}, None, None),
        ({}, None, None),
    ],
)
def test_a_user_of_a_kubeconfig(
    user: dict[str, str], header: str | None, identity: bytes | None, tmp_path: Path
) -> None:
    for name, text in (("token", "t1\n"), ("c.pem", "c"), ("k.pem", "k")):
        (tmp_path / name).write_text(text)
    credentials = load(kubeconfig(tmp_path, {}, user), None)
    assert (credentials.host, credentials.header(), credentials.identity) == (
        "https://a:6443",
        header,
        identity,
    )


@pytest.mark.parametrize(
    ("cluster", "verify", "server_name", "ca"),
    [
        ({}, True, None, None),
        ({"insecure-skip-tls-verify": True}, False, None, None),
        ({"tls-server-name": "api"}, True, "api", None),
        ({"certificate-authority": "ca.pem"}, True, None, b"file"),
        (
            {"certificate-authority": "ca.pem", "certificate-authority-data": data("data")},
            True,
            None,
            b"data",
        ),
    ],
)
def test_a_cluster_of_a_kubeconfig(
    cluster: dict[str, Any], verify: bool, server_name: str | None, ca: bytes | None, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("file")
    credentials = load(kubeconfig(tmp_path, cluster, {}), None)
    assert (credentials.verify, credentials.server_name, credentials.ca) == (
        verify,
        server_name,
        ca,
    )


@pytest.mark.parametrize(
    ("text", "context", "said"),
    [
        ("{", None, "not YAML"),
        ("[]", None, "Expected `object`"),
        ("clusters: []\ncontexts: []", None, "it has no current-context"),
        ("clusters: null\ncontexts: null\ncurrent-context: a", None, "no context 'a'"),
        ("clusters: []\ncontexts: []", "there", "it has no context 'there' (it has: none)"),
        (
            "clusters: []\ncontexts: [{name: a, context: {cluster: c}}]\ncurrent-context: a",
            None,
            "it has no cluster 'c'",
        ),
        (
            "clusters: [{name: c, cluster: {server: x, certificate-authority: no.pem}}]\n"
            "contexts: [{name: a, context: {cluster: c}}]\ncurrent-context: a",
            None,
            "no.pem",
        ),
        (
            "clusters: [{name: c, cluster: {server: x, certificate-authority-data: '?'}}]\n"
            "contexts: [{name: a, context: {cluster: c}}]\ncurrent-context: a",
            None,
            "base64",
        ),
    ],
)
def test_a_bad_kubeconfig_is_named_with_what_is_wrong_and_what_to_do(
    text: str, context: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(AccessError) as caught:
        load(str(path), context)
    assert said.lower() in str(caught.value).lower()
    assert str(path) in str(caught.value)
    assert "--kubeconfig" in str(caught.value)


def test_a_missing_kubeconfig_and_a_missing_token_are_told(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="none does not exist"):
        Access(str(tmp_path / "none"))
    with pytest.raises(AccessError, match="cannot read the token"):
        Access(kubeconfig(tmp_path, {}, {"tokenFile": "gone"}))


def test_an_exec_plugin_gives_the_token(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
        ' "status": {"token": "from-plugin"}}\'\n'
    )
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    assert load(kubeconfig(tmp_path, {}, user), None).header() == "Bearer from-plugin"


def test_a_plugin_that_fails_is_told(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/none/there"}}
    with pytest.raises(AccessError, match="exec plugin"):
        Access(kubeconfig(tmp_path, {}, user))


def test_a_service_account_is_read_and_its_token_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "ca.crt").write_text("CA")
    (tmp_path / "token").write_text("one\n")
    credentials = of_service_account(tmp_path)
    assert (credentials.host, credentials.ca, credentials.header()) == (
        "https://[fd00::1]:443",
        b"CA",
        "Bearer one",
    )
    (tmp_path / "token").write_text("two")
    assert credentials.header() == "Bearer two"


def test_outside_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AccessError, match="not a pod"):
        Access.of_pod()


def test_a_plain_kubeconfig_does_not_cost_the_import_of_the_kubernetes_package(
    tmp_path: Path,
) -> None:
    path = kubeconfig(tmp_path, {}, {"token": "t"})
    program = (
        "import sys; from cluster.api.credentials import load; "
        f"load({path!r}, None); sys.exit('kubernetes' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
