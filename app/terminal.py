"""Prints the output of commands: lines, tables, questions, progress. In a pipe it is plain text."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

# The width of tables in a pipe, so that programs such as grep find whole lines.
WIDE = 200
SPINNER_AFTER_SECONDS = 1.0
LINE_EVERY_SECONDS = 30.0
BAR_WIDTH = 24
NOTHING = "-"
NOT_PRINTABLE = "\N{REPLACEMENT CHARACTER}"


def plain(value: object) -> str:
    """Return a value as text, or a dash for None. Control characters are replaced, because others choose the names."""
    text = NOTHING if value is None else str(value)
    return "".join(character if character.isprintable() else NOT_PRINTABLE for character in text)


def say(text: str = "", *, style: str | None = None) -> None:
    """Print one line to standard output."""
    _console().print(plain(text), style=style, soft_wrap=True)


def complain(text: str) -> None:
    """Print one line to standard error."""
    _console(on_error=True).print(plain(text), soft_wrap=True)


def show_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. Long cells are wrapped, never cut off."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    _console().print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair per line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, plain(value))
    _console().print(table)


def moment(text: str | None) -> str:
    """Return an RFC 3339 time in UTC, without fractions of a second, or a dash for None."""
    if text is None:
        return NOTHING
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def can_ask() -> bool:
    return sys.stdin.isatty()


def ask(question: str) -> bool:
    """Ask a question and return whether the answer is yes. End of input counts as no."""
    # typer.confirm would print a space to standard output.
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show a spinner after one second, if standard error is a terminal."""
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


class Bar:
    """Shows progress on standard error: a bar on a terminal, otherwise a line every 30 seconds.

    Args:
        is_quiet: print no lines if standard error is not a terminal.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._console = _console(on_error=True)
        self._is_quiet = is_quiet
        self._live = _LiveBar(self._console)
        self._line_at = time.monotonic() + LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.leave()

    def show(self, done: int, total: int | None, facts: Sequence[str], *, below: str | None = None) -> None:
        """Show the current progress.

        Args:
            total: None if it is unknown.
            facts: texts beside the bar, or the line instead of it.
            below: a text on its own line below the bar.
        """
        if self._console.is_terminal:
            self._live.move(done, total, ", ".join(map(plain, facts)), plain(below) if below else "")
        elif not self._is_quiet and time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_SECONDS
            complain(f"{', '.join(facts)}.{f' {below}' if below else ''}")

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        if self._console.is_terminal or not self._is_quiet:
            self._console.print(plain(text), soft_wrap=True)


class _LiveBar(Progress):
    """A bar with text beside it, and optionally a line below."""

    below = ""

    def __init__(self, console: Console) -> None:
        facts = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
        super().__init__(BarColumn(BAR_WIDTH), facts, console=console)
        self._task = self.add_task("", total=None)

    def move(self, done: int, total: int | None, facts: str, below: str) -> None:
        self.below = below
        self.update(self._task, completed=done, total=total, description=facts)
        self.start()

    def leave(self) -> None:
        # In a pipe, `stop` prints an empty line for a bar that never started.
        if self.live.is_started:
            self.stop()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield Text(self.below)


def _console(*, on_error: bool = False) -> Console:
    console = Console(stderr=on_error, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console
