"""How commands speak to people: lines, tables, questions, and a sign of life while they wait; on a terminal or in a
pipe.
"""

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

# In a pipe lines are for grep, not for a screen of 80 columns.
WIDE = 200
SPINNER_AFTER_SECONDS = 1.0
LINE_EVERY_SECONDS = 30.0
BAR_WIDTH = 24
NOTHING = "-"
NOT_PRINTABLE = "\N{REPLACEMENT CHARACTER}"


def plain(value: object) -> str:
    """A value as text; a dash for None. What could steer a terminal is replaced: names come from elsewhere."""
    text = NOTHING if value is None else str(value)
    return "".join(each if each.isprintable() else NOT_PRINTABLE for each in text)


def say(text: str = "", *, style: str | None = None) -> None:
    """One line on standard output."""
    _console().print(plain(text), style=style, soft_wrap=True)


def complain(text: str) -> None:
    """One line on standard error."""
    _console(on_error=True).print(plain(text), soft_wrap=True)


def show_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; nothing in it is cut off."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    _console().print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """What is known of one thing, a line for each fact, on standard output."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, plain(value))
    _console().print(table)


def moment(text: str | None) -> str:
    """A time as the service writes it (RFC 3339), to the second and in UTC; a dash for None."""
    if text is None:
        return NOTHING
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def ask(question: str) -> bool:
    """Whether the answer is yes; anything else is no, also the end of the input."""
    # Not typer.confirm: it leaves a blank on standard output.
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Shows that something is under way, once it takes longer than a second, where standard error is a terminal."""
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
    """How far something has come, on standard error: on a terminal a bar that moves, elsewhere a line each half minute.

    Args:
        is_quiet: no lines where there is no terminal.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._console = _console(on_error=True)
        self._is_quiet = is_quiet
        self._live = _LiveBar(self._console)
        self._line_at = time.monotonic() + LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        """The bar, to be seen from its first `show` on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leaves the bar as it is."""
        self._live.leave()

    def show(self, done: int, total: int | None, facts: Sequence[str], *, below: str | None = None) -> None:
        """How it stands now.

        Args:
            total: None where it is not known; then the bar only shows that there is life.
            facts: what is to be read beside the bar, and all that is to be read where there is none.
            below: what needs a line of its own.
        """
        if self._console.is_terminal:
            self._live.move(done, total, ", ".join(map(plain, facts)), plain(below) if below else "")
        elif not self._is_quiet and time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_SECONDS
            complain(f"{', '.join(facts)}.{f' {below}' if below else ''}")

    def say(self, text: str) -> None:
        """One line above the bar."""
        if self._console.is_terminal or not self._is_quiet:
            self._console.print(plain(text), soft_wrap=True)


class _LiveBar(Progress):
    """The bar, what is read beside it, and a line below where there is something to say."""

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
        # Else it would leave an empty line in a pipe.
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
