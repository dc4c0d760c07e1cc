"""The cost of settled members: claims and webhooks beside five million of them, and beside none."""

import os
import random
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests import postgresql
from tests.bench.databases import on_disk
from tests.bench.filling import bytes_of, fill
from tests.bench.report import Log, Measured, numbered, spread
from tests.bench.store import Store, stores

MANY = int(os.environ.get("BENCH_SETTLED", "5_000_000"))
ROUNDS, PEOPLE, WARM = 7, 4_000, 2_000
WORK = {"stored": Store.keep, "claimed and settled": Store.call}


def beside_settled_members(folder: Path, log: Log) -> Measured:
    """Measure stored changes, and claimed and settled members. The smallest of the four ratios decides."""
    ratios: dict[str, list[float]] = defaultdict(list)
    details = []
    with ExitStack() as open_:
        url = open_.enter_context(on_disk())
        other = open_.enter_context(postgresql.database(url))
        urls = [f"sqlite:///{folder}/full.db", f"sqlite:///{folder}/empty.db", url, other]
        full_file, empty_file, full_server, empty_server = open_.enter_context(stores(urls))
        pairs = {"SQLite": (full_file, empty_file), "PostgreSQL": (full_server, empty_server)}
        for kind, (full, empty) in pairs.items():
            log(f"  creating {MANY:,} settled members on {kind}, which takes minutes …")
            fill(full, MANY, log)
            per_member = (bytes_of(full) - bytes_of(empty)) / MANY
            details.append(f"{per_member:,.0f} bytes each on {kind}")
            log(f"  {details[-1]}")
            for store in (full, empty):
                store.keep(WARM)
                store.call(WARM)
                store.maintain()
        for _ in numbered(ROUNDS, log):
            for kind, pair in pairs.items():
                for name, measure in WORK.items():
                    found = {store: measure(store, PEOPLE) for store in random.sample(pair, 2)}
                    beside, alone = (found[store] for store in pair)
                    ratios[f"{name} on {kind}"].append(beside / alone)
                    log(f"  {name} on {kind}: {beside:,.0f} ÷ {alone:,.0f} /s = {beside / alone:.2f}")
    return Measured(
        f"changes stored, and members claimed and settled, a second, beside {MANY:,} settled members ÷ beside none",
        "≥ 0.9 each",
        "; ".join(f"{name} {spread(found, digits=2)}" for name, found in ratios.items()),
        "; ".join(details),
        min(median(found) for found in ratios.values()) >= 0.9,
    )
