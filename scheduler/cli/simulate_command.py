"""`gsch simulate`: placements without a cluster, and what would be if the cluster were another."""

from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from cluster.state.snapshot import Snapshot
from scheduler.cli.options import STYLES, config_option, configuration
from scheduler.cli.output import output_option, show
from scheduler.config.configuration import Configuration
from scheduler.offline import changes as what_if
from scheduler.offline import compare as comparing
from scheduler.offline import simulate as simulating
from scheduler.offline.manifests import Objects, read


@click.command()
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="File or folder with nodes and pods, as kubectl prints them; may be given again.",
)
@config_option
@click.option("--cordon", multiple=True, metavar="NODE", help="As if NODE took no new pods.")
@click.option("--drain", multiple=True, metavar="NODE", help="As if NODE's pods had to leave it.")
@click.option(
    "--add-node",
    "added",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="File with further nodes.",
)
@click.option("--scale", type=click.IntRange(1, 100_000), default=1, help="Pending pods, N times.")
@click.option("--profile", help="Decide all pods by this profile, whatever they name.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    help="A second configuration, whose placements are shown beside.",
)
@output_option
def simulate(
    paths: tuple[Path, ...],
    config_file: Path | None,
    cordon: tuple[str, ...],
    drain: tuple[str, ...],
    added: tuple[Path, ...],
    scale: int,
    profile: str | None,
    compare: Path | None,
    output: str,
) -> None:
    """Decide the pods of YAML files against the nodes of YAML files. No cluster is needed.

    A YAML list of {source, target, rtt_ms} is read as round-trip times between nodes. What-if
    options change the cluster before anything is decided.

    \b
    Examples:
      gsch simulate -f examples/
      gsch snapshot > now.yaml; gsch simulate -f now.yaml --drain worker-3
      gsch simulate -f now.yaml -f web.yaml --scale 50 --add-node big.yaml
      gsch simulate -f now.yaml --config a.yaml --compare b.yaml --profile default-scheduler
    """
    first = configuration(config_file)
    objects = read(paths)
    objects = what_if.add_nodes(objects, read(added).nodes)
    objects = what_if.scale(what_if.drain(what_if.cordon(objects, cordon), drain), scale)
    if profile is not None:
        objects = what_if.under(objects, profile)
    if not objects.nodes:
        click.echo("no Node objects in these files: nothing can be placed", err=True)
    placements, cluster = _decide(objects, first)
    if compare is None:
        columns = {"pod": "POD", "result": "RESULT", "node": "NODE", "why": "WHY"}
        show([placement.row() for placement in placements], columns, output, STYLES)
        return
    others, other_cluster = _decide(objects, configuration(compare))
    names = (str(config_file or "default"), str(compare))
    summaries = (
        comparing.summary(placements, cluster),
        comparing.summary(others, other_cluster),
    )
    rows = comparing.side_by_side(placements, others)
    if output != "table":
        both = [{"configuration": n, **asdict(s)} for n, s in zip(names, summaries, strict=True)]
        show([{"summaries": both, "pods": rows}], {}, output)
        return
    columns = {"pod": "POD", "first": names[0], "second": names[1], "differs": ""}
    show(rows, columns, output, {"differs": "yellow"})
    click.echo()
    heads = {"name": "CONFIGURATION", "placed": "PLACED", "left": "LEFT", "nodes_in_use": "NODES"}
    heads |= {"cpu": "CPU", "memory": "MEMORY"}
    show([{"name": n, **asdict(s)} for n, s in zip(names, summaries, strict=True)], heads, output)


def _decide(
    objects: Objects, configuration: Configuration
) -> tuple[list[simulating.Placement], Snapshot]:
    """Simulate with a progress bar."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("deciding", total=len(objects.pods))
        return simulating.simulate(objects, configuration, lambda: progress.advance(task))
