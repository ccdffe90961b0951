"""`gsch demo`: the layers at work one after another, each as the processes that users run.

Every example says in its annotation `gsch.io/expect` where it must end: a node, several joined by
`|`, or `Pending: ` and words of the reason. What needs more than this machine has is left out, and
said.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from cluster.objects.keys import ObjectKey
from gsch import demo_global, demo_processes
from lab import binaries
from lab.cluster import PARTS
from lab.demo import NAME, Row, expectations, rows, run

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


@click.command()
@click.option("--keep", is_flag=True, help="Leave the control plane and its scheduler running.")
@click.option("--quick", is_flag=True, help="Only what needs no control plane.")
@click.option(
    "--global", "several", is_flag=True, help="The global layer as processes over five clusters."
)
def demo(keep: bool, quick: bool, several: bool) -> None:
    """Show pods placed, and why; exit 0 only if every one ended as its example expects.

    First the scheduler's core decides the examples by itself, with no cluster. Then, where Go or
    the binaries are there, `gsch run` does so on a real control plane with 12 fake nodes, and
    `gsch global up` places requests across two more.

    \b
    Examples:
      gsch demo
      gsch demo --quick
      gsch demo --keep      # and look around with kubectl
      gsch demo --global    # two minutes: Kafka, PostgreSQL, Redis; one cluster is cut off
    """
    console = Console()
    if several:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(int(demo_processes.run(console, Path(folder))))
    started = time.monotonic()
    console.print("[bold]Without a cluster[/bold]: gsch simulate -f examples/")
    outcome = _simulated()
    console.print(_table(outcome))
    console.print(f"{_verdict(outcome)}, {time.monotonic() - started:.1f} s\n", highlight=False)
    failed = not all(row.as_expected for row in outcome)
    if not quick:
        failed |= _control_plane(console, keep)
    sys.exit(int(failed))


def _simulated() -> list[Row]:
    """The examples as `gsch simulate` places them."""
    expected = expectations()
    command = [sys.executable, "-m", "gsch", "simulate", "-f", str(EXAMPLES), "-o", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"gsch simulate: {done.stderr.strip()}")
    decisions = {
        ObjectKey.parse(entry["pod"]).name: (entry["node"], entry["why"])
        for entry in json.loads(done.stdout)
    }
    return rows(decisions, expected)


def _control_plane(console: Console, keep: bool) -> bool:
    """Whether the demo failed on a real control plane; False where there can be none."""
    missing = [name for name in PARTS if binaries.locate(name) is None]
    try:
        if missing:
            binaries.check_go()
    except binaries.LabError:
        console.print(
            "[bold]More to see[/bold]: with Go "
            f"{'.'.join(map(str, binaries.GO_AT_LEAST))} or newer on PATH (or a folder with "
            "Kubernetes' binaries in KUBEBUILDER_ASSETS) the same goes on on a real control plane.",
            highlight=False,
        )
        return False
    console.print("[bold]On a real control plane[/bold]: gsch run, 12 fake nodes", highlight=False)
    if missing:
        cores = len(os.sched_getaffinity(0))
        console.print(
            f"building {', '.join(missing)} from source, once: some ten minutes on two cores "
            f"(here are {cores}); Ctrl-C keeps what is built by then",
            highlight=False,
        )
    started = time.monotonic()
    outcome = run(keep, console)
    console.print(_table(outcome))
    console.print(f"{_verdict(outcome)}, {time.monotonic() - started:.1f} s", highlight=False)
    if keep:
        console.print(f"\ncluster and scheduler go on; end them with: gsch lab down {NAME}")
    return demo_global.run(console) or not all(row.as_expected for row in outcome)


def _table(outcome: Sequence[Row]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("POD", "NODE", "WHY"):
        table.add_column(heading, overflow="fold")
    for row in outcome:
        colour = "green" if row.as_expected else "red"
        table.add_row(row.pod, f"[{colour}]{row.node or 'Pending'}[/{colour}]", row.why)
    return table


def _verdict(outcome: Sequence[Row]) -> str:
    differing = [row for row in outcome if not row.as_expected]
    if not differing:
        return f"all {len(outcome)} pods ended as expected"
    named = "; ".join(f"{row.pod} expected {row.expected}" for row in differing)
    return f"{len(differing)} of {len(outcome)} pods differ: {named}"
