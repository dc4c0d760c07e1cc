"""Where the database of a test lies: an SQLite file in the test's folder, or one of its own on PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from app.store.database.engine import Database
from app.store.migrate import migrate
from tests import postgresql

_migrated_file: list[bytes] = []


class Place:
    """The databases of one test, by the folders that they belong to."""

    def __init__(self) -> None:
        self._template: tuple[str, str] | None = None
        self._urls: dict[Path, str] = {}
        self._made = ExitStack()

    @property
    def is_postgresql(self) -> bool:
        """Whether `on_postgresql` holds."""
        return self._template is not None

    @contextmanager
    def on_postgresql(self, server_url: str, template: str) -> Iterator[None]:
        """Until the end, databases are made on a server, like a template."""
        self._template = (server_url, template)
        try:
            yield
        finally:
            self._template = None
            self._urls.clear()
            self._made.close()

    def url(self, folder: Path) -> str:
        """Of the folder's database, with the schema of this version, made when it is asked for first."""
        if self._template is None:
            path = folder / "service.db"
            if not path.exists():
                path.write_bytes(_file(path))
            return f"sqlite:///{path}"
        if folder not in self._urls:
            self._urls[folder] = self._made.enter_context(postgresql.database(*self._template))
        return self._urls[folder]

    def forget(self, folder: Path) -> None:
        """The next one of this folder is another."""
        self._urls.pop(folder, None)


PLACE = Place()


def _file(path: Path) -> bytes:
    """An empty database; the steps to it are gone only once in a run, since they take the longest."""
    if not _migrated_file:
        postgresql.apart(make(f"sqlite:///{path}"))
        _migrated_file.append(path.read_bytes())
        path.unlink()
    return _migrated_file[0]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database that is closed in the end."""
    database = Database.open(url)
    try:
        yield database
    finally:
        await database.close()


async def make(url: str) -> None:
    """Bring a database to the schema of this version."""
    async with opened(url) as database:
        await migrate(database, url)
