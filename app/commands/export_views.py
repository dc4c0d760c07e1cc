"""Shows exports on the terminal."""

from collections.abc import Mapping
from typing import Any

from app import terminal
from app.commands.remedies import command

View = Mapping[str, Any]

COUNTS = ("delivered", "superseded", "pending", "dead", "erased", "cancelled")
EFFECTS = {
    "start": "This would start an export",
    "update": "This would change export {id}",
    "revive": "This would restart export {id}, which is stopped",
    "adopt": "This would continue export {id} with this audience",
}


def title(export: View) -> str:
    """Return the export's number and list; without a list, the audience's name, slug or id."""
    audience = export["audience"]
    return f"export {export['id']}, {export['list'] or audience['name'] or audience['slug'] or audience['id']}"


def show_all(exports: View) -> None:
    """Print all exports, the reasons of those that do not run, and the audiences without an export."""
    items, unexported = exports["items"], exports["unexported"]
    if items:
        terminal.show_table(
            ["id", "list", "account", "state", "members", "pending", "dead", "last webhook (UTC)"],
            [
                (
                    export["id"],
                    export["list"] or f"(audience {export['audience']['slug']})",
                    export["authorization"],
                    export["state"],
                    export["members"],
                    export["counts"]["pending"],
                    export["counts"]["dead"],
                    terminal.moment(export["last_webhook_at"]),
                )
                for export in items
            ],
        )
    else:
        terminal.say(f"There are no exports yet. Start one: {command('export start AUDIENCE')}.")
    for export in items:
        if export["reason"]:
            terminal.say(f"Export {export['id']}: {export['reason']}")
    if unexported:
        terminal.say("Audiences without an export, whose events are ignored:")
        terminal.show_table(
            ["audience", "slug", "events", "last event (UTC)"],
            [
                (
                    audience["audience_id"],
                    audience["audience_slug"],
                    audience["events"],
                    terminal.moment(audience["last_event_at"]),
                )
                for audience in unexported
            ],
        )


def show_one(export: View) -> None:
    """Print one export, one line per fact."""
    audience, counts, freshness = export["audience"], export["counts"], export.get("freshness")
    list_ = export["list"] and f"{export['list']}{'' if export['list_ready'] else ' (not created in Sailthru yet)'}"
    facts = [
        ("export", export["id"]),
        ("list", list_),
        ("state", export["state"]),
        ("reason", export["reason"]),
        ("account", export["authorization"]),
        ("audience", audience["name"]),
        ("audience id", audience["id"]),
        ("audience slug", audience["slug"]),
        ("email field", export["email_field"]),
        ("fields", ", ".join(f"{name} as {var}" for name, var in export["fields"].items()) or "none"),
        ("members", export["members"]),
        ("changes", f"{counts['accepted']} accepted = " + " + ".join(f"{counts[name]} {name}" for name in COUNTS)),
        ("delivered within", freshness and _freshness(freshness)),
        ("last webhook (UTC)", terminal.moment(export["last_webhook_at"])),
        ("started (UTC)", terminal.moment(export["created_at"])),
    ]
    terminal.show_facts(facts)


def show_state(export: View) -> None:
    """Print the state of an export after a change."""
    terminal.say(_sentence(f"{title(export)} is {export['state']}."))
    if export["reason"]:
        terminal.say(export["reason"])


def show_started(answer: View) -> None:
    """Print the export that was started or changed, and the service's notes about it."""
    export = answer["export"]
    show_state(export)
    if export["list_ready"] and export["state"] == "paused":
        terminal.say(
            f"The list {export['list']} exists in Sailthru. Build the flow on it, then resume the export:"
            f" {command('export resume', export['id'])}."
        )
    _show_notes(answer)


def show_preview(answer: View, *, flows_at_most: int | None = None) -> None:
    """Print the effect that a start would have.

    Args:
        flows_at_most: the flows that a backfill may start; None without a backfill, or if the size is unknown.
    """
    audience = answer["audience"]
    effect = EFFECTS.get(str(answer["would"]), str(answer["would"])).format(id=answer["export_id"])
    terminal.say(f"{effect}. Nothing was changed.")
    terminal.show_facts(
        [
            ("list", answer["list"]),
            ("account", answer["authorization"]),
            ("audience", audience["name"]),
            ("audience id", audience["id"]),
            ("audience slug", audience["slug"]),
            ("email field", answer["email_field"]),
            ("fields", ", ".join(f"{name} as {var}" for name, var in answer["fields"].items()) or "none"),
            *([] if flows_at_most is None else [("flows at most", flows_at_most)]),
        ]
    )
    _show_notes(answer)


def _show_notes(answer: View) -> None:
    for note in answer["notes"]:
        terminal.say(f"Note: {note}")


def _freshness(freshness: View) -> str:
    return f"{freshness['p50_seconds']:.1f} s (median), {freshness['p95_seconds']:.1f} s (95 %), last hour"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
