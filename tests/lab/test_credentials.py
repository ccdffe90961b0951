"""Tokens, kubeconfigs and keys of a cluster of real nodes."""

import csv
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from lab import credentials


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("cluster")
    credentials.write(found, "https://10.0.0.1:6443", ["edge-1", "edge-2"])
    return found


def rows(folder: Path) -> dict[str, list[str]]:
    """By name, the rows of tokens.csv: token, user, uid, and groups if any."""
    found = list(csv.reader((folder / "tokens.csv").read_text().splitlines()))
    return {row[2]: row for row in found}


@pytest.mark.parametrize(
    ("name", "user", "groups"),
    [
        ("admin", "admin", ["system:masters"]),
        ("kube-scheduler", "system:kube-scheduler", []),
        ("coredns", "system:coredns", []),
        # As the Node authorizer wants it.
        ("edge-2", "system:node:edge-2", ["system:nodes"]),
    ],
)
def test_everybody_s_kubeconfig_has_the_token_that_the_api_server_knows(
    name: str, user: str, groups: list[str], folder: Path
) -> None:
    path = credentials.kubeconfig(folder, name)
    found = yaml.safe_load(path.read_text())
    token = found["users"][0]["user"]["token"]
    assert rows(folder)[name] == [token, user, name, *groups]
    assert found["clusters"][0]["cluster"] == {
        "server": "https://10.0.0.1:6443",
        "certificate-authority": str(folder / "certs" / "apiserver.crt"),
    }
    context = {context["name"]: context["context"] for context in found["contexts"]}
    assert context[found["current-context"]]["user"] == name


def test_no_two_share_a_token(folder: Path) -> None:
    tokens = [row[0] for row in rows(folder).values()]
    assert len(tokens) == len(credentials.PEOPLE) + 2
    assert len(set(tokens)) == len(tokens)
    assert all(len(token) >= 32 for token in tokens)


def test_only_the_owner_reads_tokens_and_kubeconfigs(folder: Path) -> None:
    for path in (folder / "tokens.csv", *(folder / "credentials").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((folder / "credentials").stat().st_mode) == 0o700


def test_the_accounts_keys_belong_together(folder: Path) -> None:
    public = subprocess.run(
        ["openssl", "rsa", "-in", "sa.key", "-pubout"],
        cwd=folder, check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert (folder / "sa.pub").read_bytes() == public
