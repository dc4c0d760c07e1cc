"""Shows exports on the terminal."""

from collections.abc import Mapping
from typing import Any

from app import terminal
from app.commands.remedies import command

View = Mapping[str, Any]

COUNTS = ("delivered", "superseded", "pending", "dead", "erased", "cancelled")
WOULD = {
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
    """Print all exports, the reason for each that does not run, and audiences whose events are ignored."""
    items, unexported = exports["items"], exports["unexported"]
    if items:
        terminal.show_table(
            ["id", "list", "account", "state", "members", "pending", "dead", "last webhook (UTC)"],
            [
                (
                    one["id"],
                    one["list"] or f"(audience {one['audience']['slug']})",
                    one["authorization"],
                    one["state"],
                    one["members"],
                    one["counts"]["pending"],
                    one["counts"]["dead"],
                    terminal.moment(one["last_webhook_at"]),
                )
                for one in items
            ],
        )
    else:
        terminal.say(f"There are no exports yet. Start one: {command('export start AUDIENCE')}.")
    for one in items:
        if one["reason"]:
            terminal.say(f"Export {one['id']}: {one['reason']}")
    if unexported:
        terminal.say("Audiences without an export, whose events are ignored:")
        terminal.show_table(
            ["audience", "slug", "events", "last event (UTC)"],
            [
                (one["audience_id"], one["audience_slug"], one["events"], terminal.moment(one["last_event_at"]))
                for one in unexported
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
    """Print what a start would do.

    Args:
        flows_at_most: how many flows a backfill may start; None without a backfill, or if Lytics does not know.
    """
    audience = answer["audience"]
    would = WOULD.get(str(answer["would"]), str(answer["would"])).format(id=answer["export_id"])
    terminal.say(f"{would}. Nothing was changed.")
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
