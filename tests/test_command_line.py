"""The commands, as real processes."""

import asyncio
import os
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
from app.domain.erasure import Digests
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.migrate import migrate
from app.store.schema import metadata
from tests import postgresql
from tests.store.filling import fill


def run(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_it_tells_its_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.strip() == __version__


def test_without_tokens_the_start_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """It says how to make one."""
    result = run(tmp_path, "serve", WEBHOOK_TOKENS="", ADMIN_TOKENS="")

    assert result.returncode == 2
    assert result.stderr.startswith("lytics-sailthru: WEBHOOK_TOKENS is not set")
    assert "Traceback" not in result.stderr


def test_without_the_key_that_people_were_erased_with_the_start_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """Only the database tells that somebody was."""
    url = f"sqlite:///{tmp_path / 'store.db'}"

    async def erase() -> None:
        database = Database.open(url)
        await migrate(database, url)
        await Erasures(database, lambda: datetime.now(UTC), Digests("a-key-of-the-tests")).erase(
            "ada@example.com", leave_lists=False
        )
        await database.close()

    asyncio.run(erase())
    needed = {"WEBHOOK_TOKENS": "webhook-token-of-mine", "ADMIN_TOKENS": "admin-token-of-mine"}
    account = {"SAILTHRU_API_KEY": "key", "SAILTHRU_API_SECRET": "secret"}
    result = run(tmp_path, "serve", DATABASE_URL=url, ERASURE_KEY="", **needed, **account)

    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("lytics-sailthru: ERASURE_KEY is not set")


def test_with_the_database_of_a_newer_version_the_start_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """So is `migrate`; the database stays as it is."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    run(tmp_path, "migrate", DATABASE_URL=url)
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
        connection.execute("update versions set version = 9999 where name = 'schema'")
    needed = {"WEBHOOK_TOKENS": "webhook-token-of-mine", "ADMIN_TOKENS": "admin-token-of-mine"}
    account = {"SAILTHRU_API_KEY": "key", "SAILTHRU_API_SECRET": "secret"}

    for words in (["serve"], ["migrate"]):
        result = run(tmp_path, *words, DATABASE_URL=url, **needed, **account)
        assert result.returncode == 2
        assert result.stderr.splitlines()[-1].startswith("lytics-sailthru: The database was used by a newer version")


@pytest.mark.timeout(60)
def test_migrate_brings_a_database_up_to_date_once(tmp_path: Path) -> None:
    """In `data/` where it runs; a second run does nothing; a file in use is refused."""
    first, second = run(tmp_path, "migrate"), run(tmp_path, "migrate")
    held = Database.open(f"sqlite:///{tmp_path / 'data' / 'lytics-sailthru.db'}")
    refused = run(tmp_path, "migrate")
    asyncio.run(held.close())

    assert (first.stdout, second.stdout) == (
        "Applied: 0001, 0002, 0003, 0004, 0005, 0006, 0007, 0008.\n",
        "The database is up to date.\n",
    )
    assert refused.returncode == 2
    assert "Another process uses" in refused.stderr


@pytest.mark.timeout(60)
def test_copy_moves_a_file_to_postgresql_and_says_what_to_do_next(
    tmp_path: Path, migrated_file: Path, postgresql_url: str
) -> None:
    """Exit code 0: a line for each table, the sum, and the next step. Once more it is refused. The password is not
    shown.
    """
    path = tmp_path / "store.db"
    shutil.copyfile(migrated_file, path)
    fill(path)
    with postgresql.database(postgresql_url) as given:
        url = make_url(given).set(password="sesame").render_as_string(hide_password=False)
        words = ("copy", "--from", f"sqlite:///{path}", "--to", url)
        done, again = run(tmp_path, *words), run(tmp_path, *words)
    rows = 3 * len(metadata.sorted_tables)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^ memberships +3 *$", done.stdout, re.MULTILINE)
    assert re.search(rf"^Copied and counted in both: {rows} rows, in [0-9.]+ seconds\.$", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1] == (
        f"Now set DATABASE_URL to that PostgreSQL database, keep {path} as a backup, and start the service."
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert "is in use already" in again.stderr
    assert "sesame" not in done.stdout + done.stderr + again.stdout + again.stderr


def test_a_copy_that_can_not_be_made_ends_with_one_sentence(tmp_path: Path, migrated_file: Path) -> None:
    """2 where the words are wrong, 1 where a database can't be used; the password is not shown."""
    path = tmp_path / "store.db"
    shutil.copyfile(migrated_file, path)
    wrong = run(tmp_path, "copy", "--from", "postgresql://me:sesame@host/a", "--to", f"sqlite:///{path}")
    away = run(tmp_path, "copy", "--from", f"sqlite:///{path}", "--to", "postgresql://me:sesame@127.0.0.1:1/store")

    assert (wrong.returncode, away.returncode) == (2, 1)
    assert wrong.stderr.startswith("lytics-sailthru: Copy from an SQLite file to PostgreSQL")
    assert away.stderr.startswith("lytics-sailthru: Nothing listens at 127.0.0.1:1.")
    assert [each.stderr.count("\n") for each in (wrong, away)] == [1, 1]
    assert "sesame" not in wrong.stderr + away.stderr


def test_a_database_that_can_not_be_used_ends_a_command_with_one_sentence(tmp_path: Path) -> None:
    result = run(tmp_path, "migrate", DATABASE_URL="postgresql://me:sesame@127.0.0.1:1/store")

    assert result.returncode == 1
    assert result.stderr.startswith("lytics-sailthru: The database could not be used")
    assert result.stderr.count("\n") == 1


def test_the_demo_ends_with_the_right_lists(tmp_path: Path) -> None:
    """The whole way with real processes; 0 means that both are right: of those who entered, and of those brought
    over.
    """
    result = run(tmp_path, "demo", "--once")

    assert result.returncode == 0, result.stdout
    assert "11 people are on it, just those in the audience, each joined once" in result.stdout
    assert re.search(r"\n queued +2000 *\n", result.stdout)
    assert "2,000 people are on it, just those in the audience, each joined once" in result.stdout


def test_a_sandbox_that_can_not_listen_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, "sandbox", "--host", "203.0.113.1")

    assert result.returncode == 1
    assert "choose other ports" in result.stderr
