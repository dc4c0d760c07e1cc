"""The options that several commands share, and the confirmation of a change."""

from typing import Annotated

import typer

from app import terminal

Reference = Annotated[
    str, typer.Argument(metavar="EXPORT", help="Its number, or the exact id, slug or name of its audience or list.")
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print only the service's own JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the backfill; it continues in the service.")]
Preview = Annotated[bool, typer.Option("--preview", help="Show what would happen, and change nothing.")]


def confirm(question: str, *, is_confirmed: bool) -> None:
    """Ask the question unless it was confirmed on the command line.

    Raises:
        Exit: 2 if standard input is not a terminal, 1 if the answer is no.
    """
    if is_confirmed:
        return
    if not terminal.can_ask():
        terminal.complain(f"{question} There is no terminal to ask on, so nothing was changed. Add --yes to confirm.")
        raise typer.Exit(2)
    if not terminal.ask(question):
        terminal.complain("Nothing was changed.")
        raise typer.Exit(1)
