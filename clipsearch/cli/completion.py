"""``clipsearch completion``: the script that teaches a shell our commands and options."""

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(SHELLS))
@options.common
def command(console: Console, shell: str) -> int:
    """Print a shell's completion script.

    \b
    bash: clipsearch completion bash > ~/.local/share/bash-completion/completions/clipsearch
    zsh:  clipsearch completion zsh > "${fpath[1]}/_clipsearch"
    fish: clipsearch completion fish > ~/.config/fish/completions/clipsearch.fish
    """  # noqa: D301
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None  # click knows all of SHELLS
    root = click.get_current_context().find_root().command
    # The base class's source: bash's own would start a bash only to ask for its version.
    script = complete(root, {}, "clipsearch", "_CLIPSEARCH_COMPLETE")
    console.results([(script.source_template % script.source_vars()).strip()])
    return 0
