"""A PostgreSQL server for the bench. Like SQLite's files, its data is on disk and synced with every commit."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import postgresql
from tests.bench.cores import AROUND, on_core


@contextmanager
def on_disk(core: int | None = AROUND) -> Iterator[str]:
    """Start a server on one core, or on all for None, and return the URL of an empty database."""
    # The folder of the measurement is accessible to its owner only, and the server may run as another user.
    parent = Path(tempfile.gettempdir())
    with ExitStack() as running:
        with on_core(core):
            options = {"fsync": "on", "synchronous_commit": "on"}
            server = running.enter_context(postgresql.server(parent, **options))
        yield server.url


def maintain(url: str) -> None:
    """Update the statistics that query plans depend on; PostgreSQL itself would do so within about a minute."""
    postgresql.apart(postgresql.execute(url, "VACUUM (ANALYZE)"))
