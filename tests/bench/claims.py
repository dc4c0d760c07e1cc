"""Claims on PostgreSQL compared with SQLite."""

from pathlib import Path

from tests.bench.databases import on_disk
from tests.bench.report import Log, Measured, ratio_of_rounds
from tests.bench.store import CLAIMED, CLAIMERS, stores

ROUNDS, PEOPLE, WARM = 7, 12_000, 1_000
BACKLOG = PEOPLE * ROUNDS + WARM
AT_ONCE = 500


def claimed_and_settled(folder: Path, log: Log) -> Measured:
    """Measure members per second, claimed from a backlog and settled without calls."""
    with on_disk() as url, stores([url, f"sqlite:///{folder}/service.db"]) as (postgresql, sqlite):
        for store, name in ((postgresql, "PostgreSQL"), (sqlite, "SQLite")):
            log(f"  {BACKLOG:,} members become due on {name} …")
            store.keep(BACKLOG, at_once=AT_ONCE)
            store.call(WARM)
            store.maintain()

        return ratio_of_rounds(
            f"members claimed ({CLAIMED} at a time, by {CLAIMERS} in parallel) and settled on PostgreSQL ÷ on SQLite",
            "≥ 1",
            lambda _: postgresql.call(PEOPLE),
            lambda _: sqlite.call(PEOPLE),
            log=log,
            rounds=ROUNDS,
            unit="/s",
            holds=lambda ratio: ratio >= 1,
        )
