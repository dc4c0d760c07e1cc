"""What a measurement found, and how it is shown."""

import os
import platform
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

Say = Callable[[str], None]
"""
Takes a line that tells how far a measurement is.
"""


@dataclass(frozen=True)
class Measured:
    """One row of the table.

    Args:
        what: was measured; `target` what it should be, in words.
        value: the ratio or number that the target is about, ready to be shown; `details` where it comes from.
        is_met: the target; None where this machine can't tell, and the details say why.
    """

    what: str
    target: str
    value: str
    details: str
    is_met: bool | None

    @property
    def is_missed(self) -> bool:
        """True if this machine could have met the target and did not."""
        return self.is_met is False


def ratio_of_rounds(
    what: str,
    target: str,
    ours: Callable[[int], float],
    base: Callable[[int], float],
    *,
    say: Say,
    rounds: int,
    unit: str,
    holds: Callable[[float], bool | None],
    scale: float = 1,
) -> Measured:
    """The median, over rounds, of `ours` divided by `base`: in each round one follows the other, in an order that is
    drawn, so that a busy machine hits both alike.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for number in numbered(rounds, say):
        sides = [(ours, mine), (base, theirs)]
        random.shuffle(sides)
        for measure, found in sides:
            found.append(measure(number) * scale)
        say(f"  {mine[-1]:,.1f} ÷ {theirs[-1]:,.1f} {unit} = {mine[-1] / theirs[-1]:.2f}")
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    details = f"{spread(mine, unit)} ÷ {spread(theirs, unit)}"
    return Measured(what, target, spread(ratios, digits=2), details, holds(median(ratios)))


def numbered(rounds: int, say: Say) -> Iterator[int]:
    """The number of each round, told as it begins."""
    for number in range(rounds):
        say(f"  round {number + 1} of {rounds} …")
        yield number


def spread(values: Sequence[float], unit: str = "", *, digits: int = 1) -> str:
    """Median, least and most."""
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} {unit} ({least}-{most})".replace("  ", " ")


def show(console: Console, rows: list[Measured]) -> None:
    """The table, and the machine it was measured on."""
    words = {True: "yes", False: "[red]no[/red]", None: "not counted"}
    table = Table("what", "target", "measured", "from", "met")
    for row in rows:
        table.add_row(row.what, row.target, row.value, row.details, words[row.is_met])
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; medians over interleaved rounds, least and most in brackets."
    )
