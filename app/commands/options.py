"""The options that several commands share, and the question before something is changed."""

from typing import Annotated

import typer

from app import terminal

Reference = Annotated[
    str, typer.Argument(metavar="EXPORT", help="Its number, or the exact id, slug or name of its audience or list.")
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print the service's own JSON and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not follow the backfill: it goes on by itself.")]
Preview = Annotated[bool, typer.Option("--preview", help="Only tell what would be done.")]


def confirm(question: str, *, is_confirmed: bool) -> None:
    """Goes on only with a yes: from the command line, or from whoever sits there.

    Raises:
        Exit: 2 where nobody can be asked, 1 if the answer is no.
    """
    if is_confirmed:
        return
    if not terminal.can_ask():
        terminal.complain(f"{question} Nobody can be asked here, so nothing was done. Say --yes if you mean it.")
        raise typer.Exit(2)
    if not terminal.ask(question):
        terminal.complain("Nothing was done.")
        raise typer.Exit(1)
