"""``fig completion``: the script that makes a shell complete fig's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stranglerfig.cli.main import Fig


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Example: eval "$(fig completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None
    fig: Fig = ctx.obj
    script = kind(ctx.find_root().command, {}, "fig", "_FIG_COMPLETE").source_vars()
    source = kind.source_template % script
    fig.print({"shell": shell, "script": source}, source)
