"""
The commands, as real processes.
"""

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import __version__
from app.domain.erasure import Digests
from app.store.engine import Database
from app.store.erasures import Erasures
from app.store.migrate import migrate


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
    """
    It says how to make one.
    """
    result = run(tmp_path, "serve", WEBHOOK_TOKENS="", ADMIN_TOKENS="")

    assert result.returncode == 2
    assert result.stderr.startswith("lytics-sailthru: WEBHOOK_TOKENS is not set")
    assert "Traceback" not in result.stderr


def test_without_the_key_that_people_were_erased_with_the_start_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """
    Only the database tells that somebody was.
    """
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
    """
    So is `migrate`; the database stays as it is.
    """
    url = f"sqlite:///{tmp_path / 'store.db'}"
    run(tmp_path, "migrate", DATABASE_URL=url)
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
    needed = {"WEBHOOK_TOKENS": "webhook-token-of-mine", "ADMIN_TOKENS": "admin-token-of-mine"}
    account = {"SAILTHRU_API_KEY": "key", "SAILTHRU_API_SECRET": "secret"}

    for words in (["serve"], ["migrate"]):
        result = run(tmp_path, *words, DATABASE_URL=url, **needed, **account)
        assert result.returncode == 2
        assert result.stderr.splitlines()[-1].startswith("lytics-sailthru: The database was used by a newer version")


@pytest.mark.timeout(60)
def test_migrate_brings_a_database_up_to_date_once(tmp_path: Path) -> None:
    """
    In `data/` where it runs; a second run does nothing; a file in use is refused.
    """
    first, second = run(tmp_path, "migrate"), run(tmp_path, "migrate")
    held = Database.open(f"sqlite:///{tmp_path / 'data' / 'lytics-sailthru.db'}")
    refused = run(tmp_path, "migrate")
    asyncio.run(held.close())

    assert (first.stdout, second.stdout) == (
        "Applied: 0001, 0002, 0003, 0004, 0005, 0006.\n",
        "The database is up to date.\n",
    )
    assert refused.returncode == 2
    assert "Another process uses" in refused.stderr


def test_the_demo_ends_with_the_right_lists(tmp_path: Path) -> None:
    """
    The whole way with real processes; 0 means that both are right: of those who entered, and of those brought over.
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
