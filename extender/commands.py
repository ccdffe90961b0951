"""`gsch extender`."""

from pathlib import Path

import click
import uvloop

from extender.app import serve
from scheduler.cli.options import config_option, configuration, context_option, kubeconfig_option
from serving import logs


@click.command()
@config_option
@kubeconfig_option
@context_option
@click.option("--verbose", is_flag=True, help="Log debug lines too.")
def extender(
    config_file: Path | None, kubeconfig: str | None, context: str | None, verbose: bool
) -> None:
    """Answer kube-scheduler's extender calls: filter, prioritize, preempt, bind.

    The first profile's filters and the policy in each pod's gschConfig decide. kube-scheduler's
    side of it: examples/config/kube-scheduler-with-extender.yaml.

    \b
    Examples:
      gsch extender
      gsch extender --config extender.yaml --kubeconfig ~/.kube/config
    """
    logs.configure(verbose)
    loaded_config = configuration(config_file)
    uvloop.run(
        serve(loaded_config, kubeconfig or loaded_config.client_connection.kubeconfig, context)
    )
