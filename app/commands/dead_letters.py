"""`redrive`: put dead letters back into delivery."""

from typing import Annotated

import typer

from app import terminal
from app.commands.options import AsJSON, Preview, Yes, confirm
from app.commands.references import find_export
from app.commands.service import Answer, Service, service_of


def redrive(
    context: typer.Context,
    *,
    code: Annotated[str | None, typer.Option(help="Only dead letters with this error code.")] = None,
    export: Annotated[
        str | None, typer.Option(help="Only dead letters of this export, named as in `export show`.")
    ] = None,
    email: Annotated[str | None, typer.Option(help="Only dead letters of this address.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    preview: Preview = False,
    yes: Yes = False,
    as_json: AsJSON = False,
) -> None:
    """Deliver dead letters again: those that match every given option, or --all.

    Counts them first, and asks for confirmation.
    """
    if any(option is not None for option in (code, export, email)) == everything:
        raise typer.BadParameter("choose --code, --export, --email, or several of them; or --all alone.")
    with service_of(context) as service:
        selection: dict[str, object] = {"all": True} if everything else {}
        selection |= {key: value for key, value in (("code", code), ("email", email)) if value is not None}
        if export is not None:
            selection["export"] = find_export(service, export)["id"]
        if preview or not yes:
            counted = _redrive(service, selection | {"preview": True})
            found = counted.data["would_redrive"]
            if preview or not found:
                text = f"Dead letters that would be redriven: {found}." if found else "No dead letters match."
                _show(counted, text, as_json=as_json)
                return
            confirm(f"Redrive dead letters: {found}. Continue?", is_confirmed=yes)
        done = _redrive(service, selection)
    _show(done, f"Dead letters redriven: {done.data['redriven']}.", as_json=as_json)


def _redrive(service: Service, selection: dict[str, object]) -> Answer:
    return service.call("POST", "/dead-letters/redrive", selection)


def _show(answer: Answer, text: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(answer.text)
    else:
        terminal.say(text)
