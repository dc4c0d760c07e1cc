"""
The demo: a sandbox, the service, and sample traffic, as real processes over real HTTP.
"""

import asyncio
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from app.sandbox import server, webhooks
from app.sandbox.audiences import SPRING_BUYERS
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.sailthru import SailthruSandbox

SAILTHRU_KEY, SAILTHRU_SECRET, LYTICS_TOKEN = "demo-key", "demo-secret", "demo-token"
LIST = f"Lytics {SPRING_BUYERS.name}"
NAMES = ("Ada", "Ben", "Cora", "Dan", "Eve", "Finn", "Gia", "Hal", "Ida", "Jon", "Kim", "Leo")
PATIENCE_SECONDS = 60


def run_sandbox(host: str, sailthru_port: int, lytics_port: int, *, latency: float) -> None:
    """
    Run both sandboxes until a signal comes, and say where they are and what they take.
    """
    sailthru = SailthruSandbox({SAILTHRU_KEY: SAILTHRU_SECRET}, latency=(latency, latency / 3), dice=random.Random())  # noqa: S311 - no secret
    lytics = LyticsSandbox(LYTICS_TOKEN)

    def tell(port: int, other: int) -> None:
        Console(highlight=False).print(
            f"Sailthru sandbox: http://{host}:{port}   key {SAILTHRU_KEY}, secret {SAILTHRU_SECRET}\n"
            f"Lytics sandbox:   http://{host}:{other}   token {LYTICS_TOKEN}\n"
            f"Who is on which list: http://{host}:{port}/_sandbox/state"
        )

    try:
        asyncio.run(server.serve(host, sailthru_port, lytics_port, sailthru=sailthru, lytics=lytics, on_ready=tell))
    except OSError as error:
        raise SystemExit(
            f"lytics-sailthru: the sandbox can't listen there ({error.strerror}): choose other ports."
        ) from error


@dataclass(frozen=True)
class Stage:
    """
    Where everything runs, and the tokens that open it.
    """

    service: str
    sailthru: str
    webhook_token: str
    admin_token: str
    log: Path


def run(*, people: int, is_once: bool) -> int:
    """
    Show events going in and the list filling; returns 0 when the list is right, 1 when it is not.
    """
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="lytics-sailthru-demo-") as folder:
        try:
            with _stage(Path(folder), console) as stage:
                is_right = _play(stage, people, console)
                if is_right and not is_once:
                    _keep_open(stage, console)
        except KeyboardInterrupt:
            return 0
        except _NotStarted as error:
            console.print(f"[red]{error}[/red]")
            return 1
    return 0 if is_right else 1


class _NotStarted(Exception):
    pass


@contextmanager
def _stage(folder: Path, console: Console) -> Iterator[Stage]:
    ports = _free_ports(3)
    stage = Stage(
        service=f"http://127.0.0.1:{ports[0]}",
        sailthru=f"http://127.0.0.1:{ports[1]}",
        webhook_token=secrets.token_urlsafe(24),
        admin_token=secrets.token_urlsafe(24),
        log=folder / "service.log",
    )
    env = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{folder / 'demo.db'}",
        "WEBHOOK_TOKENS": f"demo:{stage.webhook_token}",
        "ADMIN_TOKENS": f"demo:{stage.admin_token}",
        "LYTICS_API_TOKEN": LYTICS_TOKEN,
        "LYTICS_BASE_URL": f"http://127.0.0.1:{ports[2]}",
        "SAILTHRU_API_KEY": SAILTHRU_KEY,
        "SAILTHRU_API_SECRET": SAILTHRU_SECRET,
        "SAILTHRU_BASE_URL": stage.sailthru,
        "SAILTHRU_AUTHORIZATIONS": "{}",
        "AUTO_EXPORT": "true",
        "HOST": "127.0.0.1",
        "PORT": str(ports[0]),
    }
    program = [sys.executable, "-m", "app"]
    with stage.log.open("wb") as log:
        console.print("Starting a Sailthru and a Lytics sandbox, and the service …")
        running = [
            # In a folder of their own, so that a .env for the real accounts is not read.
            subprocess.Popen([*program, *words], env=env, stdout=log, stderr=log, cwd=folder, start_new_session=True)  # noqa: S603 - our own program
            for words in (
                ["sandbox", "--sailthru-port", str(ports[1]), "--lytics-port", str(ports[2])],
                ["serve"],
            )
        ]
        try:
            _wait_until_ready(stage, running)
            yield stage
        finally:
            for process in running[::-1]:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(PATIENCE_SECONDS)


def _wait_until_ready(stage: Stage, running: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in running):
            break
        try:
            answers = [httpx.get(f"{stage.service}/health/ready"), httpx.get(f"{stage.sailthru}/_sandbox/state")]
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if all(answer.is_success for answer in answers):
            return
    raise _NotStarted(f"The service or the sandbox did not start. Their log says why:\n{stage.log.read_text()}")


def _play(stage: Stage, people: int, console: Console) -> bool:
    console.print(f"\nThe audience [b]{SPRING_BUYERS.name}[/b] fills; each line is one webhook of Lytics:")
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
        wanted = wanted - {again} | {moved}
        event = webhooks.enter(moved, at=datetime.now(UTC), user_id=webhooks.user_id_of(again))
        _send(lytics, event, f"{again} is {moved} from now on", console)
    console.print(f"\nThe list [b]{LIST}[/b] in Sailthru:")
    members = _watch(stage, wanted, console)
    table = Table("on the list", "joined once")
    joins = [e["email"] for e in _account(stage)["lo_events"] if e["entry"] == "List Joined"]
    for email in sorted(members):
        table.add_row(email, "yes" if joins.count(email) == 1 else f"no, {joins.count(email)} times")
    console.print(table)
    is_right = members == wanted and all(joins.count(email) == 1 for email in members)
    if is_right:
        console.print(
            f"[green]Right:[/green] {len(members)} people are on it, just those in the audience, each joined once."
        )
    else:
        console.print(f"[red]Wrong:[/red] expected {sorted(wanted)}.\n{stage.log.read_text()}")
    return is_right


def _send(lytics: httpx.Client, body: dict[str, Any], what: str, console: Console) -> None:
    answer = lytics.post("/webhooks/lytics", json=body)
    console.print(f"  {what:<48} {answer.status_code} {answer.text}", soft_wrap=True)


def _watch(stage: Stage, wanted: set[str], console: Console) -> set[str]:
    """
    Follow the list until it is as wanted; returns who is on it then, or when patience ends.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen: set[str] | None = None
    while True:
        members = set(_account(stage)["lists"].get(LIST, []))
        if members != seen:
            console.print(f"  {len(members):>4} people")
            seen = members
        if members == wanted or time.monotonic() > deadline:
            return members
        time.sleep(0.1)


def _account(stage: Stage) -> dict[str, Any]:
    state: dict[str, Any] = httpx.get(f"{stage.sailthru}/_sandbox/state", params={"log": "false"}).json()
    account: dict[str, Any] = state["accounts"][SAILTHRU_KEY]
    return account


def _keep_open(stage: Stage, console: Console) -> None:
    header = f'-H "Authorization: Bearer {stage.admin_token}"'
    console.print(
        "\nLook around while it runs:\n"
        f"  the export and its counts   curl {header} {stage.service}/exports\n"
        f"  one person's timeline       curl {header} {stage.service}/members/cora@example.com\n"
        f"  metrics                     curl {header} {stage.service}/metrics\n"
        f"  what Sailthru holds         curl {stage.sailthru}/_sandbox/state\n"
        "Ctrl-C ends it.",
        soft_wrap=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\nEnding.")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
