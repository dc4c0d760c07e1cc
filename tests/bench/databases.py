"""A PostgreSQL for the bench: as SQLite's files, its data lies on a disk and is synced with every commit."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import postgresql
from tests.bench.cores import AROUND, on_core


@contextmanager
def on_disk(core: int | None = AROUND) -> Iterator[str]:
    """The URL of an empty database on a server of its own, on one of the cores, or on all."""
    # Not in the folder of the measurement, which is its owner's alone.
    parent = Path(tempfile.gettempdir())
    with ExitStack() as running:
        with on_core(core):
            options = {"fsync": "on", "synchronous_commit": "on"}
            server = running.enter_context(postgresql.server(parent, **options))
        yield server.url


def maintain(url: str) -> None:
    """What PostgreSQL does by itself within a minute or so: learn how many rows there are, which plans depend on."""
    postgresql.apart(postgresql.execute(url, "VACUUM (ANALYZE)"))
