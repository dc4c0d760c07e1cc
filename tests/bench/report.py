"""Results of measurements, and the table of all results."""

import os
import platform
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

# Shows one line about the progress of a measurement.
Log = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """One row of the table.

    Args:
        name: the measured quantity, in words.
        target: its target, in words.
        value: the measured ratio or number, as text.
        details: the numbers behind the value.
        is_met: whether the target is met; None if this machine cannot decide it.
    """

    name: str
    target: str
    value: str
    details: str
    is_met: bool | None

    @property
    def is_missed(self) -> bool:
        """Whether the target is missed. It is never missed on a machine that cannot decide it."""
        return self.is_met is False


def ratio_of_rounds(
    name: str,
    target: str,
    ours: Callable[[int], float],
    base: Callable[[int], float],
    *,
    log: Log,
    rounds: int,
    unit: str,
    holds: Callable[[float], bool | None],
    scale: float = 1,
) -> Measured:
    """Return the median over all rounds of `ours` divided by `base`.

    Each round measures both in random order, so that a busy machine slows both alike.
    """
    our_values: list[float] = []
    base_values: list[float] = []
    for number in numbered(rounds, log):
        sides = [(ours, our_values), (base, base_values)]
        random.shuffle(sides)
        for measure, values in sides:
            values.append(measure(number) * scale)
        log(f"  {our_values[-1]:,.1f} ÷ {base_values[-1]:,.1f} {unit} = {our_values[-1] / base_values[-1]:.2f}")
    ratios = [our / base for our, base in zip(our_values, base_values, strict=True)]
    details = f"{spread(our_values, unit)} ÷ {spread(base_values, unit)}"
    return Measured(name, target, spread(ratios, digits=2), details, holds(median(ratios)))


def numbered(rounds: int, log: Log) -> Iterator[int]:
    """Yield the number of each round, and log its start."""
    for number in range(rounds):
        log(f"  round {number + 1} of {rounds} …")
        yield number


def spread(values: Sequence[float], unit: str = "", *, digits: int = 1) -> str:
    """Return the median, the smallest and the largest value as text."""
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} {unit} ({least}-{most})".replace("  ", " ")


def show(console: Console, rows: list[Measured]) -> None:
    """Print the table, and a line about the machine."""
    words = {True: "yes", False: "[red]no[/red]", None: "not counted"}
    table = Table("name", "target", "measured", "from", "met")
    for row in rows:
        table.add_row(row.name, row.target, row.value, row.details, words[row.is_met])
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; medians of interleaved rounds, smallest and largest values in brackets."
    )
