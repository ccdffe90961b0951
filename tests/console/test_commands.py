"""`gsch console`: settings that do not hold end with a message, before anything is served."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from console import app
from console.settings import Cluster, SourceAddress

from gsch.cli import main
from serving import logs

PROMETHEUS = ["--prometheus", "http://127.0.0.1:1"]


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be served."""
    found: list[Any] = []
    monkeypatch.setattr(logs, "configure", lambda verbose=False: None)
    monkeypatch.setattr(app, "serve", lambda *arguments: found.append(arguments))
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prometheus", "x"], "x: expected http:// or https://"),
        ([*PROMETHEUS, "--bind-address", "10.0.0.1"], "10.0.0.1 is beyond loopback"),
        ([*PROMETHEUS, "--tls-cert-file", "c"], "--tls-cert-file and --tls-private-key-file go"),
        ([*PROMETHEUS, "--token-file", "/none/there"], "/none/there: No such file"),
    ],
)
def test_what_does_not_hold_is_said(words: list[str], said: str, served: list[Any]) -> None:
    result = CliRunner().invoke(main, ["console", *words])
    assert result.exit_code == 1
    assert said in result.output
    assert served == []


def test_one_cluster_comes_from_options_and_several_from_a_file(
    tmp_path: Path, served: list[Any]
) -> None:
    scheduler = ["--scheduler", "https://s", "--scheduler-ca-file", "ca", "--name", "edge"]
    assert CliRunner().invoke(main, ["console", *PROMETHEUS, *scheduler]).exit_code == 0
    file = tmp_path / "clusters.yaml"
    file.write_text("- {name: a, scheduler: {url: 'http://a'}}\n- {name: b, "
                    "scheduler: {url: 'http://b'}}\n")  # fmt: skip
    words = ["console", "--clusters", str(file), "--port", "9000"]
    assert CliRunner().invoke(main, words).exit_code == 0
    one = Cluster(
        "edge", SourceAddress("http://127.0.0.1:1"), SourceAddress("https://s", ca_file="ca")
    )
    assert served[0] == ((one,), None, "127.0.0.1", 8080, b"", ("", ""))
    assert [cluster.name for cluster in served[1][0]] == ["a", "b"]
    assert served[1][3] == 9000


def test_the_global_layer_alone_is_enough(served: list[Any]) -> None:
    words = ["console", "--global", "http://127.0.0.1:8090", "--global-token-file", "t"]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert served[0][:2] == ((), SourceAddress("http://127.0.0.1:8090", token_file="t"))
    assert CliRunner().invoke(main, ["console", "--global", "ftp://x"]).exit_code == 1
