"""The second part of the demo: a backfill adds the people who were in an audience before its export started."""

import shlex
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.demo.stage import TIMEOUT_SECONDS, Stage
from app.sandbox.lytics.people import address_of

AUDIENCE, AUDIENCE_ID = "Autumn Buyers", "f0e1d2c3b4a5968778695a4b3c2d1e0f"
LIST = f"Lytics {AUDIENCE}"
PEOPLE = 2000


def play(stage: Stage, console: Console) -> bool:
    """Run a backfill with the command that operators use, and return whether the final list is correct."""
    stage.control_lytics("audiences", {"id": AUDIENCE_ID, "name": AUDIENCE})
    stage.control_lytics("members", {"audience": AUDIENCE_ID, "generate": PEOPLE})
    words = ("export", "start", AUDIENCE, "--existing-users")
    console.print(
        f"\nThe audience [b]{AUDIENCE}[/b] has {PEOPLE:,} members before its export starts:\n"
        f"[b]$ lytics-sailthru {shlex.join(words)}[/b]"
    )
    is_done = stage.command(*words) == 0
    expected = {address_of(number) for number in range(PEOPLE)}
    console.print(f"\nThe list [b]{LIST}[/b] in Sailthru:")
    members = _wait_for(stage, expected, console) if is_done else set()
    joins = stage.account().joins(LIST)
    is_right = members == expected and joins == Counter(expected)
    if is_right:
        console.print(
            f"[green]Right:[/green] {len(members):,} people are on the list: exactly those in the audience."
            " Each joined once.",
            soft_wrap=True,
        )
    else:
        missing, unexpected = len(expected - members), len(members - expected)
        console.print(
            f"[red]Wrong:[/red] {missing:,} are missing, {unexpected:,} should not be there, and"
            f" {sum(count > 1 for count in joins.values()):,} joined more than once.\n{stage.log.read_text()}"
        )
    return is_right


def _wait_for(stage: Stage, expected: set[str], console: Console) -> set[str]:
    """Show the size of the list until it has the expected members or time is up, and return its members."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("people"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(expected))
        while True:
            members = stage.account().members(LIST)
            progress.update(bar, completed=len(members))
            if members == expected or time.monotonic() > deadline:
                return members
            time.sleep(0.2)
