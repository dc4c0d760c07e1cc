"""The queue on PostgreSQL beside the one on SQLite."""

from pathlib import Path

from tests.bench.databases import on_disk
from tests.bench.report import Measured, Say, ratio_of_rounds
from tests.bench.store import CLAIMED, CLAIMERS, stores

ROUNDS, PEOPLE, WARM = 7, 12_000, 1_000
BACKLOG = PEOPLE * ROUNDS + WARM
AT_ONCE = 500


def claimed_and_settled(folder: Path, say: Say) -> Measured:
    """Members a second from a backlog: claimed by hundreds, side by side, and settled in group commits, without any
    call between.
    """
    with on_disk() as url, stores([url, f"sqlite:///{folder}/service.db"]) as (postgresql, sqlite):
        for store, name in ((postgresql, "PostgreSQL"), (sqlite, "SQLite")):
            say(f"  {BACKLOG:,} members become due on {name} …")
            store.keep(BACKLOG, at_once=AT_ONCE)
            store.call(WARM)
            store.maintain()

        return ratio_of_rounds(
            f"members claimed ({CLAIMED} at a time, by {CLAIMERS} side by side) and settled on PostgreSQL ÷ on SQLite",
            "≥ 1",
            lambda _: postgresql.call(PEOPLE),
            lambda _: sqlite.call(PEOPLE),
            say=say,
            rounds=ROUNDS,
            unit="/s",
            holds=lambda ratio: ratio >= 1,
        )
