"""GET /authorizations: the Sailthru accounts, their state and the next step."""

import json
from pathlib import Path
from typing import Any

from app.sandbox.faults import Error
from app.sandbox.lytics import webhooks
from app.sandbox.rules import Rule
from tests.factories import ADA, NOON
from tests.service import API_KEY, API_SECRET
from tests.world import World

NORTH = {"api_key": "north-key", "api_secret": "north-secret", "base_url": "https://north.test"}


def authorizations(world: World) -> list[dict[str, Any]]:
    answer: dict[str, Any] = world.run(world.admin("/authorizations"))
    items: list[dict[str, Any]] = answer["items"]
    return items


def test_every_account_is_listed_without_its_key_and_secret(tmp_path: Path) -> None:
    """One call may leave until the rate limit is known."""
    with World(tmp_path, different={"sailthru_authorizations": {"north": NORTH}}) as world:
        world.run(world.sleep(1))
        items = authorizations(world)

    assert items[0] == {
        "label": "default",
        "state": "running",
        "code": None,
        "reason": None,
        "paused_at": None,
        "base_url": "https://sailthru.test",
        "limits": {"POST user": 1},
    }
    assert (items[1]["label"], items[1]["base_url"]) == ("north", "https://north.test")
    assert not any(secret in json.dumps(items) for secret in ("north-key", "north-secret", API_KEY, API_SECRET))


def test_limits_show_the_rest_of_our_share(tmp_path: Path) -> None:
    with World(tmp_path, limits={("POST", "/user"): 100}) as world:
        world.run(world.send(webhooks.enter(ADA, at=NOON)))
        world.run(world.work_until_delivered())
        (item,) = authorizations(world)

    assert 0 < item["limits"]["POST user"] <= 80


def test_refused_account_shows_the_next_step_until_it_is_accepted(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.sailthru.faults.set([Rule(Error(status=401, code=3, text="quotes ada@example.com"))])
        world.run(world.send(webhooks.enter(ADA, at=NOON)))
        world.run(world.sleep(120))
        (refused,) = authorizations(world)
        world.sailthru.faults.set(())
        world.run(world.work_until_delivered())
        (running,) = authorizations(world)

    assert (refused["state"], refused["code"]) == ("refused", "3")
    assert "Check SAILTHRU_API_KEY" in refused["reason"]
    assert refused["paused_at"] is not None
    assert "ada@" not in json.dumps(refused)
    assert (running["state"], running["code"], running["reason"], running["paused_at"]) == ("running", None, None, None)


def test_account_that_does_not_answer_is_in_an_outage(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.run(world.export({}))
        world.sailthru.faults.set([Rule(Error(status=503, code=9))])
        for number in range(8):
            world.run(world.send(webhooks.enter(f"p{number}@example.com", at=NOON, user_id=str(number + 1))))
        world.run(world.sleep(300))
        (item,) = authorizations(world)

    assert (item["state"], item["code"]) == ("outage", "9")
    assert item["reason"]
