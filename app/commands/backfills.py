"""`export backfill`: bring over who is in an audience now, and follow that to its end."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app import terminal
from app.commands import backfill_views as views
from app.commands.export_views import title
from app.commands.options import AsJSON, NoWait, Reference, Yes, confirm
from app.commands.references import find_export
from app.commands.service import Answer, Service, service_of
from app.domain.backfill import ACTIVE, BackfillState
from app.domain.errors import ServiceNotReached, ServiceSaidNo

View = Mapping[str, Any]

LOOK_EVERY_SECONDS = 0.5
# A service that is started again comes back within it.
PATIENCE_SECONDS = 60.0
INTERRUPTED = 130


def backfill(
    context: typer.Context,
    export: Reference,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count who would be told.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the backfill that is under way.")] = False,
    no_wait: NoWait = False,
    yes: Yes = False,
    as_json: AsJSON = False,
) -> None:
    """Bring over who is in the audience now: a flow starts for each who joins the list by it.

    One that is under way already is followed. Exit code 0 once it is completed, 1 if it fails or is cancelled.
    """
    if cancel and (dry_run or no_wait):
        raise typer.BadParameter("it takes neither --dry-run nor --no-wait.", param_hint="--cancel")
    with service_of(context) as service:
        found = find_export(service, export)
        if cancel:
            ended = _cancel(service, found)
        else:
            begun = _begin(service, found, is_dry_run=dry_run, is_confirmed=yes)
            if no_wait:
                _show_begun(found, begun, as_json=as_json)
                return
            ended = follow(service, begun.data, is_quiet=as_json)
        if as_json:
            typer.echo(ended.text)
        else:
            show_end(service, found, ended.data)
    raise typer.Exit(0 if cancel else exit_code(ended.data))


def follow(service: Service, backfill: View, *, is_quiet: bool) -> Answer:
    """The backfill at its end. Until then shows how far it is; it goes on in the service, whatever happens here.

    Raises:
        Exit: 130 if somebody would not wait; it says how to go on.
        ServiceSaidNo, ServiceNotReached: the service does not tell any more how it stands.
    """
    try:
        with terminal.Bar(is_quiet=is_quiet) as bar:
            return _watch(service, _path(backfill), bar)
    except KeyboardInterrupt:
        terminal.complain(f"It goes on in the service. {views.how_to_go_on(backfill)}")
        raise typer.Exit(INTERRUPTED) from None
    except (ServiceSaidNo, ServiceNotReached):
        terminal.complain(f"It goes on while the service runs. {views.how_to_go_on(backfill)}")
        raise


def show_end(service: Service, export: View, backfill: View) -> None:
    """How a backfill ended, and how many wait to be told."""
    views.show_end(export, backfill)
    if not backfill["dry_run"]:
        views.show_waiting(service.get(f"/exports/{export['id']}").data)


def exit_code(backfill: View) -> int:
    """0 for a backfill that reached its end, else 1."""
    return 0 if backfill["state"] == BackfillState.COMPLETED else 1


def audience_size(service: Service, audience_id: str) -> int | None:
    """How many people are in an audience; None where Lytics does not say."""
    sizes = {one["id"]: one["size"] for one in service.get("/lytics/audiences").data["items"]}
    return sizes.get(audience_id)


def _watch(service: Service, path: str, bar: terminal.Bar) -> Answer:
    is_told = False
    while True:
        answer = _look(service, path)
        backfill = answer.data
        at_most = backfill["joins_at_most"]
        if at_most is not None and not is_told and not backfill["dry_run"]:
            bar.say(f"It may start up to {at_most:,} flows.")
            is_told = True
        waiting_for = backfill["waiting_for"]
        below = f"Waits: {waiting_for}" if waiting_for else None
        bar.show(backfill["scanned"], backfill["total"], views.facts(backfill), below=below)
        if backfill["state"] not in ACTIVE:
            return answer
        time.sleep(LOOK_EVERY_SECONDS)


def _look(service: Service, path: str) -> Answer:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return service.get(path, is_quiet=True)
        except ServiceNotReached:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOOK_EVERY_SECONDS)


def _begin(service: Service, export: View, *, is_dry_run: bool, is_confirmed: bool) -> Answer:
    under_way = _under_way(service, export)
    if under_way is not None and under_way["dry_run"] == is_dry_run:
        # Not by POST: if it ended just now, that would begin another one, which nobody was asked about.
        return service.get(_path(under_way))
    if not is_dry_run and not is_confirmed:
        size = audience_size(service, export["audience"]["id"])
        confirm(views.question(export, size), is_confirmed=False)
    return service.call("POST", f"/exports/{export['id']}/backfills", {"dry_run": is_dry_run})


def _under_way(service: Service, export: View) -> View | None:
    newest = service.get(f"/exports/{export['id']}/backfills").data["items"]
    return next((one for one in newest if one["state"] in ACTIVE), None)


def _path(backfill: View) -> str:
    return f"/exports/{backfill['export_id']}/backfills/{backfill['id']}"


def _cancel(service: Service, export: View) -> Answer:
    under_way = _under_way(service, export)
    if under_way is None:
        raise ServiceSaidNo(f"No backfill of {title(export)} is under way.")
    return service.call("DELETE", _path(under_way))


def _show_begun(export: View, begun: Answer, *, as_json: bool) -> None:
    if as_json:
        typer.echo(begun.text)
    else:
        views.show_begun(export, begun.data)
