"""Receivers and workers as separate processes, and an old replica beside a newer version."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.people import address_of
from app.store.migrate import steps_after
from tests import postgresql
from tests.bench.sandbox import AUDIENCES
from tests.promises.processes import ADMIN_TOKEN, API_KEY, API_SECRET, LIST, WEBHOOK_TOKEN, Process, until
from tests.promises.replicas import Cluster, Replica, running_cluster

# Shorter than any polling interval, so that only a notification is fast enough.
SOON_SECONDS = 10
BACKFILLED_PEOPLE = 120


@pytest.fixture(autouse=True)
def on_each_database() -> None:
    """Disable the fixture of all promises. These tests use their own PostgreSQL server, and one uses SQLite."""


def enter(address: str) -> object:
    return webhooks.enter(address, at=datetime.now(UTC))


def wait_until_on_list(cluster: Cluster, *people: str, name: str = LIST) -> None:
    """Wait for at most `SOON_SECONDS`."""
    until(lambda: cluster.sandbox.members(name), lambda members: set(people) <= members, patience=SOON_SECONDS)


def test_receiver_notifies_the_worker(tmp_path: Path) -> None:
    """The worker handles a webhook, a new export and a backfill before its next poll."""
    with running_cluster(tmp_path, ("serve", "--no-worker"), ("work",)) as cluster:
        receiver, worker = cluster.replicas
        receiver.send(enter("first@example.com")).raise_for_status()
        wait_until_on_list(cluster, "first@example.com")
        receiver.send(enter("second@example.com")).raise_for_status()
        wait_until_on_list(cluster, "second@example.com")
        cluster.sandbox.lytics.post("members", json={"audience": AUDIENCES[1].id, "generate": BACKFILLED_PEOPLE})
        body = {"audience": AUDIENCES[1].id, "existing_users": True}
        receiver.http.post("/exports", json=body).raise_for_status()
        wait_until_on_list(cluster, *map(address_of, range(BACKFILLED_PEOPLE)), name=f"Lytics {AUDIENCES[1].name}")
        receiver.process.kill()
        states = {path: worker.http.get(path).status_code for path in ("/health/live", "/health/ready", "/metrics")}
        refused = [worker.send(enter("third@example.com")).status_code, worker.http.get("/exports").status_code]

        assert set(states.values()) == {httpx.codes.OK}
        assert refused == [httpx.codes.NOT_FOUND] * 2


def test_stopped_worker_settles_its_calls(tmp_path: Path) -> None:
    """After SIGTERM the exit code is 0, and the other worker delivers later changes."""
    with running_cluster(tmp_path, ("serve", "--no-worker"), ("work",), ("work",)) as cluster:
        receiver, stopped, other = cluster.replicas
        receiver.send(enter("first@example.com")).raise_for_status()
        wait_until_on_list(cluster, "first@example.com")
        assert stopped.process.stop() == 0
        receiver.send(enter("second@example.com")).raise_for_status()
        wait_until_on_list(cluster, "second@example.com")
        cluster.wait_until_delivered()

        assert other.process.is_running
        assert cluster.sandbox.account()["most_at_once_per_person"] == 1


@pytest.mark.parametrize("words", [["work"], ["serve", "--no-worker"]])
def test_sqlite_refuses_roles(tmp_path: Path, words: list[str]) -> None:
    """Only one process may open an SQLite file, so another role could not run."""
    env = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/store.db",
        "WEBHOOK_TOKENS": WEBHOOK_TOKEN,
        "ADMIN_TOKENS": ADMIN_TOKEN,
        "SAILTHRU_API_KEY": API_KEY,
        "SAILTHRU_API_SECRET": API_SECRET,
    }
    process = Process(words, env, tmp_path / "service.log").start()
    try:
        assert process.running is not None
        code = process.running.wait(60)
    finally:
        process.end()

    assert code == 2
    assert "belongs to one process" in process.log.read_text()


def test_old_replica_works_beside_a_newer_compatible_one(tmp_path: Path) -> None:
    """A newer version adds a column, a table and an index. Old replicas continue and can start again.

    An old replica refuses to start once the schema needs a newer version.
    """
    with running_cluster(tmp_path, ()) as cluster:
        (old,) = cluster.replicas
        old.send(enter("before@example.com")).raise_for_status()
        wait_until_on_list(cluster, "before@example.com")
        for statement in (
            "ALTER TABLE members ADD COLUMN favourite VARCHAR(64)",
            "ALTER TABLE memberships ADD COLUMN colour BIGINT DEFAULT 0 NOT NULL",
            "CREATE TABLE novelties (id BIGINT PRIMARY KEY)",
            "CREATE INDEX ix_novelty ON memberships (colour)",
            "UPDATE alembic_version SET version_num = '9999'",
        ):
            asyncio.run(postgresql.execute(cluster.server.url, statement))
        old.send(enter("meanwhile@example.com")).raise_for_status()
        wait_until_on_list(cluster, "meanwhile@example.com")
        beside = cluster.add(cluster.server.url)
        beside.wait()
        old.process.kill()
        beside.send(enter("after@example.com")).raise_for_status()
        wait_until_on_list(cluster, "after@example.com")
        cluster.wait_until_delivered()
        too_new = int(steps_after(None)[-1]) + 1
        asyncio.run(
            postgresql.execute(cluster.server.url, f"UPDATE versions SET version = {too_new} WHERE name = 'schema'")
        )
        late: Replica = cluster.add(cluster.server.url)
        assert late.process.running is not None
        code = late.process.running.wait(60)

        assert cluster.sandbox.account()["most_at_once_per_person"] == 1
        assert code == 2
        assert re.search("used by a newer version of this program", late.log.read_text())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("postgresql://unknown-user@127.0.0.1:{port}/postgres", "unknown-user"),
        ("postgresql://tests@127.0.0.1:{port}/nowhere", "has no database nowhere"),
    ],
)
def test_wrong_user_or_database_ends_the_start_at_once(tmp_path: Path, wrong: str, sentence: str) -> None:
    """Waiting would not help, so the start fails with a message."""
    with running_cluster(tmp_path) as cluster:
        replica = cluster.add(wrong.format(port=cluster.server.port))
        assert replica.process.running is not None
        code = replica.process.running.wait(40)

        assert code == 2
        assert sentence in replica.log.read_text()
