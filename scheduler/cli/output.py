"""Tables for people, JSON and YAML for machines."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

FORMATS = ("table", "json", "yaml")

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How results are printed.",
)


def show(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    output: str,
    styles: Mapping[str, str] | None = None,
) -> None:
    """Print rows: `columns` maps field to heading; `styles` a cell's text to a colour.

    JSON and YAML carry every field of the rows, not only those of the table.
    """
    if output == "json":
        click.echo(json.dumps(list(rows), indent=2, ensure_ascii=False))
        return
    if output == "yaml":
        click.echo(yaml.safe_dump([dict(row) for row in rows], sort_keys=False), nl=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [_text(row[field]) for field in columns]
        table.add_row(*(Text(cell, style=(styles or {}).get(cell, "")) for cell in cells))
    Console(soft_wrap=False).print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
