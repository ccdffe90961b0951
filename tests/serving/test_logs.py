"""Logs: one JSON object a line where no terminal is."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.harness.process import ROOT

PROGRAM = """
import sys
import structlog
from serving import logs

secret = "do not print me"
if len(sys.argv) > 2:
    sys.stderr.isatty = lambda: True
logs.configure(verbose=sys.argv[1] == "verbose")
log = structlog.get_logger("x")
log.debug("detail")
log.info("bound", pod="ns/p")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def written(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    ("level", "events"),
    [("plain", ["bound", "failed"]), ("verbose", ["detail", "bound", "failed"])],
)
def test_every_line_is_a_json_object(level: str, events: list[str]) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in written(level).splitlines()]
    assert [line["event"] for line in lines] == events
    assert lines[-2]["pod"] == "ns/p"
    assert lines[-2]["level"] == "info"
    assert "ZeroDivisionError" in lines[-1]["exception"]


def test_a_terminal_gets_readable_lines_without_the_values_of_variables() -> None:
    text = written("plain", "terminal")
    assert "bound" in text
    assert "ZeroDivisionError" in text
    assert "do not print me" not in text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text.splitlines()[0])
