"""`member`: show why a person is on a list, or is not."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from app import terminal
from app.commands.options import AsJSON
from app.commands.service import service_of
from app.explain.timeline import in_words

View = Mapping[str, Any]


def member(
    context: typer.Context,
    email: Annotated[str, typer.Argument(help="The address of the person.")],
    *,
    as_json: AsJSON = False,
) -> None:
    """Show one person: the desired and the confirmed state of each list, and the timeline."""
    with service_of(context) as service:
        answer = service.get(f"/members/{quote(email, safe='')}")
    if as_json:
        typer.echo(answer.text)
    else:
        show(answer.data)


def show(person: View) -> None:
    """Print the memberships, the next step for each dead letter, and the timeline."""
    memberships, timeline = person["memberships"], person["timeline"]
    terminal.say(person["email"])
    if person["erased_at"] is not None:
        terminal.say(f"Erased at {terminal.moment(person['erased_at'])} UTC. Events of this address are ignored.")
    if not memberships and not timeline:
        terminal.say("The service has no data about this address.")
        return
    terminal.show_table(
        ["export", "list", "account", "desired", "confirmed", "confirmed at (UTC)", "state", "next call (UTC)"],
        [
            (
                membership["export_id"],
                membership["list"],
                membership["authorization"],
                membership["desired"],
                membership["confirmed"],
                terminal.moment(membership["confirmed_at"]),
                membership["state"],
                terminal.moment(membership["next_call_at"]),
            )
            for membership in memberships
        ],
    )
    for membership in memberships:
        explanation = membership["explanation"]
        if explanation:
            text = f"{explanation['happened']} {explanation['next_step']}"
            terminal.say(f"Export {membership['export_id']} (code {membership['code']}): {text}")
    terminal.show_table(
        ["time (UTC)", "event"],
        [
            (terminal.moment(entry["at"]), in_words(entry["what"], entry["detail"], entry["export_id"]))
            for entry in timeline
        ],
    )
