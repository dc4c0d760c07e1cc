"""Exports as people read them."""

from collections.abc import Mapping
from typing import Any

from app import terminal
from app.explain.remedies import as_commands

View = Mapping[str, Any]

COUNTS = ("delivered", "superseded", "pending", "dead", "erased", "cancelled")
WOULD = {
    "start": "This would start an export",
    "update": "This would change export {id}",
    "revive": "This would let export {id}, which is stopped, run again",
    "adopt": "This would let export {id} go on with this audience",
}


def title(export: View) -> str:
    """Number and list; before it has one, what is known of the audience."""
    audience = export["audience"]
    return f"export {export['id']}, {export['list'] or audience['name'] or audience['slug'] or audience['id']}"


def show_all(exports: View) -> None:
    """A line for each export, why one does not run, and whose events are ignored."""
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
        terminal.say("There are no exports yet. export start AUDIENCE starts one.")
    for one in items:
        if one["reason"]:
            terminal.say(f"Export {one['id']}: {as_commands(one['reason'])}")
    if unexported:
        terminal.say("Audiences that nobody exports, so that their events are ignored:")
        terminal.show_table(
            ["audience", "slug", "events", "last event (UTC)"],
            [
                (one["audience_id"], one["audience_slug"], one["events"], terminal.moment(one["last_event_at"]))
                for one in unexported
            ],
        )


def show_one(export: View) -> None:
    """All that is known of one export, a line for each fact."""
    audience, counts, freshness = export["audience"], export["counts"], export.get("freshness")
    facts = [
        ("export", export["id"]),
        ("list", export["list"] and f"{export['list']}{'' if export['list_ready'] else ' (not made in Sailthru yet)'}"),
        ("state", export["state"]),
        ("reason", export["reason"] and as_commands(export["reason"])),
        ("account", export["authorization"]),
        ("audience", audience["name"]),
        ("audience id", audience["id"]),
        ("audience slug", audience["slug"]),
        ("address from", export["email_field"]),
        ("fields", ", ".join(f"{name} as {var}" for name, var in export["fields"].items()) or "none"),
        ("members", export["members"]),
        ("changes", f"{counts['accepted']} accepted = " + " + ".join(f"{counts[name]} {name}" for name in COUNTS)),
        ("told within", freshness and _freshness(freshness)),
        ("last webhook (UTC)", terminal.moment(export["last_webhook_at"])),
        ("started (UTC)", terminal.moment(export["created_at"])),
    ]
    terminal.show_facts(facts)


def show_state(export: View) -> None:
    """How an export stands now that it was changed."""
    terminal.say(_sentence(f"{title(export)} is {export['state']}."))
    if export["reason"]:
        terminal.say(as_commands(export["reason"]))


def show_started(answer: View) -> None:
    """The export that was started or changed, and what there is to know about it."""
    export = answer["export"]
    show_state(export)
    if export["list_ready"] and export["state"] == "paused":
        terminal.say(
            f"The list {export['list']} is there in Sailthru. Build the flow on it, then: export resume {export['id']}"
        )
    _show_notes(answer)


def show_preview(answer: View, *, flows_at_most: int | None = None) -> None:
    """What a start would do.

    Args:
        flows_at_most: how many may start, where everybody in the audience would be brought over; None where nobody
            would, or Lytics does not say.
    """
    audience = answer["audience"]
    would = WOULD.get(str(answer["would"]), str(answer["would"])).format(id=answer["export_id"])
    terminal.say(f"{would}. Nothing was done.")
    terminal.show_facts(
        [
            ("list", answer["list"]),
            ("account", answer["authorization"]),
            ("audience", audience["name"]),
            ("audience id", audience["id"]),
            ("audience slug", audience["slug"]),
            ("address from", answer["email_field"]),
            ("fields", ", ".join(f"{name} as {var}" for name, var in answer["fields"].items()) or "none"),
            *([] if flows_at_most is None else [("flows at most", flows_at_most)]),
        ]
    )
    _show_notes(answer)


def _show_notes(answer: View) -> None:
    for note in answer["notes"]:
        terminal.say(f"Note: {note}")


def _freshness(freshness: View) -> str:
    return f"{freshness['p50_seconds']:.1f} s for half, {freshness['p95_seconds']:.1f} s for 95 % (last hour)"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
