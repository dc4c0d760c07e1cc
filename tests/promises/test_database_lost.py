"""PostgreSQL goes away, or is lost in the middle of a commit: webhooks hear 503 and come again, workers wait, and all
goes on without a restart.
"""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from app.sandbox.lytics import webhooks
from tests import postgresql
from tests.promises.cutting import Cut, Wire, wire_to
from tests.promises.processes import LIST, until
from tests.promises.replicas import Replica, Scene, scene
from tests.sizes import size

PEOPLE = 12


@pytest.fixture(autouse=True)
def on_each() -> None:
    """A PostgreSQL of its own, which is stopped."""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Scene]:
    """A server and a sandbox, and nobody else yet."""
    with scene(tmp_path) as here:
        yield here


def on_wire(here: Scene, wire: Wire) -> Replica:
    """A replica that reaches the server through a wire."""
    replica = here.add(f"postgresql://tests@127.0.0.1:{wire.port}/postgres")
    replica.wait()
    return replica


def enter(person: int, *, ago: float = 0) -> object:
    return webhooks.enter(address(person), at=datetime.now(UTC) - timedelta(seconds=ago))


def address(person: int) -> str:
    return f"person{person}@example.com"


def test_who_comes_while_it_is_away_is_sent_away_and_all_goes_on_by_itself(here: Scene) -> None:
    """A person who waits to be told meanwhile is told once it is back, by the same process."""
    replica = here.add(here.server.url)
    replica.wait()
    replica.send(enter(0)).raise_for_status()
    here.wait_until_told()
    process = replica.process.running
    here.sandbox.tell("hold", endpoints=["/user"])
    replica.send(enter(1)).raise_for_status()
    until(lambda: here.sandbox.account()["calls"].get("POST /user", 0), lambda calls: calls >= 2)
    here.server.stop()
    here.sandbox.tell("release")
    refused = replica.send(enter(2))
    ready = replica.http.get("/health/ready")
    here.server.start()
    kept = until(lambda: replica.send(enter(2)), lambda answer: answer.status_code == httpx.codes.OK)
    here.wait_until_told()

    assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert refused.headers["Retry-After"] == "30"
    assert (ready.status_code, ready.json()["store"]) == (200, "unavailable")
    assert kept.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
    assert here.sandbox.members(LIST) == {address(n) for n in range(3)}
    assert here.sandbox.account()["most_at_once_per_person"] == 1
    assert replica.process.running is process
    assert replica.process.is_running


def test_a_start_waits_for_it(here: Scene) -> None:
    """Both may be started at the same time."""
    here.server.stop()
    replica = here.add(here.server.url)
    until(replica.log.read_text, lambda log: "waits for the database" in log)
    here.server.start()
    replica.wait()
    replica.send(enter(0)).raise_for_status()
    here.wait_until_told()

    assert here.sandbox.members(LIST) == {address(0)}


@pytest.mark.parametrize(
    ("cut", "again"),
    [
        (Cut.DONE, {"accepted": 0, "ignored": 1, "rejected": 0}),
        (Cut.LOST, {"accepted": 1, "ignored": 0, "rejected": 0}),
    ],
)
def test_a_webhook_whose_commit_was_lost_comes_again_and_counts_once(
    here: Scene, cut: Cut, again: dict[str, int]
) -> None:
    """Whether it was carried out can't be known, so 503; the same event sent again changes nothing if it was."""
    with wire_to(here.server.port) as wire:
        replica = on_wire(here, wire)
        replica.send(enter(0)).raise_for_status()
        here.wait_until_told()
        here.sandbox.tell("hold", endpoints=["/user"])
        body = enter(1)
        wire.cut_next(cut, address(1))
        unknown = replica.send(body)
        known = replica.send(body)
        here.sandbox.tell("release")
        here.wait_until_told()
        (export,) = here.exports()

        assert unknown.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert unknown.headers["Retry-After"] == "30"
        assert known.json() == again
        assert export["counts"]["accepted"] == 2
        assert here.sandbox.members(LIST) == {address(0), address(1)}
        assert sorted(here.sandbox.joins(LIST)) == [address(0), address(1)]
        replica.close()


@pytest.mark.timeout(300)
def test_whichever_commits_are_lost_the_list_ends_exact(here: Scene) -> None:
    """Of webhooks, claims and settlements, one in six; nobody is called twice at once, and all counts add up."""
    dice = random.Random(6)
    wanted: dict[int, bool] = {}
    with wire_to(here.server.port, seed=6) as wire:
        replica = on_wire(here, wire)
        replica.send(enter(PEOPLE)).raise_for_status()
        here.wait_until_told()
        wire.cut_some(1 / 6)
        at = datetime.now(UTC) - timedelta(seconds=100)
        for number in range(size(24, 80)):
            person, is_enter = dice.randrange(PEOPLE), dice.random() < 0.6
            make = webhooks.enter if is_enter else webhooks.exit_
            body = make(address(person), at=at + timedelta(seconds=number))
            until(partial(replica.send, body), lambda answer: answer.status_code == httpx.codes.OK)
            wanted[person] = is_enter
        wire.cut_some(0)
        here.wait_until_told(120)
        account = here.sandbox.account()
        totals = asyncio.run(_totals(here.server.url))

        assert wire.cuts >= size(3, 10)
        assert here.sandbox.members(LIST) == {address(PEOPLE), *(address(p) for p, is_in in wanted.items() if is_in)}
        assert account["most_at_once_per_person"] == 1
        assert totals == (0, 0)
        replica.close()


async def _totals(url: str) -> tuple[int, ...]:
    """What waits, and by how much the members that are counted differ from those that there are."""
    found = await postgresql.fetch(
        url,
        "select sum(pending), sum(members) - (select count(*) from memberships where wanted) from totals",
    )
    return tuple(int(value) for value in found[0])
