"""What a test needs: `lab` marks those that bring up a control plane (every test with the fixture
`lab`, and what says so), `needs` what else has to be on the machine.

Where something is missing the test is left out, and a table at the end says what and why; in CI
(GSCH_TEST_EVERYTHING) that is a failure.
"""

import os
from collections import Counter
from functools import cache

import hypothesis
import pytest

from tests.harness.needs import NEEDS, REQUIRE_ALL

# Tests share the machine with others, and a slow moment is no defect.
hypothesis.settings.register_profile("gsch", deadline=None)
hypothesis.settings.load_profile("gsch")

PREFIX = "needs "


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.lab)
        if item.get_closest_marker("lab") is not None:
            item.add_marker(pytest.mark.needs("lab"))


@cache
def missing(name: str) -> str:
    return NEEDS[name].missing()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            if missing(name):
                pytest.skip(f"{PREFIX}{name}: {missing(name)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = left_out(terminalreporter)
    if not counts:
        return
    terminalreporter.section("left out on this machine")
    for reason, count in sorted(counts.items()):
        name = reason.removeprefix(PREFIX).partition(":")[0]
        terminalreporter.write_line(f"{count:5} tests  {reason}")
        terminalreporter.write_line(f"             {NEEDS[name].install}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get(REQUIRE_ALL) and left_out(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def left_out(reporter: pytest.TerminalReporter) -> Counter[str]:
    """How many tests were left out, by what they need."""
    reasons = (
        report.longrepr[2].removeprefix("Skipped: ")
        for report in reporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    return Counter(reason for reason in reasons if reason.startswith(PREFIX))
