"""Building the lab's binaries and fetching its jars, each into an empty cache."""

import os
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from lab import binaries, jars
from lab.binaries import LabError

pytestmark = pytest.mark.lab


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Go's own cache lies in the same folder by default, and would be empty too.
    answer = subprocess.run(["go", "env", "GOCACHE"], capture_output=True, text=True, check=True)
    monkeypatch.setenv("GOCACHE", answer.stdout.strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def tools(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the modules that pin binaries, without their sums."""
    copied = empty_cache / "tools"
    for module in ("kubernetes", "pause"):
        (copied / module).mkdir(parents=True)
        pins = (binaries.TOOLS / module / "go.mod").read_text()
        (copied / module / "go.mod").write_text(pins)
    monkeypatch.setattr(binaries, "TOOLS", copied)
    return copied


def console(path: Path, *, terminal: bool) -> Console:
    return Console(file=(path / "said").open("w"), force_terminal=terminal, width=100)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_missing_binary_is_built_once_and_its_progress_shown(
    empty_cache: Path, terminal: bool
) -> None:
    screen = console(empty_cache, terminal=terminal)
    built = binaries.ensure(["pause"], screen)["pause"]
    assert empty_cache in built.parents
    assert os.access(built, os.X_OK)
    said = (empty_cache / "said").read_text()
    assert "building pause (1 of 1)" in said
    first = built.stat().st_mtime_ns
    assert binaries.ensure(["pause"], screen)["pause"].stat().st_mtime_ns == first


def test_code_that_does_not_compile_is_reported_with_its_line(
    empty_cache: Path, tools: Path
) -> None:
    (tools / "pause" / "main.go").write_text("package main\n\nfunc main() { missing() }\n")
    with pytest.raises(LabError, match=r"main.go:3:15: undefined: missing"):
        binaries.ensure(["pause"], console(empty_cache, terminal=False))
    assert binaries.locate("pause") is None


def test_modules_that_cannot_be_resolved_are_reported(empty_cache: Path, tools: Path) -> None:
    with pytest.raises(LabError, match="cannot resolve its modules"):
        binaries.ensure(["pause"], console(empty_cache, terminal=False))


def test_outside_a_checkout_it_says_so(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "TOOLS", empty_cache)
    with pytest.raises(LabError, match="works from a checkout"):
        binaries.locate("pause")


@pytest.mark.needs("servers")
def test_jars_are_fetched_once(empty_cache: Path) -> None:
    folder = jars.ensure("kafka")
    assert empty_cache in folder.parents
    assert list(folder.glob("kafka*.jar"))
    first = folder.stat().st_ino
    assert jars.ensure("kafka").stat().st_ino == first


def test_without_maven_it_says_what_installs_it(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="scripts/system-packages"):
        jars.ensure("kafka")


@pytest.mark.needs("servers")
def test_jars_that_are_not_to_be_had_are_reported(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_cache / "tools" / "kafka").mkdir(parents=True)
    (empty_cache / "tools" / "kafka" / "pom.xml").write_text("<project/>")
    monkeypatch.setattr(jars, "TOOLS", empty_cache / "tools")
    with pytest.raises(LabError, match="the jars of kafka could not be fetched"):
        jars.ensure("kafka")
