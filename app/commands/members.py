"""`member`: why is somebody (not) on a list?"""

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
    email: Annotated[str, typer.Argument(help="The person's address.")],
    *,
    as_json: AsJSON = False,
) -> None:
    """One person: what is wanted on each list, what Sailthru was told, and what happened."""
    with service_of(context) as service:
        answer = service.get(f"/members/{quote(email, safe='')}")
    if as_json:
        typer.echo(answer.text)
    else:
        show(answer.data)


def show(person: View) -> None:
    """The memberships, what to do where one was given up, and the timeline."""
    memberships, timeline = person["memberships"], person["timeline"]
    terminal.say(person["email"])
    if person["erased_at"] is not None:
        terminal.say(f"Erased at {terminal.moment(person['erased_at'])} UTC, and kept out since.")
    if not memberships and not timeline:
        terminal.say("Nothing is known of this address.")
        return
    terminal.show_table(
        ["export", "list", "account", "desired", "confirmed", "confirmed at (UTC)", "state", "next call (UTC)"],
        [
            (
                one["export_id"],
                one["list"],
                one["authorization"],
                one["desired"],
                one["confirmed"],
                terminal.moment(one["confirmed_at"]),
                one["state"],
                terminal.moment(one["next_call_at"]),
            )
            for one in memberships
        ],
    )
    for one in memberships:
        if one["explanation"]:
            said = one["explanation"]
            terminal.say(f"Export {one['export_id']} (code {one['code']}): {said['happened']} {said['next_step']}")
    terminal.show_table(
        ["when (UTC)", "what happened"],
        [
            (terminal.moment(entry["at"]), in_words(entry["what"], entry["detail"], entry["export_id"]))
            for entry in timeline
        ],
    )
