"""
What a measurement found, and how it is shown.
"""

import os
import platform
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measured:
    """
    One row of the table.

    Args:
        what: was measured; `target` what it should be, in words.
        value: the ratio or number that the target is about, ready to be shown; `details` where it comes from.
        is_met: the target.
    """

    what: str
    target: str
    value: str
    details: str
    is_met: bool


def ratio_of_rounds(
    what: str,
    target: str,
    ours: Callable[[int], float],
    base: Callable[[int], float],
    *,
    rounds: int,
    unit: str,
    holds: Callable[[float], bool],
    scale: float = 1,
) -> Measured:
    """
    The median of `ours` divided by that of `base`, measured in turns so that a busy machine hits both alike.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        sides = [(ours, mine), (base, theirs)]
        random.shuffle(sides)
        for measure, found in sides:
            found.append(measure(number) * scale)
    ratio = median(mine) / median(theirs)
    return Measured(what, target, f"{ratio:.2f}", f"{spread(mine, unit)} ÷ {spread(theirs, unit)}", holds(ratio))


def spread(values: list[float], unit: str) -> str:
    """
    Median, least and most.
    """
    return f"{median(values):,.1f} {unit} ({min(values):,.1f}-{max(values):,.1f})"


def show(console: Console, rows: list[Measured]) -> None:
    """
    The table, and the machine it was measured on.
    """
    table = Table("what", "target", "measured", "from", "met")
    for row in rows:
        table.add_row(row.what, row.target, row.value, row.details, "yes" if row.is_met else "[red]no[/red]")
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; medians over interleaved rounds, least and most in brackets."
    )
