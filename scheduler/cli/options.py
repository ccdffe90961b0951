"""Options and colours that several commands share."""

from pathlib import Path

import click

from latency.matrix import Matrix
from scheduler.config import configuration_file
from scheduler.config.configuration import Configuration
from scheduler.cycle.framework import frameworks
from scheduler.offline import simulate as simulating

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


def configuration(path: Path | None) -> Configuration:
    """The file's configuration, or the default. Raises ConfigError."""
    settings = configuration_file.load(path) if path else Configuration()
    frameworks(settings, Matrix())
    return settings
