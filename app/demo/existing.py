"""The demo's second part: who was in an audience before it is exported is brought over."""

import shlex
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.demo.stage import PATIENCE_SECONDS, Stage
from app.sandbox.people import address_of

AUDIENCE, AUDIENCE_ID = "Autumn Buyers", "f0e1d2c3b4a5968778695a4b3c2d1e0f"
LIST = f"Lytics {AUDIENCE}"
PEOPLE = 2000


def play(stage: Stage, console: Console) -> bool:
    """Show a backfill by the command that an operator gives; returns whether the list is right in the end."""
    stage.tell_lytics("audiences", {"id": AUDIENCE_ID, "name": AUDIENCE})
    stage.tell_lytics("members", {"audience": AUDIENCE_ID, "generate": PEOPLE})
    words = ("export", "start", AUDIENCE, "--existing-users")
    console.print(
        f"\n{PEOPLE:,} people are in the audience [b]{AUDIENCE}[/b] already when its export starts:\n"
        f"[b]$ lytics-sailthru {shlex.join(words)}[/b]"
    )
    is_done = stage.command(*words) == 0
    wanted = {address_of(number) for number in range(PEOPLE)}
    console.print(f"\nThe list [b]{LIST}[/b] in Sailthru:")
    members = _watch(stage, wanted, console) if is_done else set()
    joins = stage.account().joins(LIST)
    is_right = members == wanted and joins == Counter(wanted)
    if is_right:
        console.print(
            f"[green]Right:[/green] {len(members):,} people are on it, just those in the audience, each joined once."
        )
    else:
        missing, strange = len(wanted - members), len(members - wanted)
        console.print(
            f"[red]Wrong:[/red] {missing:,} are missing, {strange:,} do not belong there, and"
            f" {sum(count > 1 for count in joins.values()):,} joined more than once.\n{stage.log.read_text()}"
        )
    return is_right


def _watch(stage: Stage, wanted: set[str], console: Console) -> set[str]:
    """Follow the list until it is as wanted; returns who is on it then, or when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("people"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(wanted))
        while True:
            members = stage.account().members(LIST)
            progress.update(bar, completed=len(members))
            if members == wanted or time.monotonic() > deadline:
                return members
            time.sleep(0.2)
