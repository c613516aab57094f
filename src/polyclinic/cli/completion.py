"""`polyclinic completion`: tab completion for the shell."""

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print the shell's tab completion.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the tab completion for SHELL.

    \b
    bash:  eval "$(polyclinic completion bash)"     in ~/.bashrc
    zsh:   eval "$(polyclinic completion zsh)"      in ~/.zshrc
    fish:  polyclinic completion fish > ~/.config/fish/completions/polyclinic.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    root = context.find_root().command
    click.echo(kind(root, {}, "polyclinic", "_POLYCLINIC_COMPLETE").source())
