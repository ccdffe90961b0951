"""Tables for people, JSON and YAML for machines."""

import json
from typing import Any

import pytest
import yaml

from scheduler.cli.output import show

ROWS: list[dict[str, Any]] = [
    {"pod": "ns/p", "node": "é", "score": 2.50, "hidden": {"a": 1}},
    {"pod": "ns/q", "node": None, "score": 3, "hidden": {}},
]
COLUMNS = {"pod": "POD", "node": "NODE", "score": "SCORE"}


def printed(capsys: pytest.CaptureFixture[str], output: str, **more: Any) -> str:
    show(ROWS, COLUMNS, output, **more)
    return capsys.readouterr().out


def test_machines_get_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "json")) == ROWS
    assert yaml.safe_load(printed(capsys, "yaml")) == ROWS
    assert "é" in printed(capsys, "json")


def test_people_get_a_table_of_the_chosen_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "table", styles={"ns/p": "green"}).splitlines()
    assert [line.split() for line in lines] == [
        ["POD", "NODE", "SCORE"],
        ["ns/p", "é", "2.5"],
        ["ns/q", "3"],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "True"),
        (0.5, "0.5"),
        (2.0, "2"),
        ({"cpu": 1, "memory": "2Gi"}, "cpu 1, memory 2Gi"),
        (["a", 2], "a, 2"),
        (("a",), "a"),
        # Markup of the table's own is text like any other.
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_cells_are_written_plainly(
    value: Any, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show([{"x": value}], {"x": "HEADING"}, "table")
    assert capsys.readouterr().out.splitlines()[1].strip() == text


def test_a_table_without_rows_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    show([], COLUMNS, "table")
    assert capsys.readouterr().out.split() == ["POD", "NODE", "SCORE"]
