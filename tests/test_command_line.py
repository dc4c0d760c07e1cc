"""The commands that need no running service, and the program as a process."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from app import __version__
from app.demo import existing
from app.domain.erasure import Digests
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.schema import metadata
from tests import postgresql
from tests.command_line import API_CALL, CommandLine
from tests.promises.processes import ENV_WITHOUT_COVERAGE, ROOT
from tests.store.filling import fill

NEEDED = {
    "WEBHOOK_TOKENS": "webhook-token-of-mine",
    "ADMIN_TOKENS": "admin-token-of-mine",
    "SAILTHRU_API_KEY": "key",
    "SAILTHRU_API_SECRET": "secret",
}


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(monkeypatch, capsys, tmp_path)


@pytest.fixture
def migrated(migrated_file: Path, tmp_path: Path) -> Path:
    """Return a database file of this version."""
    path = tmp_path / "store.db"
    shutil.copyfile(migrated_file, path)
    return path


def process(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=folder,
        env={**ENV_WITHOUT_COVERAGE, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert not API_CALL.search(result.stdout + result.stderr)
    return result


def test_version(tmp_path: Path) -> None:
    assert process(tmp_path, "--version").stdout.strip() == __version__


def test_start_without_tokens_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """The sentence names the command that makes a token."""
    result = process(tmp_path, "serve", WEBHOOK_TOKENS="", ADMIN_TOKENS="")

    assert result.returncode == 2
    assert result.stderr.startswith("lytics-sailthru: WEBHOOK_TOKENS is not set")
    assert "Traceback" not in result.stderr


def test_start_without_the_erasure_key_of_erased_people_is_refused_in_one_sentence(
    tmp_path: Path, migrated: Path
) -> None:
    """Only the database shows that people were erased, so the error comes after the start of the server."""
    url = f"sqlite:///{migrated}"

    async def erase() -> None:
        database = Database.open(url)
        await Erasures(database, lambda: datetime.now(UTC), Digests("a-key-of-the-tests")).erase(
            "ada@example.com", leave_lists=False
        )
        await database.close()

    asyncio.run(erase())
    result = process(tmp_path, "serve", DATABASE_URL=url, ERASURE_KEY="", **NEEDED)

    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("lytics-sailthru: ERASURE_KEY is not set")


def test_database_of_a_newer_version_is_refused_in_one_sentence(
    command_line: CommandLine, tmp_path: Path, migrated: Path
) -> None:
    """Both `serve` and `migrate` refuse it."""
    with closing(sqlite3.connect(migrated)) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
        connection.execute("update versions set version = 9999 where name = 'schema'")
    settings = {"DATABASE_URL": f"sqlite:///{migrated}", **NEEDED}
    served = process(tmp_path, "serve", **settings)
    not_migrated = command_line.run("migrate", settings=settings)

    for code, error in ((served.returncode, served.stderr), (not_migrated.code, not_migrated.err)):
        assert code == 2
        assert error.splitlines()[-1].startswith("lytics-sailthru: The database was used by a newer version")


def test_migrate_migrates_once_and_refuses_a_file_in_use(command_line: CommandLine, tmp_path: Path) -> None:
    """Without DATABASE_URL the file is in `data/` of the current folder."""
    first, second = command_line.run("migrate"), command_line.run("migrate")
    held = Database.open(f"sqlite:///{tmp_path / 'data' / 'lytics-sailthru.db'}")
    refused = process(tmp_path, "migrate")
    asyncio.run(held.close())

    assert (first.out, second.out) == (
        "Applied: 0001, 0002, 0003, 0004, 0005, 0006, 0007, 0008.\n",
        "The database is up to date.\n",
    )
    assert refused.returncode == 2
    assert "Another process uses" in refused.stderr


@pytest.mark.timeout(60)
def test_copy_moves_a_file_to_postgresql_and_names_the_next_step(
    command_line: CommandLine, migrated: Path, postgresql_url: str
) -> None:
    """A second run is refused. The password is never shown."""
    fill(migrated)
    with postgresql.database(postgresql_url) as given:
        url = make_url(given).set(password="sesame").render_as_string(hide_password=False)
        words = ("copy", "--from", f"sqlite:///{migrated}", "--to", url)
        done, again = command_line.run(*words), command_line.run(*words)
    rows = 3 * len(metadata.sorted_tables)

    assert done.code == 0, done.err
    assert re.search(r"^ memberships +3 *$", done.out, re.MULTILINE)
    assert re.search(rf"^Rows copied, and verified by count: {rows}\. Seconds: [0-9.]+\.$", done.out, re.MULTILINE)
    assert done.out.splitlines()[-1] == (
        f"Now set DATABASE_URL to the PostgreSQL database, keep {migrated} as a backup, and start the service."
    )
    assert (again.code, again.out) == (2, "")
    assert "is in use already" in again.err
    assert "sesame" not in done.out + done.err + again.out + again.err


def test_copy_that_is_not_possible_ends_with_one_sentence(command_line: CommandLine, migrated: Path) -> None:
    """The exit code is 2 for wrong arguments and 1 for an unusable database. The password is never shown."""
    file = f"sqlite:///{migrated}"
    wrong = command_line.run("copy", "--from", "postgresql://me:sesame@host/a", "--to", file)
    away = command_line.run("copy", "--from", file, "--to", "postgresql://me:sesame@127.0.0.1:1/store")

    assert (wrong.code, away.code) == (2, 1)
    assert wrong.err.startswith("lytics-sailthru: Copy from an SQLite file to PostgreSQL")
    assert away.err.startswith("lytics-sailthru: Nothing listens at 127.0.0.1:1.")
    assert [ended.err.count("\n") for ended in (wrong, away)] == [1, 1]
    assert "sesame" not in wrong.err + away.err


def test_unusable_database_ends_a_command_with_one_sentence(command_line: CommandLine) -> None:
    result = command_line.run("migrate", settings={"DATABASE_URL": "postgresql://me:sesame@127.0.0.1:1/store"})

    assert result.code == 1
    assert result.err.startswith("lytics-sailthru: The database could not be used")
    assert result.err.count("\n") == 1


def test_demo_ends_with_correct_lists(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox, the service and the commands run as processes. The backfilled audience is smaller here."""
    monkeypatch.setattr(existing, "PEOPLE", 200)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = command_line.run("demo", "--once")

    assert result.code == 0, result.out
    assert "Right: 11 people are on the list: exactly those in the audience. Each joined once." in result.out
    assert "Right: 200 people are on the list: exactly those in the audience. Each joined once." in result.out


def test_sandbox_names_the_ports_that_it_cannot_use(tmp_path: Path) -> None:
    result = process(tmp_path, "sandbox", "--host", "203.0.113.1")

    assert result.returncode == 1
    assert "choose another host or other ports" in result.stderr
