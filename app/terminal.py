"""
How commands speak to people: lines, tables, questions, and a sign of life while they wait; on a terminal or in a pipe.
"""

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table

# In a pipe lines are for grep, not for a screen of 80 columns.
WIDE = 200
SPINNER_AFTER_SECONDS = 1.0
NOTHING = "-"
NOT_PRINTABLE = "\N{REPLACEMENT CHARACTER}"


def plain(value: object) -> str:
    """
    A value as text; a dash for None. What could steer a terminal is replaced: names come from elsewhere.
    """
    text = NOTHING if value is None else str(value)
    return "".join(each if each.isprintable() else NOT_PRINTABLE for each in text)


def say(text: str = "", *, style: str | None = None) -> None:
    """
    One line on standard output.
    """
    _console().print(plain(text), style=style, soft_wrap=True)


def complain(text: str) -> None:
    """
    One line on standard error.
    """
    _console(on_error=True).print(plain(text), soft_wrap=True)


def show_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """
    A table on standard output; nothing in it is cut off.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    _console().print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """
    What is known of one thing, a line for each fact, on standard output.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, plain(value))
    _console().print(table)


def moment(text: str | None) -> str:
    """
    A time as the service writes it (RFC 3339), to the second and in UTC; a dash for None.
    """
    if text is None:
        return NOTHING
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def can_ask() -> bool:
    """
    Whether somebody is there to answer.
    """
    return sys.stdin.isatty()


def ask(question: str) -> bool:
    """
    Whether the answer is yes; anything else is no, also the end of the input.
    """
    # Not typer.confirm: it leaves a blank on standard output.
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """
    Shows that something is under way, once it takes longer than a second, where standard error is a terminal.
    """
    console = _console(on_error=True)
    if not console.is_terminal:
        yield
        return
    status = console.status(plain(text))
    timer = threading.Timer(SPINNER_AFTER_SECONDS, status.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def _console(*, on_error: bool = False) -> Console:
    console = Console(stderr=on_error, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console
