"""Inspection of an SQLite file changes nothing and reports its problems."""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection

from app.domain.erasure import Digests
from app.domain.errors import BadSettings
from app.store import migrate as module
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.migrate import steps_after
from app.store.moving.inspection import Inspection, UnusableStore, inspect

NOBODY = 65534
NEWEST = steps_after(None)[-1]


@pytest.fixture
def kind() -> str:
    return "sqlite"


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return the content, modification time and mode of every file and folder."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        about = path.stat()
        content = b"" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(folder))] = (content, about.st_mtime_ns, about.st_mode)
    return found


def killed_service(path: Path) -> None:
    """Create a database and kill its process right after a commit."""
    work = (
        "import os, signal, sqlite3, sys\n"
        "held = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "held.execute('pragma journal_mode=WAL')\n"
        "held.execute(\"insert into unexported values ('a', 's', 1, 0)\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", work, str(path)], check=False).returncode == -signal.SIGKILL


def at_step(path: Path, revision: str) -> None:
    """Create a database of an older version."""
    database = Database.open(url_of(path))
    config = module._config()

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    asyncio.run(written(database, upgrade))


async def written(database: Database, work: Callable[[Connection], None]) -> None:
    await database.write(work)
    await database.close()


@pytest.fixture
def path(tmp_path: Path, migrated_file: Path) -> Path:
    """A database of this version, closed."""
    path = tmp_path / "store.db"
    shutil.copyfile(migrated_file, path)
    return path


@pytest.fixture
def shared() -> Iterator[Path]:
    """Create a folder that all users may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def another_user() -> Iterator[None]:
    """Run as another user if the tests run as root, since root ignores file modes."""
    former = os.geteuid()
    if former == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(former)


@contextmanager
def no_room() -> Iterator[None]:
    """Prevent files from growing, like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestChangesNothing:
    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        """The first start creates both."""
        before = snapshot(tmp_path)
        found = inspect(url_of(tmp_path / "data" / "deep" / "store.db"), None)

        assert (found.has_folder, found.is_in_use, found.revision) == (False, False, None)
        assert snapshot(tmp_path) == before

    def test_database_of_this_version(self, path: Path, tmp_path: Path) -> None:
        before = snapshot(tmp_path)
        found = inspect(url_of(path), None)

        assert found == Inspection(path, True, False, NEWEST, (), 0)
        assert snapshot(tmp_path) == before

    def test_database_of_an_older_version(self, tmp_path: Path) -> None:
        """The database is not migrated. The result names the missing migrations."""
        path = tmp_path / "store.db"
        at_step(path, "0001")
        before = snapshot(tmp_path)
        found = inspect(url_of(path), None)

        assert found.revision == "0001"
        assert found.missing == tuple(steps_after("0001"))
        assert found.missing[0] == "0002"
        assert snapshot(tmp_path) == before

    async def test_running_service(self, path: Path, tmp_path: Path) -> None:
        """The service can write meanwhile and keeps its lock."""
        database = Database.open(url_of(path))
        await database.write(
            lambda connection: connection.exec_driver_sql("insert into unexported values (1, 2, 3, 4)")
        )
        before = snapshot(tmp_path)
        found = inspect(url_of(path), None)
        after = snapshot(tmp_path)
        await database.write(lambda connection: connection.exec_driver_sql("delete from unexported"))
        await database.close()

        assert (found.is_in_use, found.revision, found.missing) == (True, NEWEST, ())
        # Readers change the -shm file, which is shared memory.
        assert {name: seen for name, seen in before.items() if not name.endswith("-shm")} == {
            name: seen for name, seen in after.items() if not name.endswith("-shm")
        }

    def test_database_of_a_compatible_newer_version(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("update alembic_version set version_num = '9999'")
        found = inspect(url_of(path), None)

        assert (found.revision, found.missing) == ("9999", ())

    def test_killed_service(self, path: Path, tmp_path: Path) -> None:
        """The last commits of the service stay in the write-ahead log."""
        killed_service(path)
        before = snapshot(tmp_path)
        found = inspect(url_of(path), None)
        after = snapshot(tmp_path)

        assert (found.is_in_use, found.revision) == (False, NEWEST)
        assert set(after) == set(before) == {".", "store.db", "store.db-wal", "store.db-shm"}
        assert all(after[name] == before[name] for name in (".", "store.db", "store.db-wal"))


class TestProblems:
    def assert_unusable(self, path: Path, *words: str) -> None:
        with pytest.raises(UnusableStore) as caught:
            inspect(url_of(path), None)

        assert str(caught.value) == f"{caught.value.happened} {caught.value.next_step}"
        assert "DATABASE_URL" in caught.value.next_step
        for word in words:
            assert word in caught.value.happened

    def test_folder_that_cannot_be_created(self) -> None:
        self.assert_unusable(Path("/proc/nowhere/store.db"), "/proc can't be written")

    def test_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "data").touch()

        self.assert_unusable(tmp_path / "data" / "store.db", f"{tmp_path}/data can't be written", "Not a directory")

    def test_folder_of_another_user(self, shared: Path) -> None:
        shared.chmod(0o555)
        with another_user():
            self.assert_unusable(shared / "store.db", f"{shared} can't be written", "Permission denied")
        shared.chmod(0o755)

    def test_folder_without_access(self, shared: Path) -> None:
        (shared / "data").mkdir(mode=0o700)
        (shared / "data").chmod(0o000)
        with another_user():
            self.assert_unusable(shared / "data" / "store.db", f"{shared}/data can't be written", "Permission denied")
        (shared / "data").chmod(0o700)

    def test_folder_below_one_without_access(self, shared: Path) -> None:
        (shared / "data").mkdir()
        (shared / "data").chmod(0o000)
        with another_user():
            self.assert_unusable(shared / "data" / "deep" / "store.db", f"{shared}/data/deep can't be written")
        (shared / "data").chmod(0o700)

    @pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm", "store.db.lock"])
    def test_file_of_another_user(self, shared: Path, name: str) -> None:
        """The file may also be beside the database, left by a command that ran as root."""
        shared.chmod(0o777)
        (shared / name).touch(mode=0o400)
        with another_user():
            self.assert_unusable(shared / "store.db", f"{shared}/{name} can't be written", "Permission denied")

    def test_file_that_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "store.db").mkdir()

        self.assert_unusable(tmp_path / "store.db", "store.db can't be written", "Is a directory")

    def test_full_disk(self, path: Path, tmp_path: Path) -> None:
        before = snapshot(tmp_path)
        with no_room():
            self.assert_unusable(path, f"no space left at {tmp_path}")

        assert snapshot(tmp_path) == before

    def test_database_of_an_incompatible_newer_version(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("update alembic_version set version_num = '9999'")
            connection.execute("update versions set version = 9999 where name = 'schema'")

        self.assert_unusable(path, "store.db was used by a newer version")

    def test_database_of_another_program(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("create table orders (id integer)")

        self.assert_unusable(path, "shop.db holds the tables of another program")

    def test_file_that_is_not_a_database(self, tmp_path: Path) -> None:
        (tmp_path / "store.db").write_bytes(b"not a database, for sure" * 100)

        self.assert_unusable(tmp_path / "store.db", "store.db can't be read as a database", "file is not a database")

    @pytest.mark.parametrize("url", ["sqlite://", "mysql://me:sesame@host/db", "sesame"])
    def test_url_without_a_file(self, url: str) -> None:
        with pytest.raises(BadSettings, match="DATABASE_URL") as caught:
            inspect(url, None)

        assert "sesame" not in str(caught.value)


async def test_erasures_with_another_key_are_counted(database: Database, tmp_path: Path) -> None:
    """The inspection has the right key, another key, or none."""
    right, other = Digests("the-key-of-the-tests"), Digests("another-key-of-tests")
    await Erasures(database, lambda: datetime.now(UTC), right).erase("ada@example.com", leave_lists=False)

    found = [inspect(url_of(tmp_path / "store.db"), digests).ineffective_erasures for digests in (right, other, None)]
    assert found == [0, 1, 1]
