"""A PostgreSQL server for the bench. Every commit is synced to disk, as with SQLite."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import postgresql
from tests.bench.cores import AROUND, on_core


@contextmanager
def on_disk(core: int | None = AROUND) -> Iterator[str]:
    """Start a server on one core (None for all cores), and return the URL of an empty database."""
    # The folder of the measurement is accessible to its owner only, and the server may run as another user.
    parent = Path(tempfile.gettempdir())
    with ExitStack() as running:
        with on_core(core):
            options = {"fsync": "on", "synchronous_commit": "on"}
            server = running.enter_context(postgresql.server(parent, **options))
        yield server.url


def maintain(url: str) -> None:
    """Update the statistics for query plans. PostgreSQL itself would do so within about a minute."""
    postgresql.apart(postgresql.execute(url, "VACUUM (ANALYZE)"))
