"""Completion scripts for shells."""

import pytest
from click.testing import CliRunner

from gsch.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script_that_asks_gsch(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0, result.output
    assert "_GSCH_COMPLETE" in result.output
    assert f"{shell}_complete" in result.output


def test_an_unknown_shell_is_refused_with_those_that_are_known() -> None:
    result = CliRunner().invoke(main, ["completion", "csh"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.output
