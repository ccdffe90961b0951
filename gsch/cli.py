"""The `gsch` command: each package's own sub-commands, loaded when they are asked for."""

import atexit
import contextlib
import importlib
import os
import sys
from typing import Any, NoReturn

import click

import gsch
from cluster.errors import GschError

# name: (module, attribute, short help)
COMMANDS = {
    "demo": ("gsch.demo", "demo", "See pods placed, and why."),
    "run": ("scheduler.cli.commands", "run", "Run the scheduler."),
    "simulate": (
        "scheduler.cli.simulate_command",
        "simulate",
        "Decide pods of files, with no cluster.",
    ),
    "explain": ("scheduler.cli.commands", "explain", "Say node by node where a pod fits, and why."),
    "snapshot": ("scheduler.cli.commands", "snapshot", "Record a live cluster for simulate."),
    "extender": ("extender.commands", "extender", "Answer kube-scheduler's extender calls."),
    "rebalance": (
        "scheduler.cli.rebalance_command",
        "rebalance",
        "Say (or make) moves that bring pods nearer.",
    ),
    "global": ("federation.commands", "global_", "Place workloads across clusters."),
    "agent": ("latency.commands", "agent", "Measure round-trip times from a node."),
    "console": ("console.commands", "console", "Show clusters in the browser."),
    "config": ("scheduler.cli.commands", "config", "Print or check a configuration."),
    "lab": ("lab.commands", "lab", "Real control planes on this machine, for trying and testing."),
    "completion": ("gsch.completion", "completion", "Print the shell completion script."),
}

EXTRAS = {"console": "console", "global": "global"}
"""Commands that need an extra of the package."""


class LazyGroup(click.Group):
    """Imports a command's module only when that command is used: `gsch --help` stays quick."""

    def invoke(self, ctx: click.Context) -> Any:
        """The one place that turns errors into a message and exit code 1."""
        try:
            return super().invoke(ctx)
        except GschError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            extra = EXTRAS.get(ctx.invoked_subcommand or "")
            if extra is None:
                raise
            raise click.ClickException(
                f"gsch {ctx.invoked_subcommand} needs the package {error.name}, which an extra "
                f"brings: uv tool install 'gsch[{extra}]', or pip install 'gsch[{extra}]'"
            ) from error

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


def entry() -> NoReturn:
    """Run the command and leave without finalising the interpreter.

    The HTTP library has a thread of its own, and one that is inside Python while the interpreter
    finalises aborts the process: a clear message would end in a crash. What matters of an orderly
    end, exit handlers (they remove key files that the kubernetes package wrote) and flushed
    output, is done here.
    """
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to run them early
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
