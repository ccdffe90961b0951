"""Credentials that are kept fresh while a process runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.api import access
from cluster.api.access import Access
from cluster.api.credentials import AccessError


def kubeconfig(folder: Path, token: Path) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("one")
    return path


async def test_a_token_is_read_again_at_a_certain_age_and_not_before(
    tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Access(str(kubeconfig(tmp_path, token)))
    assert await found.authorization() == "Bearer one"
    token.write_text("two")
    assert await found.authorization() == "Bearer one"
    monkeypatch.setattr(access, "FRESH_FOR_S", -1.0)
    assert await found.authorization() == "Bearer two"


async def test_a_token_that_cannot_be_read_again_leaves_the_old_one(
    tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "FRESH_FOR_S", -1.0)
    found = Access(str(kubeconfig(tmp_path, token)))
    token.unlink()
    assert await found.authorization() == "Bearer one"


async def test_everything_is_read_again_where_the_server_refuses_what_was_read(
    tmp_path: Path, token: Path
) -> None:
    path = kubeconfig(tmp_path, token)
    found = Access(str(path))
    config: Any = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:2"
    path.write_text(yaml.safe_dump(config))
    token.write_text("two")
    await found.reload()
    assert found.credentials.host == "http://127.0.0.1:2"
    assert await found.authorization() == "Bearer two"
    path.write_text("nonsense")
    await found.reload()
    assert found.credentials.host == "http://127.0.0.1:2"


def test_outside_of_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AccessError):
        Access.of_pod()
