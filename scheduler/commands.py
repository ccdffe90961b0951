"""`gsch run`, `gsch simulate`, `gsch explain` and `gsch config`."""

import asyncio
import sys
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console
from rich.progress import Progress

from cluster import logs
from cluster.access import Access, AccessError
from cluster.client import ApiClient, ApiError, TransportError
from cluster.quantity import QuantityError
from latency.matrix import LatencyError, Matrix, parse
from scheduler import configuration as configurations
from scheduler import explain as explaining
from scheduler import live
from scheduler import simulate as simulating
from scheduler.configuration import Configuration, ConfigurationError
from scheduler.gschconfig import InvalidGschConfig
from scheduler.manifests import ManifestError, read
from scheduler.output import output_option, show
from scheduler.pods import WaitsForGlobal
from scheduler.profiles import frameworks

STYLES = {
    simulating.PLACED: "green",
    simulating.PENDING: "yellow",
    simulating.INVALID: "red",
    "no": "yellow",
    "yes": "green",
    "chosen": "bold green",
}

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file; `gsch config default` prints one.",
)
kubeconfig_option = click.option(
    "--kubeconfig", help="Kubeconfig file; KUBECONFIG, or the pod's own account, without it."
)
context_option = click.option("--context", help="Context of the kubeconfig.")


def _configuration(path: Path | None) -> Configuration:
    """The file's configuration, or the default; mistakes end the command."""
    try:
        found = configurations.load(path) if path else Configuration()
        frameworks(found, Matrix())
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    return found


@click.command()
@config_option
@kubeconfig_option
@context_option
@click.option("--verbose", is_flag=True, help="Log debug lines too.")
def run(
    config_file: Path | None, kubeconfig: str | None, context: str | None, verbose: bool
) -> None:
    """Watch pending pods and bind each to a node, until a signal.

    SIGTERM lets binds in flight end; SIGHUP reads the configuration again.

    \b
    Examples:
      gsch run
      gsch run --config gsch.yaml --kubeconfig ~/.kube/config --context edge
    """
    from scheduler.app import App

    logs.configure(verbose)
    found = _configuration(config_file)

    def reload() -> Configuration:
        fresh = configurations.load(config_file) if config_file else Configuration()
        frameworks(fresh, Matrix())
        return fresh

    path = kubeconfig or found.client_connection.kubeconfig
    try:
        code = uvloop.run(App(found, path, context, reload).run())
    except (AccessError, ConfigurationError, LatencyError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


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
@output_option
def simulate(paths: tuple[Path, ...], config_file: Path | None, output: str) -> None:
    """Decide the pods of YAML files against the nodes of YAML files. No cluster is needed.

    A YAML list of {source, target, rtt_ms} is read as round-trip times between nodes.

    \b
    Examples:
      gsch simulate -f examples/
      kubectl get nodes,pods -A -o yaml > now.yaml; gsch simulate -f now.yaml -o json
    """
    found = _configuration(config_file)
    try:
        objects = read(paths)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("deciding", total=len(objects.pods))
            placements = simulating.simulate(objects, found, lambda: progress.advance(task))
    except (ManifestError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from error
    if not objects.nodes:
        click.echo("no Node objects in these files: nothing can be placed", err=True)
    columns = {"pod": "POD", "result": "RESULT", "node": "NODE", "why": "WHY"}
    show([placement.row() for placement in placements], columns, output, STYLES)


@click.command()
@click.argument("pod")
@click.option("-n", "--namespace", default="default", show_default=True, help="Its namespace.")
@click.option(
    "--latency", type=click.Path(exists=True, path_type=Path), help="File of round-trip times."
)
@config_option
@kubeconfig_option
@context_option
@output_option
def explain(
    pod: str,
    namespace: str,
    latency: Path | None,
    config_file: Path | None,
    kubeconfig: str | None,
    context: str | None,
    output: str,
) -> None:
    """Say for the live POD, node by node, which plugin refuses it or what score each gives.

    POD is a name or namespace/name. The cluster is only read.

    \b
    Examples:
      gsch explain my-pod
      gsch explain edge/camera-0 -o json
    """
    logs.configure()
    found = _configuration(config_file)
    key = pod if "/" in pod else f"{namespace}/{pod}"
    path = kubeconfig or found.client_connection.kubeconfig or None
    try:
        explanation = asyncio.run(_explain(key, found, latency, path, context))
    except ApiError as error:
        hint = " (look at -n/--namespace)" if error.status == 404 else ""
        raise click.ClickException(f"{error}{hint}") from error
    except (
        AccessError,
        TransportError,
        LatencyError,
        explaining.CannotExplain,
        InvalidGschConfig,
        WaitsForGlobal,
        QuantityError,
    ) as error:
        raise click.ClickException(str(error)) from error
    if output != "table":
        show([msgspec.to_builtins(explanation)], {}, output)
        return
    _show_explanation(explanation)


def _show_explanation(explanation: explaining.Explanation) -> None:
    """A table of nodes, the best first, and what there is to say about the pod as a whole."""
    order = sorted(explanation.nodes, key=lambda n: (not n.chosen, not n.fits, -n.total))
    rows = [
        {
            "node": node.node,
            "verdict": "chosen" if node.chosen else "yes" if node.fits else "no",
            "total": node.total if node.fits else None,
            "rtt_ms": node.rtt_ms,
            "why": {name: score.weighted for name, score in node.scores.items()}
            if node.fits
            else f"{node.refused_by}: {', '.join(node.reasons)}",
            "changes": node.changes,
        }
        for node in order
    ]
    columns = {"node": "NODE", "verdict": "FITS", "total": "SCORE", "why": "WHY"}
    if any(row["rtt_ms"] is not None for row in rows):
        columns["rtt_ms"] = "RTT (ms)"
    if any(row["changes"] for row in rows):
        columns["changes"] = "WOULD FIT WITH"
    show(rows, columns, "table", STYLES)
    if explanation.message:
        click.echo(f"\n{explanation.message}")
    if explanation.nearest is not None:
        changes = next(n.changes for n in explanation.nodes if n.node == explanation.nearest)
        click.echo(f"Nearest: {explanation.nearest}, with {'; '.join(changes)}")
    if explanation.preemption is not None:
        found = explanation.preemption
        budgets = f", against {found.budget_violations} budgets" if found.budget_violations else ""
        click.echo(f"Preemption would take {', '.join(found.pods)} from {found.node}{budgets}")


async def _explain(
    key: str,
    configuration: Configuration,
    latency: Path | None,
    path: str | None,
    context: str | None,
) -> explaining.Explanation:
    matrix = Matrix()
    async with ApiClient(Access(path, context)) as client:
        pod, snapshot = await live.pod_and_cluster(client, key)
        source = latency or (Path(f) if (f := configuration.latency.file) else None)
        if source is not None:
            matrix.replace(parse(source.read_bytes(), str(source)))
        elif configuration.latency.config_map is not None:
            matrix.replace(await live.latency(client, configuration.latency.config_map))
    return explaining.explain(pod, snapshot, configuration, matrix)


@click.group()
def config() -> None:
    """Print the default configuration, or check a file."""


@config.command()
def default() -> None:
    """Print what holds without a configuration file.

    \b
    Example:  gsch config default > gsch.yaml
    """
    click.echo(configurations.dump(Configuration()), nl=False)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check FILE; exit 1 and say what is wrong, and where, if it does not hold.

    \b
    Example:  gsch config check gsch.yaml
    """
    found = _configuration(file)
    names = ", ".join(profile.scheduler_name for profile in found.profiles)
    click.echo(f"{file}: holds; profiles: {names}")
