"""`redrive`: let dead letters be told again."""

from typing import Annotated

import typer

from app import terminal
from app.commands.options import AsJSON, Preview, Yes, confirm
from app.commands.references import find_export
from app.commands.service import Answer, Service, service_of


def redrive(
    context: typer.Context,
    *,
    code: Annotated[str | None, typer.Option(help="Those given up with this code.")] = None,
    export: Annotated[str | None, typer.Option(help="Those of this export, named as in `export show`.")] = None,
    email: Annotated[str | None, typer.Option(help="Those of this person.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    preview: Preview = False,
    yes: Yes = False,
    as_json: AsJSON = False,
) -> None:
    """Tell Sailthru again what was given up: those to which all that is said applies, or --all.

    Counts them first, and asks.
    """
    if any(each is not None for each in (code, export, email)) == everything:
        raise typer.BadParameter("say which: --code, --export, --email, several of them, or --all alone.")
    with service_of(context) as service:
        which: dict[str, object] = {"all": True} if everything else {}
        which |= {key: value for key, value in (("code", code), ("email", email)) if value is not None}
        if export is not None:
            which["export"] = find_export(service, export)["id"]
        if preview or not yes:
            counted = _redrive(service, which | {"preview": True})
            found = counted.data["would_redrive"]
            if preview or not found:
                _tell(counted, f"{found} would be told again." if found else "There are none.", as_json=as_json)
                return
            confirm(f"Dead letters that will be told again: {found}. Go on?", is_confirmed=yes)
        done = _redrive(service, which)
    _tell(done, f"{done.data['redriven']} are told again now.", as_json=as_json)


def _redrive(service: Service, which: dict[str, object]) -> Answer:
    return service.call("POST", "/dead-letters/redrive", which)


def _tell(answer: Answer, words: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(answer.text)
    else:
        terminal.say(f"Dead letters: {words}")
