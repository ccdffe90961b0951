"""The command itself: help, mistakes, and packages that an extra brings."""

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
    assert "gsch" in result.output


def test_a_command_without_its_extra_says_what_to_install() -> None:
    done = run(
        "import sys; sys.modules['flask'] = None; sys.argv = ['gsch', 'console'];"
        "from gsch.cli import entry; entry()"
    )
    assert done.returncode == 1
    assert "pip install 'gsch[console]'" in done.stderr
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
        "print(sorted(solve(Problem(np.zeros((3, 4)), distance, edges, *ones))))"
    )
    assert done.returncode == 0, done.stderr
    assert "gsch[pipelines]" in done.stdout + done.stderr
    assert done.stdout.strip().endswith("]")


def test_an_unknown_file_ends_with_a_message_and_code_1() -> None:
    done = run(
        "import sys; sys.argv = ['gsch', 'run', '--config', '/none/there'];"
        "from gsch.cli import entry; entry()"
    )
    assert done.returncode == 1
    assert "/none/there" in done.stderr
    assert "Traceback" not in done.stderr


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
