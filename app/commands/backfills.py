"""`export backfill`: add the current members of an audience to its list, and wait for the end."""

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
from app.domain.errors import ServiceRefused, ServiceUnreachable

View = Mapping[str, Any]

POLL_SECONDS = 0.5
# A restart of the service takes less than this.
LONGEST_OUTAGE_SECONDS = 60.0
INTERRUPTED = 130


def backfill(
    context: typer.Context,
    export: Reference,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the people who would be added.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the running backfill.")] = False,
    no_wait: NoWait = False,
    yes: Yes = False,
    as_json: AsJSON = False,
) -> None:
    """Add the current members of the audience to the list. Each person who joins the list starts its flow.

    If a backfill is running already, the command follows it. Exit code 0 if the backfill completes, 1 if it fails or is
    cancelled.
    """
    if cancel and (dry_run or no_wait):
        raise typer.BadParameter("can't be combined with --dry-run or --no-wait.", param_hint="--cancel")
    with service_of(context) as service:
        target = find_export(service, export)
        if cancel:
            ended = _cancel(service, target)
        else:
            started = _begin(service, target, is_dry_run=dry_run, is_confirmed=yes)
            if no_wait:
                _show_running(target, started, as_json=as_json)
                return
            ended = follow(service, started.data, is_quiet=as_json)
        if as_json:
            typer.echo(ended.text)
        else:
            show_end(service, target, ended.data)
    raise typer.Exit(0 if cancel else exit_code(ended.data))


def follow(service: Service, backfill: View, *, is_quiet: bool) -> Answer:
    """Show the progress of a backfill until it ends, and return it. The service runs it, not this process.

    Raises:
        Exit: 130 on Ctrl-C. The commands that follow and cancel the backfill are printed first.
        ServiceRefused, ServiceUnreachable: the service no longer answers.
    """
    try:
        with terminal.Bar(is_quiet=is_quiet) as bar:
            return _watch(service, _path(backfill), bar)
    except KeyboardInterrupt:
        terminal.complain(f"The backfill continues in the service. {views.how_to_continue(backfill)}")
        raise typer.Exit(INTERRUPTED) from None
    except (ServiceRefused, ServiceUnreachable):
        terminal.complain(f"The backfill continues while the service runs. {views.how_to_continue(backfill)}")
        raise


def show_end(service: Service, export: View, backfill: View) -> None:
    """Print the end of a backfill and the number of pending changes."""
    views.show_end(export, backfill)
    if not backfill["dry_run"]:
        views.show_pending(service.get(f"/exports/{export['id']}").data)


def exit_code(backfill: View) -> int:
    return 0 if backfill["state"] == BackfillState.COMPLETED else 1


def audience_size(service: Service, audience_id: str) -> int | None:
    """Return the number of people in an audience; None if Lytics does not report it."""
    sizes = {audience["id"]: audience["size"] for audience in service.get("/lytics/audiences").data["items"]}
    return sizes.get(audience_id)


def _watch(service: Service, path: str, bar: terminal.Bar) -> Answer:
    has_warned = False
    while True:
        answer = _read(service, path)
        backfill = answer.data
        at_most = backfill["joins_at_most"]
        if at_most is not None and not has_warned and not backfill["dry_run"]:
            bar.say(f"This may start up to {at_most:,} flows.")
            has_warned = True
        waiting_for = backfill["waiting_for"]
        below = f"Waiting: {waiting_for}" if waiting_for else None
        bar.show(backfill["scanned"], backfill["total"], views.facts(backfill), below=below)
        if backfill["state"] not in ACTIVE:
            return answer
        time.sleep(POLL_SECONDS)


def _read(service: Service, path: str) -> Answer:
    deadline = time.monotonic() + LONGEST_OUTAGE_SECONDS
    while True:
        try:
            return service.get(path, is_quiet=True)
        except ServiceUnreachable:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _begin(service: Service, export: View, *, is_dry_run: bool, is_confirmed: bool) -> Answer:
    running = _running(service, export)
    if running is not None and running["dry_run"] == is_dry_run:
        # A POST would start another backfill without confirmation if this one has just ended.
        return service.get(_path(running))
    if not is_dry_run and not is_confirmed:
        size = audience_size(service, export["audience"]["id"])
        confirm(views.question(export, size), is_confirmed=False)
    return service.call("POST", f"/exports/{export['id']}/backfills", {"dry_run": is_dry_run})


def _running(service: Service, export: View) -> View | None:
    newest = service.get(f"/exports/{export['id']}/backfills").data["items"]
    return next((backfill for backfill in newest if backfill["state"] in ACTIVE), None)


def _path(backfill: View) -> str:
    return f"/exports/{backfill['export_id']}/backfills/{backfill['id']}"


def _cancel(service: Service, export: View) -> Answer:
    running = _running(service, export)
    if running is None:
        raise ServiceRefused(f"No backfill of {title(export)} is running.")
    return service.call("DELETE", _path(running))


def _show_running(export: View, started: Answer, *, as_json: bool) -> None:
    if as_json:
        typer.echo(started.text)
    else:
        views.show_running(export, started.data)
