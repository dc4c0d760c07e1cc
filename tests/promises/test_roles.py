"""Doors and workers as processes of their own, and an old replica beside a newer one."""

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
from tests.promises.processes import LIST, Service, until
from tests.promises.replicas import Replica, Scene, scene

# Sooner than anybody looks again by himself.
SOON_SECONDS = 10
BROUGHT_OVER = 120


@pytest.fixture(autouse=True)
def on_each() -> None:
    """A PostgreSQL of its own; what SQLite says to roles is a test of its own."""


def enter(address: str) -> object:
    return webhooks.enter(address, at=datetime.now(UTC))


def on_list(here: Scene, *people: str, name: str = LIST) -> None:
    """Once they are, soon."""
    until(lambda: here.sandbox.members(name), lambda members: set(people) <= members, patience=SOON_SECONDS)


def test_doors_wake_the_worker_for_all_that_they_take(tmp_path: Path) -> None:
    """A webhook, a new export, a backfill: done before the worker would have looked by itself."""
    with scene(tmp_path, ("serve", "--no-worker"), ("work",)) as here:
        doors, worker = here.replicas
        doors.send(enter("first@example.com")).raise_for_status()
        on_list(here, "first@example.com")
        doors.send(enter("second@example.com")).raise_for_status()
        on_list(here, "second@example.com")
        here.sandbox.lytics.post("members", json={"audience": AUDIENCES[1].id, "generate": BROUGHT_OVER})
        order = {"audience": AUDIENCES[1].id, "existing_users": True}
        doors.http.post("/exports", json=order).raise_for_status()
        on_list(here, *map(address_of, range(BROUGHT_OVER)), name=f"Lytics {AUDIENCES[1].name}")
        doors.process.kill()
        states = {path: worker.http.get(path).status_code for path in ("/health/live", "/health/ready", "/metrics")}
        nothing = [worker.send(enter("third@example.com")).status_code, worker.http.get("/exports").status_code]

        assert set(states.values()) == {httpx.codes.OK}
        assert nothing == [httpx.codes.NOT_FOUND] * 2


def test_a_worker_that_ends_finishes_what_it_has_begun(tmp_path: Path) -> None:
    """SIGTERM: calls under way are settled, exit code 0; who comes later is told by the other one."""
    with scene(tmp_path, ("serve", "--no-worker"), ("work",), ("work",)) as here:
        doors, one, other = here.replicas
        doors.send(enter("first@example.com")).raise_for_status()
        on_list(here, "first@example.com")
        assert one.process.stop() == 0
        doors.send(enter("second@example.com")).raise_for_status()
        on_list(here, "second@example.com")
        here.wait_until_told()

        assert other.process.is_running
        assert here.sandbox.account()["most_at_once_per_person"] == 1


@pytest.mark.parametrize("words", [["work"], ["serve", "--no-worker"]])
def test_an_sqlite_file_takes_no_roles(tmp_path: Path, words: list[str]) -> None:
    """One process owns it, so there would be nobody to do the rest; in one sentence."""
    with scene(tmp_path) as here:
        service = Service(tmp_path, here.sandbox, DATABASE_URL=f"sqlite:///{tmp_path}/store.db")
        service.process.words = words
        service.process.start()
        assert service.process.running is not None
        code = service.process.running.wait(60)
        service.close()

        assert code == 2
        assert "belongs to one process" in service.log.read_text()


def test_an_old_replica_goes_on_beside_a_newer_one_that_only_adds(tmp_path: Path) -> None:
    """The newer one has added a column, a table and an index while the old one worked; the old one can even be started
    again. Once a newer version can't be worked with any more, it says so and ends.
    """
    with scene(tmp_path, ()) as here:
        (old,) = here.replicas
        old.send(enter("before@example.com")).raise_for_status()
        on_list(here, "before@example.com")
        for statement in (
            "ALTER TABLE members ADD COLUMN favourite VARCHAR(64)",
            "ALTER TABLE memberships ADD COLUMN colour BIGINT DEFAULT 0 NOT NULL",
            "CREATE TABLE novelties (id BIGINT PRIMARY KEY)",
            "CREATE INDEX ix_novelty ON memberships (colour)",
            "UPDATE alembic_version SET version_num = '9999'",
        ):
            asyncio.run(postgresql.execute(here.server.url, statement))
        old.send(enter("meanwhile@example.com")).raise_for_status()
        on_list(here, "meanwhile@example.com")
        beside = here.add(here.server.url)
        beside.wait()
        old.process.kill()
        beside.send(enter("after@example.com")).raise_for_status()
        on_list(here, "after@example.com")
        here.wait_until_told()
        too_new = int(steps_after(None)[-1]) + 1
        asyncio.run(
            postgresql.execute(here.server.url, f"UPDATE versions SET version = {too_new} WHERE name = 'schema'")
        )
        late: Replica = here.add(here.server.url)
        assert late.process.running is not None
        code = late.process.running.wait(60)

        assert here.sandbox.account()["most_at_once_per_person"] == 1
        assert code == 2
        assert re.search("used by a newer version of this program", late.log.read_text())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("postgresql://nobody-known@127.0.0.1:{port}/postgres", "nobody-known"),
        ("postgresql://tests@127.0.0.1:{port}/nowhere", "has no database nowhere"),
    ],
)
def test_a_server_that_does_not_let_us_in_ends_the_start_at_once(tmp_path: Path, wrong: str, sentence: str) -> None:
    """Waiting would not help; in one sentence that says what to do."""
    with scene(tmp_path) as here:
        replica = here.add(wrong.format(port=here.server.port))
        assert replica.process.running is not None
        code = replica.process.running.wait(40)

        assert code == 2
        assert sentence in replica.log.read_text()
