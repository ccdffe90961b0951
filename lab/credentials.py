"""Tokens, kubeconfigs and signing keys of a cluster of real nodes."""

import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

PEOPLE = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "coredns": ("system:coredns", ""),
}


def kubeconfig(folder: Path, name: str) -> Path:
    """Where the kubeconfig of a component, of a node, or of `admin` lies."""
    return folder / "credentials" / f"{name}.yaml"


def write(folder: Path, server: str, nodes: Sequence[str]) -> None:
    """A token for everybody, which the API server knows by tokens.csv, and the accounts' key."""
    people = PEOPLE | {name: (f"system:node:{name}", "system:nodes") for name in nodes}
    rows = [_credential(folder, server, name, *who) for name, who in people.items()]
    tokens = folder / "tokens.csv"
    tokens.touch(0o600)
    tokens.write_text("".join(f"{row}\n" for row in rows))
    for words in (
        ["genrsa", "-out", "sa.key", "2048"],
        ["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"],
    ):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def _credential(folder: Path, server: str, name: str, user: str, group: str) -> str:
    """Write a kubeconfig; the token's row of tokens.csv."""
    token = secrets.token_hex(16)
    # The API server makes this certificate itself, an authority of its own included.
    authority = str(folder / "certs" / "apiserver.crt")
    cluster = {"server": server, "certificate-authority": authority}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
        "current-context": "lab",
    }
    path = kubeconfig(folder, name)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.touch(0o600)
    path.write_text(yaml.safe_dump(config))
    return f"{token},{user},{name},{group}" if group else f"{token},{user},{name}"
