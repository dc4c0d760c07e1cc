"""Backfills as people read them."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from app import terminal
from app.commands import export_views
from app.domain.backfill import Skip
from app.explain.remedies import as_commands

View = Mapping[str, Any]


def title(export: View, backfill: View) -> str:
    """What it is, its number, and whose it is."""
    return f"{'Dry run' if backfill['dry_run'] else 'Backfill'} {backfill['id']} of {export_views.title(export)}"


def facts(backfill: View) -> list[str]:
    """How far it has come, beside or in place of a bar."""
    rate, eta, total = backfill["rate"], backfill["eta_seconds"], backfill["total"]
    counted = f"{backfill['scanned']:,} read" if total is None else f"{backfill['scanned']:,} of {total:,}"
    found = [counted]
    if rate is not None:
        found.append(f"{rate:,.0f}/s")
    if eta is not None:
        found.append(f"{timedelta(seconds=round(eta))} left")
    return [*found, f"{backfill['queued']:,} {_queued(backfill)}"]


def show_end(export: View, backfill: View) -> None:
    """How it ended, and what became of everybody whom it found."""
    terminal.say(f"{title(export, backfill)} is {backfill['state']}. Read: {backfill['scanned']:,}.")
    if backfill["reason"]:
        terminal.say(as_commands(backfill["reason"]))
    skipped = {str(reason): 0 for reason in Skip} | backfill["skipped"]
    terminal.show_table(
        ["what became of them", "people"],
        [
            (_queued(backfill), backfill["queued"]),
            *((reason.replace("_", " "), count) for reason, count in skipped.items()),
        ],
    )


def show_waiting(export: View) -> None:
    """How many changes of an export Sailthru has yet to be told."""
    pending = export["counts"]["pending"]
    if pending:
        terminal.say(f"Still to be told: {pending:,}. export show {export['id']} says how many are left.")
    else:
        terminal.say("Nobody waits to be told any more.")


def show_begun(export: View, backfill: View) -> None:
    """One that nobody follows."""
    terminal.say(f"{title(export, backfill)} is {backfill['state']}. {how_to_go_on(backfill)}")


def how_to_go_on(backfill: View) -> str:
    """The commands to follow a backfill and to end it."""
    command = f"export backfill {backfill['export_id']}"
    dry = " --dry-run" if backfill["dry_run"] else ""
    return f"To follow it: {command}{dry}. To end it: {command} --cancel."


def question(export: View, size: int | None) -> str:
    """What is to be asked before everybody is brought over.

    Args:
        size: of the audience; None where Lytics does not say.
    """
    flows = "a flow for each of them, however many they are" if size is None else f"up to {size:,} flows"
    return (
        f"Bring over who is in the audience of {export_views.title(export)} now? This may start {flows}: one for each"
        " who is not on the list yet. Go on?"
    )


def _queued(backfill: View) -> str:
    return "would be told" if backfill["dry_run"] else "queued"
