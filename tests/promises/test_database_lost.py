"""PostgreSQL stops, or its connection breaks during a commit.

Webhooks get 503 and are sent again, workers wait, and the service resumes without a restart.
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
from tests.promises.cutting import Cut, Proxy, proxy_to
from tests.promises.processes import LIST, until
from tests.promises.replicas import Cluster, Replica, running_cluster
from tests.sizes import size

PEOPLE = 12


@pytest.fixture(autouse=True)
def on_each_database() -> None:
    """Disable the fixture of all promises. Each test stops its own PostgreSQL server."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Run a server and a sandbox, without replicas."""
    with running_cluster(tmp_path) as cluster:
        yield cluster


def start_behind(cluster: Cluster, proxy: Proxy) -> Replica:
    """Start a replica that connects to the database through the proxy."""
    replica = cluster.add(f"postgresql://tests@127.0.0.1:{proxy.port}/postgres")
    replica.wait()
    return replica


def enter(person: int, *, ago: float = 0) -> object:
    return webhooks.enter(address(person), at=datetime.now(UTC) - timedelta(seconds=ago))


def address(person: int) -> str:
    return f"person{person}@example.com"


def test_database_outage_answers_503_and_ends_without_restart(cluster: Cluster) -> None:
    """The same process delivers a pending member after the outage."""
    replica = cluster.add(cluster.server.url)
    replica.wait()
    replica.send(enter(0)).raise_for_status()
    cluster.wait_until_delivered()
    process = replica.process.running
    cluster.sandbox.control("hold", endpoints=["/user"])
    replica.send(enter(1)).raise_for_status()
    until(lambda: cluster.sandbox.account()["calls"].get("POST /user", 0), lambda calls: calls >= 2)
    cluster.server.stop()
    cluster.sandbox.control("release")
    refused = replica.send(enter(2))
    ready = replica.http.get("/health/ready")
    cluster.server.start()
    accepted = until(lambda: replica.send(enter(2)), lambda answer: answer.status_code == httpx.codes.OK)
    cluster.wait_until_delivered()

    assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert refused.headers["Retry-After"] == "30"
    assert (ready.status_code, ready.json()["store"]) == (200, "unavailable")
    assert accepted.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
    assert cluster.sandbox.members(LIST) == {address(n) for n in range(3)}
    assert cluster.sandbox.account()["most_at_once_per_person"] == 1
    assert replica.process.running is process
    assert replica.process.is_running


def test_start_waits_for_the_database(cluster: Cluster) -> None:
    cluster.server.stop()
    replica = cluster.add(cluster.server.url)
    until(replica.log.read_text, lambda log: "database unreachable, retrying" in log)
    cluster.server.start()
    replica.wait()
    replica.send(enter(0)).raise_for_status()
    cluster.wait_until_delivered()

    assert cluster.sandbox.members(LIST) == {address(0)}


@pytest.mark.parametrize(
    ("cut", "again"),
    [
        (Cut.DONE, {"accepted": 0, "ignored": 1, "rejected": 0}),
        (Cut.LOST, {"accepted": 1, "ignored": 0, "rejected": 0}),
    ],
)
def test_webhook_with_unknown_commit_gets_503_and_counts_once(
    cluster: Cluster, cut: Cut, again: dict[str, int]
) -> None:
    """The service cannot know whether the commit succeeded. If it did, the repeated event is ignored."""
    with proxy_to(cluster.server.port) as proxy:
        replica = start_behind(cluster, proxy)
        replica.send(enter(0)).raise_for_status()
        cluster.wait_until_delivered()
        cluster.sandbox.control("hold", endpoints=["/user"])
        body = enter(1)
        proxy.cut_next(cut, address(1))
        unknown = replica.send(body)
        known = replica.send(body)
        cluster.sandbox.control("release")
        cluster.wait_until_delivered()
        (export,) = cluster.exports()

        assert unknown.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert unknown.headers["Retry-After"] == "30"
        assert known.json() == again
        assert export["counts"]["accepted"] == 2
        assert cluster.sandbox.members(LIST) == {address(0), address(1)}
        assert sorted(cluster.sandbox.joins(LIST)) == [address(0), address(1)]
        replica.close()


@pytest.mark.timeout(300)
def test_list_is_exact_after_lost_commits(cluster: Cluster) -> None:
    """One in six commits of webhooks, claims and settlements is cut. No member gets two calls at once."""
    dice = random.Random(6)
    desired: dict[int, bool] = {}
    with proxy_to(cluster.server.port, seed=6) as proxy:
        replica = start_behind(cluster, proxy)
        replica.send(enter(PEOPLE)).raise_for_status()
        cluster.wait_until_delivered()
        proxy.cut_some(1 / 6)
        at = datetime.now(UTC) - timedelta(seconds=100)
        for number in range(size(24, 80)):
            person, is_enter = dice.randrange(PEOPLE), dice.random() < 0.6
            make = webhooks.enter if is_enter else webhooks.exit_
            body = make(address(person), at=at + timedelta(seconds=number))
            until(partial(replica.send, body), lambda answer: answer.status_code == httpx.codes.OK)
            desired[person] = is_enter
        proxy.cut_some(0)
        cluster.wait_until_delivered(120)
        account = cluster.sandbox.account()
        totals = asyncio.run(_totals(cluster.server.url))

        assert proxy.cuts >= size(3, 10)
        desired_addresses = {address(p) for p, is_in in desired.items() if is_in}
        assert cluster.sandbox.members(LIST) == {address(PEOPLE)} | desired_addresses
        assert account["most_at_once_per_person"] == 1
        assert totals == (0, 0)
        replica.close()


async def _totals(url: str) -> tuple[int, ...]:
    """Return the pending changes, and the difference between counted and stored members."""
    found = await postgresql.fetch(
        url,
        "select sum(pending), sum(members) - (select count(*) from memberships where wanted) from totals",
    )
    return tuple(int(value) for value in found[0])
