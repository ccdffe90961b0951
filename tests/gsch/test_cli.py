"""The command itself: help, mistakes, and packages that an extra brings."""

import re
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from gsch.cli import COMMANDS, main
from tests.harness.process import ROOT


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert re.search(r"Examples?:\s+gsch |^ +gsch |source <\(gsch ", result.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("prelude", "words", "said"),
    [
        ("sys.modules['flask'] = None", ["console"], "pip install 'gsch[console]'"),
        ("", ["run", "--config", "/none/there"], "/none/there"),
        ("", ["run", "--kubeconfig", "/none/there"], "/none/there"),
        ("", ["simulate", "-f", "/none/there"], "/none/there"),
    ],
    ids=["extra", "configuration", "kubeconfig", "file"],
)
def test_what_is_missing_ends_with_a_message(prelude: str, words: list[str], said: str) -> None:
    done = run(
        f"import sys; {prelude or 'pass'}; sys.argv = {['gsch', *words]!r}\n"
        "from gsch.cli import entry; entry()"
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_scheduler_imports_nothing_that_only_an_extra_brings() -> None:
    done = run(
        "import sys; blocked = ('flask', 'a2wsgi', 'uvicorn', 'plotly', 'scipy')\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "import scheduler.process.app, extender.app, latency.agent.app, scheduler.offline.simulate"
    )
    assert done.returncode == 0, done.stderr


def test_without_scipy_a_search_falls_back_and_says_so() -> None:
    done = run(
        "import sys; sys.modules['scipy'] = sys.modules['scipy.optimize'] = None\n"
        "import numpy as np\n"
        "from scheduler.joint.solver import Edge, Problem, solve\n"
        "edges = [Edge(0, 1, 1.0, True), Edge(1, 2, 1.0, True), Edge(0, 2, 1.0, True)]\n"
        "distance = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))\n"
        "ones = np.ones((3, 1), int), np.ones((4, 1), int)\n"
        "print(len(set(solve(Problem(np.zeros((3, 4)), distance, edges, *ones)))), 'nodes')"
    )
    assert done.returncode == 0, done.stderr
    assert "gsch[pipelines]" in done.stdout + done.stderr
    assert "3 nodes" in done.stdout


def test_every_package_of_the_checkout_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name.partition(".")[0] for name in settings["packages"]}
    there = {
        ".".join(path.parent.relative_to(base).parts)
        for base in (ROOT, ROOT / "global")
        for path in base.glob("*/**/__init__.py")
        if path.relative_to(base).parts[0] in folders
    }
    assert there == set(settings["packages"])


def test_an_unknown_command_is_refused_and_the_known_ones_are_told() -> None:
    result = CliRunner().invoke(main, ["fly"])
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.output
    listed = CliRunner().invoke(main, ["--help"]).output
    assert all(re.search(rf"^  {name} +\S", listed, re.MULTILINE) for name in COMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(main, ["--version"])
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert result.output == f"gsch, version {settings['version']}\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--version"], 0), (["fly"], 2), (["config", "check", "/none/there"], 1)],
)
def test_a_command_s_exit_code_is_that_of_the_process(words: list[str], code: int) -> None:
    done = run(f"import sys; sys.argv = {['gsch', *words]!r}\nfrom gsch.cli import entry; entry()")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
