"""`gsch run`, `gsch simulate`, `gsch explain` and `gsch config`."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop
import yaml

from cluster.api.access import Access
from cluster.api.client import ApiClient, ApiError
from latency.matrix import Matrix
from scheduler.cli.options import (
    STYLES,
    config_option,
    configuration,
    context_option,
    kubeconfig_option,
)
from scheduler.cli.output import output_option, show
from scheduler.config import configuration_file
from scheduler.config.configuration import Configuration, Latency
from scheduler.cycle.framework import frameworks
from scheduler.offline import explain as explaining
from scheduler.offline import live
from scheduler.process.latency_source import once
from serving import logs

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


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
    from scheduler.process.app import App

    logs.configure(verbose)
    loaded_config = configuration(config_file)

    def reload() -> Configuration:
        fresh = configuration_file.load(config_file) if config_file else Configuration()
        frameworks(fresh, Matrix())
        return fresh

    path = kubeconfig or loaded_config.client_connection.kubeconfig
    sys.exit(uvloop.run(App(loaded_config, path, context, reload).run()))


@click.command()
@kubeconfig_option
@context_option
def snapshot(kubeconfig: str | None, context: str | None) -> None:
    """Record all objects of the live cluster that placements depend on, as YAML.

    Only what scheduling reads is kept, and no value of an environment variable but gschConfig.

    \b
    Example:  gsch snapshot > cluster.yaml; gsch simulate -f cluster.yaml --cordon worker-1
    """
    logs.configure()

    async def record() -> list[dict[str, Any]]:
        async with ApiClient(Access(kubeconfig, context)) as client:
            return await live.recording(client)

    items = asyncio.run(record())
    document = {"apiVersion": "v1", "kind": "List", "items": items}
    yaml.dump(document, sys.stdout, Dumper=_DUMPER, sort_keys=False)


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
    loaded_config = configuration(config_file)
    key = pod if "/" in pod else f"{namespace}/{pod}"
    path = kubeconfig or loaded_config.client_connection.kubeconfig or None
    try:
        explanation = asyncio.run(_explain(key, loaded_config, latency, path, context))
    except ApiError as error:
        hint = " (look at -n/--namespace)" if error.status == 404 else ""
        raise click.ClickException(f"{error}{hint}") from error
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
        preemption = explanation.preemption
        budgets = (
            f", against {preemption.budget_violations} budgets"
            if preemption.budget_violations
            else ""
        )
        click.echo(
            f"Preemption would take {', '.join(preemption.pods)} from {preemption.node}{budgets}"
        )


async def _explain(
    key: str,
    configuration: Configuration,
    latency: Path | None,
    path: str | None,
    context: str | None,
) -> explaining.Explanation:
    settings = Latency(file=str(latency)) if latency else configuration.latency
    async with ApiClient(Access(path, context)) as client:
        pod, snapshot = await live.pod_and_cluster(client, key)
        matrix = await once(settings, client)
    return explaining.explain(pod, snapshot, configuration, matrix)


@click.group()
def config() -> None:
    """Print the default configuration, or check a file.

    \b
    Examples:
      gsch config default > gsch.yaml
      gsch config check gsch.yaml
    """


@config.command()
def default() -> None:
    """Print what holds without a configuration file.

    \b
    Example:  gsch config default > gsch.yaml
    """
    click.echo(configuration_file.dump(Configuration()), nl=False)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check FILE; exit 1 and say what is wrong, and where, if it does not hold.

    \b
    Example:  gsch config check gsch.yaml
    """
    loaded_config = configuration(file)
    names = ", ".join(profile.scheduler_name for profile in loaded_config.profiles)
    click.echo(f"{file}: holds; profiles: {names}")
