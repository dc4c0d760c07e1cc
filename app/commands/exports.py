"""`export`: start, list, show, name, pause, resume and stop the exports of a running service."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from app.commands import backfill_views
from app.commands import export_views as views
from app.commands.backfills import audience_size, backfill, exit_code, follow, show_end
from app.commands.options import AsJSON, NoWait, Preview, Reference, Yes, confirm
from app.commands.references import find_export
from app.commands.service import Service, service_of

app = typer.Typer(name="export", help="Exports: which audiences are kept as lists.", no_args_is_help=True)


@app.command()
def start(
    context: typer.Context,
    audience: Annotated[str, typer.Argument(help="The id, slug or name of the audience in Lytics.")],
    *,
    authorization: Annotated[str | None, typer.Option(help="The Sailthru account, if not `default`.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="A Lytics field to bring over, also as FIELD=VAR; once for each."),
    ] = None,
    email_field: Annotated[
        str | None, typer.Option(help="The Lytics field of the address; `email` if not said.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Names the list, where Lytics can't be asked or the audience's own name is taken."),
    ] = None,
    adopt: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="ID",
            help="The export ID goes on with this audience, which was deleted and made again in Lytics under the same"
            " name.",
        ),
    ] = None,
    paused: Annotated[
        bool, typer.Option("--paused", help="Make the list, keep its changes, and tell none before it is resumed.")
    ] = False,
    existing_users: Annotated[
        bool,
        typer.Option(
            "--existing-users",
            help="Bring over who is in the audience now, too, and follow that: a flow starts for each of them.",
        ),
    ] = False,
    no_wait: NoWait = False,
    preview: Preview = False,
    as_json: AsJSON = False,
) -> None:
    """Export an audience: make its list at once, and keep it from now on.

    A second time changes the fields of the same export, or lets it run again if it was stopped.
    """
    wish = {
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
        answer = service.call("POST", "/exports", {key: value for key, value in wish.items() if value is not None})
        if as_json:
            typer.echo(answer.text)
        elif preview:
            at_most = audience_size(service, answer.data["audience"]["id"]) if existing_users else None
            views.show_preview(answer.data, flows_at_most=at_most)
        else:
            views.show_started(answer.data)
        begun = answer.data.get("backfill")
        if begun is not None:
            _bring_over(service, answer.data["export"], begun, is_followed=not no_wait, as_json=as_json)


@app.command("list")
def list_(context: typer.Context, *, as_json: AsJSON = False) -> None:
    """All exports and how they stand, and the audiences whose events nobody exports."""
    with service_of(context) as service:
        answer = service.get("/exports")
    if as_json:
        typer.echo(answer.text)
    else:
        views.show_all(answer.data)


@app.command()
def show(context: typer.Context, export: Reference, *, as_json: AsJSON = False) -> None:
    """All that is known of one export."""
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
    """Name an export whose audience's name Lytics did not tell, or whose list another export has."""
    _change(context, export, {"name": audience_name}, as_json=as_json)


@app.command()
def pause(context: typer.Context, export: Reference, *, as_json: AsJSON = False) -> None:
    """Keep the changes of an export, and tell Sailthru none of them until it is resumed."""
    _change(context, export, {"state": "paused"}, as_json=as_json)


@app.command()
def resume(context: typer.Context, export: Reference, *, as_json: AsJSON = False) -> None:
    """Go on telling Sailthru, beginning with what was kept."""
    _change(context, export, {"state": "running"}, as_json=as_json)


@app.command()
def stop(context: typer.Context, export: Reference, *, yes: Yes = False, as_json: AsJSON = False) -> None:
    """End an export: its events are ignored from then on. The list in Sailthru stays as it is."""
    with service_of(context) as service:
        found = find_export(service, export)
        confirm(
            f"Stop {views.title(found)}? Its events will be ignored, and {found['counts']['pending']} waiting changes"
            " cancelled; the list stays as it is.",
            is_confirmed=yes,
        )
        answer = service.call("DELETE", f"/exports/{found['id']}")
    if as_json:
        typer.echo(answer.text)
    else:
        views.show_state(answer.data)


def chosen_fields(options: Sequence[str]) -> list[str] | Mapping[str, str] | None:
    """What `--field` options choose: names, or names with the Sailthru var of each as soon as one has one; None for
    none.

    Raises:
        BadParameter: a name is missing, or stands twice.
    """
    pairs = [option.partition("=") for option in options]
    names = [name for name, _, _ in pairs]
    if any(not name or (sign and not var) for name, sign, var in pairs):
        raise typer.BadParameter("it is --field FIELD, or --field FIELD=VAR.", param_hint="--field")
    if len(set(names)) < len(names):
        raise typer.BadParameter("a field stands twice.", param_hint="--field")
    if any(sign for _, sign, _ in pairs):
        return {name: var or name for name, _, var in pairs}
    return names or None


def _bring_over(service: Service, export: views.View, begun: views.View, *, is_followed: bool, as_json: bool) -> None:
    if is_followed:
        ended = follow(service, begun, is_quiet=as_json).data
        if not as_json:
            show_end(service, export, ended)
        raise typer.Exit(exit_code(ended))
    if not as_json:
        backfill_views.show_begun(export, begun)


def _change(context: typer.Context, reference: str, wish: Mapping[str, object], *, as_json: bool) -> None:
    with service_of(context) as service:
        answer = service.call("PATCH", f"/exports/{find_export(service, reference)['id']}", wish)
    if as_json:
        typer.echo(answer.text)
    else:
        views.show_state(answer.data)


app.command()(backfill)
