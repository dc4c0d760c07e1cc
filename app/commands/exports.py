"""`export`: start, list, show, name, pause, resume and stop exports, and backfill them."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from app.commands import backfill_views
from app.commands import export_views as views
from app.commands.backfills import audience_size, backfill, exit_code, follow, show_end
from app.commands.options import AsJSON, NoWait, Preview, Reference, Yes, confirm
from app.commands.references import find_export
from app.commands.service import Service, service_of

app = typer.Typer(
    name="export", help="Manage exports. An export keeps one list equal to one audience.", no_args_is_help=True
)


@app.command()
def start(
    context: typer.Context,
    audience: Annotated[str, typer.Argument(help="The id, slug or name of the audience in Lytics.")],
    *,
    authorization: Annotated[str | None, typer.Option(help="The Sailthru account. Default: `default`.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="A Lytics field to export, as FIELD or FIELD=VAR. Repeat it for more fields."),
    ] = None,
    email_field: Annotated[
        str | None, typer.Option(help="The Lytics field that holds the address. Default: `email`.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The name for the list, if Lytics can't be asked or the audience's name is taken."),
    ] = None,
    adopt: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="ID",
            help="Continue export ID with this audience, which was deleted and re-created in Lytics under the same"
            " name.",
        ),
    ] = None,
    paused: Annotated[
        bool, typer.Option("--paused", help="Create the list and keep changes, but deliver nothing until `resume`.")
    ] = False,
    existing_users: Annotated[
        bool,
        typer.Option(
            "--existing-users",
            help="Also add the current members of the audience, and wait for that. Each of them starts a flow.",
        ),
    ] = False,
    no_wait: NoWait = False,
    preview: Preview = False,
    as_json: AsJSON = False,
) -> None:
    """Export an audience: create its list now, and keep it equal to the audience from now on.

    Running it again changes the fields of the export, or restarts the export if it was stopped.
    """
    request = {
        "audience": audience,
        "authorization": authorization,
        "fields": chosen_fields(fields or ()),
        "email_field": email_field,
        "name": name,
        "adopt": adopt,
        "state": "paused" if paused else None,
        "existing_users": existing_users or None,
        "preview": preview or None,
    }
    with service_of(context) as service:
        answer = service.call("POST", "/exports", {key: value for key, value in request.items() if value is not None})
        if as_json:
            typer.echo(answer.text)
        elif preview:
            at_most = audience_size(service, answer.data["audience"]["id"]) if existing_users else None
            views.show_preview(answer.data, flows_at_most=at_most)
        else:
            views.show_started(answer.data)
        started = answer.data.get("backfill")
        if started is not None:
            _finish_backfill(service, answer.data["export"], started, is_followed=not no_wait, as_json=as_json)


@app.command("list")
def list_(context: typer.Context, *, as_json: AsJSON = False) -> None:
    """List all exports, and the audiences whose events are ignored because they have no export."""
    with service_of(context) as service:
        answer = service.get("/exports")
    if as_json:
        typer.echo(answer.text)
    else:
        views.show_all(answer.data)


@app.command()
def show(context: typer.Context, export: Reference, *, as_json: AsJSON = False) -> None:
    """Show one export."""
    with service_of(context) as service:
        answer = service.get(f"/exports/{find_export(service, export)['id']}")
    if as_json:
        typer.echo(answer.text)
    else:
        views.show_one(answer.data)


@app.command()
def name(
    context: typer.Context,
    export: Reference,
    audience_name: Annotated[str, typer.Argument(metavar="NAME", help="The name of its audience.")],
    *,
    as_json: AsJSON = False,
) -> None:
    """Name an export that has no list yet, because Lytics gave no name or another export has the list."""
    _change(context, export, {"name": audience_name}, as_json=as_json)


@app.command()
def pause(context: typer.Context, export: Reference, *, as_json: AsJSON = False) -> None:
    """Stop delivering the changes of an export, and keep them until it is resumed."""
    _change(context, export, {"state": "paused"}, as_json=as_json)


@app.command()
def resume(context: typer.Context, export: Reference, *, as_json: AsJSON = False) -> None:
    """Deliver the changes of an export again, beginning with the kept changes."""
    _change(context, export, {"state": "running"}, as_json=as_json)


@app.command()
def stop(context: typer.Context, export: Reference, *, yes: Yes = False, as_json: AsJSON = False) -> None:
    """Stop an export: its events are ignored from now on. The list in Sailthru stays as it is."""
    with service_of(context) as service:
        found = find_export(service, export)
        confirm(
            f"Stop {views.title(found)}? Its events will be ignored, and its pending changes"
            f" ({found['counts']['pending']}) cancelled. The list stays as it is. Continue?",
            is_confirmed=yes,
        )
        answer = service.call("DELETE", f"/exports/{found['id']}")
    if as_json:
        typer.echo(answer.text)
    else:
        views.show_state(answer.data)


def chosen_fields(options: Sequence[str]) -> list[str] | Mapping[str, str] | None:
    """Return the fields of the `--field` options, with their Sailthru vars if an option names one.

    Raises:
        BadParameter: a name is missing or repeated.
    """
    pairs = [option.partition("=") for option in options]
    names = [name for name, _, _ in pairs]
    if any(not name or (sign and not var) for name, sign, var in pairs):
        raise typer.BadParameter("use --field FIELD or --field FIELD=VAR.", param_hint="--field")
    if len(set(names)) < len(names):
        raise typer.BadParameter("a field is named twice.", param_hint="--field")
    if any(sign for _, sign, _ in pairs):
        return {name: var or name for name, _, var in pairs}
    return names or None


def _finish_backfill(
    service: Service, export: views.View, started: views.View, *, is_followed: bool, as_json: bool
) -> None:
    if is_followed:
        ended = follow(service, started, is_quiet=as_json).data
        if not as_json:
            show_end(service, export, ended)
        raise typer.Exit(exit_code(ended))
    if not as_json:
        backfill_views.show_running(export, started)


def _change(context: typer.Context, reference: str, change: Mapping[str, object], *, as_json: bool) -> None:
    with service_of(context) as service:
        answer = service.call("PATCH", f"/exports/{find_export(service, reference)['id']}", change)
    if as_json:
        typer.echo(answer.text)
    else:
        views.show_state(answer.data)


app.command()(backfill)
