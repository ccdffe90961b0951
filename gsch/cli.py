"""The `gsch` command: each package's own sub-commands, loaded when they are asked for."""

import importlib

import click

import gsch

# name: (module, attribute, short help)
COMMANDS = {
    "run": ("scheduler.commands", "run", "Run the scheduler."),
    "simulate": ("scheduler.commands", "simulate", "Decide pods of YAML files, with no cluster."),
    "explain": ("scheduler.commands", "explain", "Say node by node where a pod fits, and why."),
    "config": ("scheduler.commands", "config", "Print or check a configuration."),
    "lab": ("lab.commands", "lab", "Real control planes on this machine, for trying and testing."),
    "completion": ("gsch.completion", "completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command is used: `gsch --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gsch.__version__, prog_name="gsch")
def main() -> None:
    """A Kubernetes scheduler for edge clouds.

    \b
    Try it without a cluster:  gsch simulate -f examples/
    Run it against a cluster:  gsch run --kubeconfig ~/.kube/config
    Ask about a pending pod:   gsch explain my-namespace/my-pod
    """
