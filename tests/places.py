"""The databases of tests: an SQLite file in the test's folder, or a new database on PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from app.store.database.engine import Database
from app.store.migrate import migrate
from tests import postgresql

_migrated_file: list[bytes] = []


class Place:
    """The databases of one test, by folder."""

    def __init__(self) -> None:
        self._template: tuple[str, str] | None = None
        self._urls: dict[Path, str] = {}
        self._made = ExitStack()

    @property
    def is_postgresql(self) -> bool:
        """True inside `on_postgresql`."""
        return self._template is not None

    @contextmanager
    def on_postgresql(self, server_url: str, template: str) -> Iterator[None]:
        """Create databases on a server from a template until the end of the block."""
        self._template = (server_url, template)
        try:
            yield
        finally:
            self._template = None
            self._urls.clear()
            self._made.close()

    def url(self, folder: Path) -> str:
        """Return the URL of the folder's database, which is created at the first call with the current schema."""
        if self._template is None:
            path = folder / "service.db"
            if not path.exists():
                path.write_bytes(_file(path))
            return f"sqlite:///{path}"
        if folder not in self._urls:
            self._urls[folder] = self._made.enter_context(postgresql.database(*self._template))
        return self._urls[folder]

    def forget(self, folder: Path) -> None:
        """Let the next call of `url` create a new database."""
        self._urls.pop(folder, None)


PLACE = Place()


def _file(path: Path) -> bytes:
    """Return an empty database. The migrations run only once in a test run, since they are slow."""
    if not _migrated_file:
        postgresql.apart(make(f"sqlite:///{path}"))
        _migrated_file.append(path.read_bytes())
        path.unlink()
    return _migrated_file[0]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open a database, and close it at the end."""
    database = Database.open(url)
    try:
        yield database
    finally:
        await database.close()


async def make(url: str) -> None:
    """Migrate a database to the current schema."""
    async with opened(url) as database:
        await migrate(database, url)
