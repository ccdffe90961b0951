"""What `gsch global` says where something is not there, without any server."""

from pathlib import Path

import pytest

from tests.harness.process import gsch


def test_a_source_that_is_not_there_is_no_empty_database(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path}/typo.db", f"sqlite:///{tmp_path}/new.db"
    for words in (("migrate", source, "--to", target), ("backup", source, f"{tmp_path}/copy.db")):
        answer = gsch("global", *words)
        assert (answer.returncode, "typo.db: there is no such file" in answer.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_said_to_be_one(tmp_path: Path) -> None:
    source = tmp_path / "empty.db"
    source.touch()
    answer = gsch(
        "global", "migrate", f"sqlite:///{source}", "--to", f"sqlite:///{tmp_path}/new.db"
    )
    assert (answer.returncode, "empty.db: had no rows" in answer.stdout) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("up", "--cluster", "c1"), 2, "'c1': NAME=KUBECONFIG is expected"),
        (("up", "--cluster", "c1=a", "--cluster", "c1=b"), 1, "c1 is there twice"),
        (("up", "--database", "nonsense"), 1, "'nonsense' is no database URL"),
        (("front", "--config", "nowhere.yaml"), 1, "nowhere.yaml: No such file"),
        (("agent", "--config", "nowhere.yaml"), 2, "Missing option '--cluster'"),
        (("migrate", "nonsense", "--to", "x"), 1, "'nonsense' is no database URL"),
        (("clusters", "--url", "http://127.0.0.1:1"), 1, "is `gsch global up` running there?"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    words: tuple[str, ...], code: int, problem: str
) -> None:
    answer = gsch("global", *words)
    assert (answer.returncode, problem in answer.stderr) == (code, True), answer.stderr
    assert "Traceback" not in answer.stderr
