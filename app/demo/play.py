"""Runs the demo from start to end."""

import shlex
import sys
import time

from rich.console import Console

from app.demo import existing, live
from app.demo.stage import PROGRAM, NotStarted, Stage, open_stage


def run(*, people: int, is_once: bool) -> int:
    """Run the demo and return the exit code: 0 if both final lists are correct, 1 if not.

    Args:
        people: the number of people who enter the first audience.
        is_once: exit at the end instead of waiting for Ctrl-C.
    """
    console = Console(highlight=False)
    console.print("Starting a Sailthru sandbox, a Lytics sandbox and the service …")
    try:
        with open_stage() as stage:
            is_right = live.play(stage, people, console) and existing.play(stage, console)
            if is_right and not is_once:
                _keep_open(stage, console)
    except KeyboardInterrupt:
        return 0
    except NotStarted as error:
        console.print(f"[red]{error}[/red]")
        return 1
    return 0 if is_right else 1


def _keep_open(stage: Stage, console: Console) -> None:
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in stage.for_commands().items())
    program = _program()
    console.print(
        "\nThe service and both sandboxes keep running. Try these commands in another terminal:\n"
        f"  export {settings}\n"
        f"  {program} export list\n"
        f"  {program} export show {shlex.quote(existing.AUDIENCE)}\n"
        f"  {program} export backfill {shlex.quote(existing.AUDIENCE)} --dry-run\n"
        f"  {program} member cora@example.com\n"
        f"The state of Sailthru: {stage.sailthru}/_sandbox/state\n"
        "Press Ctrl-C to stop.",
        soft_wrap=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\nStopping.")


def _program() -> str:
    """Return the command that started this program."""
    path = sys.argv[0]
    return shlex.join(PROGRAM) if path.endswith("__main__.py") else shlex.quote(path)
