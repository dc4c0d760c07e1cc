"""The demo from beginning to end."""

import shlex
import sys
import time

from rich.console import Console

from app.demo import existing, live
from app.demo.stage import PROGRAM, NotStarted, Stage, open_stage


def run(*, people: int, is_once: bool) -> int:
    """Show events going in and lists filling; returns 0 when the lists are right, 1 when one is not.

    Args:
        people: how many enter the first audience.
        is_once: end then, instead of waiting for somebody to look around.
    """
    console = Console(highlight=False)
    console.print("Starting a Sailthru and a Lytics sandbox, and the service …")
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
        "\nLook around while it runs, in another terminal:\n"
        f"  export {settings}\n"
        f"  {program} export list\n"
        f"  {program} export show {shlex.quote(existing.AUDIENCE)}\n"
        f"  {program} export backfill {shlex.quote(existing.AUDIENCE)} --dry-run\n"
        f"  {program} member cora@example.com\n"
        f"What Sailthru holds: {stage.sailthru}/_sandbox/state\n"
        "Ctrl-C ends it.",
        soft_wrap=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\nEnding.")


def _program() -> str:
    """How this program was called, to be called so again."""
    called = sys.argv[0]
    return shlex.join(PROGRAM) if called.endswith("__main__.py") else shlex.quote(called)
