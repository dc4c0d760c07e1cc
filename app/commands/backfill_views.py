"""Shows backfills on the terminal."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from app import terminal
from app.commands import export_views
from app.commands.remedies import command
from app.domain.backfill import Skip

View = Mapping[str, Any]


def title(export: View, backfill: View) -> str:
    return f"{'Dry run' if backfill['dry_run'] else 'Backfill'} {backfill['id']} of {export_views.title(export)}"


def facts(backfill: View) -> list[str]:
    """Return the progress as texts beside a bar, or in place of a bar."""
    rate, eta, total = backfill["rate"], backfill["eta_seconds"], backfill["total"]
    read = f"{backfill['scanned']:,} read" if total is None else f"{backfill['scanned']:,} of {total:,}"
    texts = [read]
    if rate is not None:
        texts.append(f"{rate:,.0f}/s")
    if eta is not None:
        texts.append(f"{timedelta(seconds=round(eta))} left")
    return [*texts, f"{backfill['queued']:,} {_queued(backfill)}"]


def show_end(export: View, backfill: View) -> None:
    """Print the end of a backfill and the number of people by result."""
    terminal.say(f"{title(export, backfill)} is {backfill['state']}. Read: {backfill['scanned']:,}.")
    if backfill["reason"]:
        terminal.say(backfill["reason"])
    skipped = {str(reason): 0 for reason in Skip} | backfill["skipped"]
    terminal.show_table(
        ["result", "people"],
        [
            (_queued(backfill), backfill["queued"]),
            *((reason.replace("_", " "), count) for reason, count in skipped.items()),
        ],
    )


def show_pending(export: View) -> None:
    """Print the number of pending changes of an export."""
    pending = export["counts"]["pending"]
    if pending:
        terminal.say(f"Pending changes: {pending:,}. To see how many are left: {command('export show', export['id'])}.")
    else:
        terminal.say("No changes are pending.")


def show_running(export: View, backfill: View) -> None:
    """Print a backfill that the command does not wait for."""
    terminal.say(f"{title(export, backfill)} is {backfill['state']}. {how_to_continue(backfill)}")


def how_to_continue(backfill: View) -> str:
    """Return the commands that follow and cancel a backfill."""
    words = ("export backfill", backfill["export_id"])
    follow = command(*words, "--dry-run") if backfill["dry_run"] else command(*words)
    return f"To follow it: {follow}. To cancel it: {command(*words, '--cancel')}."


def question(export: View, size: int | None) -> str:
    """Return the question before a backfill.

    Args:
        size: the number of people in the audience; None if Lytics does not report it.
    """
    members = "an unknown number of" if size is None else f"up to {size:,}"
    return (
        f"Backfill {export_views.title(export)} from its audience? This may start {members} flows: one for each person"
        " who is not on the list yet. Continue?"
    )


def _queued(backfill: View) -> str:
    return "would be queued" if backfill["dry_run"] else "queued"
