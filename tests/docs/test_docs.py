"""Docs that cannot lie: references equal the code, commands exist, the site builds, the tutorial
runs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from filters.common.plugin import PodInfo
from gsch.cli import main
from lab import binaries
from lab.measure import free_port
from tests.harness.make import labelled, node, pod, snapshot
from tests.harness.process import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(*command: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}
    )


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


def commands(page: Path) -> Iterator[list[str]]:
    """Every `gsch` command of the page's blocks, and of its tables."""
    text = "\n".join(blocks(page)).replace("\\\n", " ")
    lines = [line.partition(" #")[0] for line in text.splitlines()]
    lines += re.findall(r"^\| `(gsch [^`]*)`", page.read_text(), re.MULTILINE)
    for line in lines:
        for part in re.split(r"\||&&|;|\$\(|\)|>|<\(", line):
            words = shlex.split(part.strip().strip('"'), comments=True) if "gsch " in part else []
            if words and words[0] == "gsch":
                yield [word for word in words[1:] if word not in ("&", "2")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_page_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        command: click.Command = main
        context = click.Context(main, info_name="gsch")
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            subcommand = command.get_command(context, words.pop(0))
            assert subcommand is not None, words
            command = subcommand
        options = {name for param in command.params for name in param.opts}
        given = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
        assert given <= options | {"-h", "--help"}, (command.name, given - options)


@pytest.mark.parametrize("page", ["cli.md", "configuration.md"])
def test_the_reference_equals_the_code(page: str) -> None:
    cog = Path(sys.executable).parent / "cog"
    done = run(cog, "-I", "scripts", "--check", f"docs/{page}")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nmake docs writes it anew"


def test_every_field_of_the_configuration_says_what_it_means() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", (ROOT / "docs/configuration.md").read_text(),
                      re.MULTILINE)  # fmt: skip
    assert len(rows) > 60
    assert [name for name, meaning in rows if len(meaning.strip()) < 4] == []


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tutorial" / "index.html").exists()


def test_the_plugin_of_the_page_keeps_pods_off_nodes() -> None:
    [code] = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/plugins.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    quiet = names["Quiet"].from_args({})
    world = snapshot(node("loud", labels={"loud": "yes"}), node("calm"))
    info = PodInfo.of(labelled(pod("p"), quiet="yes"))
    prepared = quiet.pre_filter(info, world)
    assert quiet.filter(prepared, world.view()).tolist() == [1, 0]
    assert quiet.pre_filter(PodInfo.of(pod("other")), world) is None


@pytest.mark.lab
def test_the_tutorial_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """In a folder of its own, with what the page says in between left out."""
    for name in ("examples", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = "\n".join(blocks(ROOT / "docs" / "tutorial.md")).replace("10359", str(free_port()))
    tools = binaries.ensure()["kubectl"].parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"set -m\n{script}"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(tmp_path),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "edge-a-2" in lines
    assert "core-1" in lines
    assert "Insufficient cpu" in done.stdout
    assert "did you mean GMostRequestedPriority?" in done.stdout
    assert not (tmp_path / "tutorial.yaml").exists()
