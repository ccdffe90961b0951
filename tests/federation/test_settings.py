"""What is wrong with a configuration or token file is said, with file and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from federation import settings
from federation.front import tokens
from federation.request import Owner

from cluster.errors import ConfigError

KIND = {"apiVersion": settings.API_VERSION, "kind": settings.KIND}


def written(path: Path, content: Any) -> str:
    file = path / "global.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(file)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: [", "global.yaml: "),
        ({**KIND, "ports": 1}, "unknown field `ports`"),
        ({**KIND, "port": "many"}, r"Expected `int`, got `str` - at `\$.port`"),
        ({**KIND, "kind": "Deployment"}, "kind GlobalConfiguration are expected"),
        ({**KIND, "clusters": [{"name": "No Name"}]}, "'No Name' is no name"),
        ({**KIND, "clusters": [{"name": "c1"}, {"name": "c1"}]}, "c1 is there twice"),
        ({**KIND, "clusters": [{"name": "gsch-replies"}]}, "names a topic of all clusters"),
        (
            {**KIND, "scaling": {"policyNamespace": "gsch-system"}},
            "policyNamespace: one of its own, not gsch-system",
        ),
        ({**KIND, "scaling": {"policyNamespace": "No Name"}}, "'No Name' is no name"),
        ({**KIND, "address": "::"}, "tokenFile: needed to listen on ::"),
        ({**KIND, "address": "::", "tokenFile": "t"}, "tlsCertFile: needed to listen"),
        ("x" * (settings.MAX_BYTES + 1), "bytes, at most 1,048,576 are read"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(
    content: Any, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=problem):
        settings.load(written(tmp_path, content))


def test_a_configuration_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="/nonexistent: No such file"):
        settings.load("/nonexistent")


def test_a_cluster_that_is_not_configured_is_answered_with_those_that_are(tmp_path: Path) -> None:
    given = settings.load(written(tmp_path, {**KIND, "clusters": [{"name": "c1"}]}))
    assert settings.cluster_of(given, "c1", "--cluster").name == "c1"
    with pytest.raises(ConfigError, match=r"--cluster: clusters: 'c2' is not among them.*: c1"):
        settings.cluster_of(given, "c2", "--cluster")


def test_secrets_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("  hidden\n")
    assert settings.secret(str(file), "kafka.passwordFile") == "hidden"
    assert settings.secret("", "kafka.passwordFile") == ""
    file.write_bytes(b"\xff")
    for path in (str(file), "/nonexistent"):
        with pytest.raises(ConfigError, match=f"kafka.passwordFile: {path}"):
            settings.secret(path, "kafka.passwordFile")


LONG = "sixteen-characters-and-more"


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ("a: [", "global.yaml: "),
        ([{"token": "short", "user": "ann"}], "entry 1: a token has at least 16 characters"),
        ([{"token": LONG}], "entry 1: say either user or agent"),
        ([{"token": LONG, "user": "ann", "agent": "c1"}], "entry 1: say either user or agent"),
        ([{"token": LONG, "role": "super"}], "unknown field `role`"),
        ("x" * (tokens.MAX_BYTES + 1), "at most 1,048,576 are read"),
    ],
)
def test_what_is_wrong_with_a_token_file_is_said(
    entries: Any, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        tokens.of_file(written(tmp_path, entries))
    assert LONG not in str(caught.value)


def test_a_token_says_who_asks(tmp_path: Path) -> None:
    entries = [
        {"token": LONG, "user": "ann", "project": "shop"},
        {"token": f"{LONG}2", "agent": "c1"},
    ]
    made = tokens.of_file(written(tmp_path, entries))
    ann, agent = made.identify(f"Bearer {LONG}"), made.identify(f"Bearer {LONG}2")
    assert ann is not None
    assert agent is not None
    assert (ann.owner, ann.agent) == (Owner("ann", "", "shop"), "")
    assert agent.agent == "c1"
    for authorization in ("", LONG, f"Basic {LONG}", f"Bearer {LONG}3", "Bearer \udcff"):
        assert made.identify(authorization) is None
    nobody = tokens.of_file("").identify("")
    assert nobody is not None
    assert (nobody.owner.user, nobody.named) == ("anonymous", False)
    with pytest.raises(ConfigError, match="/nonexistent"):
        tokens.of_file("/nonexistent")
