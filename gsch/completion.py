"""`gsch completion`: the script that a shell sources to complete commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Example:  source <(gsch completion bash)
    """
    root = ctx.find_root()
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise click.ClickException(f"click cannot complete for {shell}")
    click.echo(completion_class(root.command, {}, "gsch", "_GSCH_COMPLETE").source())
