"""The demo's first part: people enter and leave an audience, and the list follows."""

import time
from datetime import UTC, datetime
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from app.demo.stage import PATIENCE_SECONDS, Stage
from app.sandbox import webhooks
from app.sandbox.audiences import SPRING_BUYERS

LIST = f"Lytics {SPRING_BUYERS.name}"
NAMES = ("Ada", "Ben", "Cora", "Dan", "Eve", "Finn", "Gia", "Hal", "Ida", "Jon", "Kim", "Leo")


def play(stage: Stage, people: int, console: Console) -> bool:
    """Show events going in and the list filling; returns whether it is right in the end."""
    console.print(f"\nThe audience [b]{SPRING_BUYERS.name}[/b] fills; each line is one webhook of Lytics:")
    wanted = _send_all(stage, people, console)
    console.print(f"\nThe list [b]{LIST}[/b] in Sailthru:")
    members = _watch(stage, wanted, console)
    table = Table("on the list", "joined once")
    joins = stage.account().joins(LIST)
    for email in sorted(members):
        table.add_row(email, "yes" if joins[email] == 1 else f"no, {joins[email]} times")
    console.print(table)
    is_right = members == wanted and all(joins[email] == 1 for email in members)
    if is_right:
        console.print(
            f"[green]Right:[/green] {len(members)} people are on it, just those in the audience, each joined once."
        )
    else:
        console.print(f"[red]Wrong:[/red] expected {sorted(wanted)}.\n{stage.log.read_text()}")
    return is_right


def _send_all(stage: Stage, people: int, console: Console) -> set[str]:
    """Sends what happens in Lytics; returns who is in the audience then."""
    wanted: set[str] = set()
    auth = {"Authorization": f"Bearer {stage.webhook_token}"}
    with httpx.Client(base_url=stage.service, headers=auth) as lytics:
        for number in range(people):
            name = NAMES[number % len(NAMES)]
            email = f"{name.lower()}{number // len(NAMES) or ''}@example.com"
            wanted.add(email)
            _send(
                lytics,
                webhooks.enter(email, at=datetime.now(UTC), fields={"first_name": name}),
                f"{email} enters",
                console,
            )
        gone = sorted(wanted)[1]
        wanted.discard(gone)
        _send(lytics, webhooks.exit_(gone, at=datetime.now(UTC)), f"{gone} leaves", console)
        again = min(wanted)
        moved = f"{again.partition('@')[0]}@example.org"
        event = webhooks.enter(moved, at=datetime.now(UTC), user_id=webhooks.user_id_of(again))
        _send(lytics, event, f"{again} is {moved} from now on", console)
    return wanted - {again} | {moved}


def _send(lytics: httpx.Client, body: dict[str, Any], what: str, console: Console) -> None:
    answer = lytics.post("/webhooks/lytics", json=body)
    console.print(f"  {what:<48} {answer.status_code} {answer.text}", soft_wrap=True)


def _watch(stage: Stage, wanted: set[str], console: Console) -> set[str]:
    """Follow the list until it is as wanted; returns who is on it then, or when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen: set[str] | None = None
    while True:
        members = stage.account().members(LIST)
        if members != seen:
            console.print(f"  {len(members):>4} people")
            seen = members
        if members == wanted or time.monotonic() > deadline:
            return members
        time.sleep(0.1)
