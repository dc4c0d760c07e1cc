"""The first part of the demo: people enter and leave an audience, and the list follows."""

import time
from datetime import UTC, datetime
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from app.demo.stage import TIMEOUT_SECONDS, Stage
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS

LIST = f"Lytics {SPRING_BUYERS.name}"
NAMES = ("Ada", "Ben", "Cora", "Dan", "Eve", "Finn", "Gia", "Hal", "Ida", "Jon", "Kim", "Leo")


def play(stage: Stage, people: int, console: Console) -> bool:
    """Send webhooks, show the list filling, and return whether the final list is correct."""
    console.print(f"\nPeople enter the audience [b]{SPRING_BUYERS.name}[/b]. Each line is one webhook from Lytics:")
    expected = _send_all(stage, people, console)
    console.print(f"\nThe list [b]{LIST}[/b] in Sailthru:")
    members = _wait_for(stage, expected, console)
    table = Table("on the list", "joined once")
    joins = stage.account().joins(LIST)
    for email in sorted(members):
        table.add_row(email, "yes" if joins[email] == 1 else f"no, {joins[email]} times")
    console.print(table)
    is_right = members == expected and all(joins[email] == 1 for email in members)
    if is_right:
        console.print(
            f"[green]Right:[/green] {len(members)} people are on the list: exactly those in the audience."
            " Each joined once.",
            soft_wrap=True,
        )
    else:
        console.print(f"[red]Wrong:[/red] expected {sorted(expected)}.\n{stage.log.read_text()}")
    return is_right


def _send_all(stage: Stage, people: int, console: Console) -> set[str]:
    """Send the webhooks and return the final addresses of the audience."""
    expected: set[str] = set()
    auth = {"Authorization": f"Bearer {stage.webhook_token}"}
    with httpx.Client(base_url=stage.service, headers=auth) as lytics:
        for number in range(people):
            name = NAMES[number % len(NAMES)]
            email = f"{name.lower()}{number // len(NAMES) or ''}@example.com"
            expected.add(email)
            event = webhooks.enter(email, at=datetime.now(UTC), fields={"first_name": name})
            _send(lytics, event, f"{email} enters", console)
        leaver = sorted(expected)[1]
        expected.discard(leaver)
        _send(lytics, webhooks.exit_(leaver, at=datetime.now(UTC)), f"{leaver} leaves", console)
        former = min(expected)
        address = f"{former.partition('@')[0]}@example.org"
        event = webhooks.enter(address, at=datetime.now(UTC), user_id=webhooks.user_id_of(former))
        _send(lytics, event, f"{former} changes to {address}", console)
    return expected - {former} | {address}


def _send(lytics: httpx.Client, body: dict[str, Any], action: str, console: Console) -> None:
    answer = lytics.post("/webhooks/lytics", json=body)
    console.print(f"  {action:<48} {answer.status_code} {answer.text}", soft_wrap=True)


def _wait_for(stage: Stage, expected: set[str], console: Console) -> set[str]:
    """Show the size of the list until it has the expected members or time is up, and return its members."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    seen: set[str] | None = None
    while True:
        members = stage.account().members(LIST)
        if members != seen:
            console.print(f"  {len(members):>4} people")
            seen = members
        if members == expected or time.monotonic() > deadline:
            return members
        time.sleep(0.1)
