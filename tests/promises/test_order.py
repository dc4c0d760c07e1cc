"""newest-wins and once, with many members and many faults: each member's changes are delivered in order.

The event-order test of rudder-server is the model. This test has more people and more kinds of answers.
"""

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.faults import AnyFault, Error, Hang, Html, Reset
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS
from app.sandbox.rules import Rule
from tests.factories import HOUR
from tests.promises.kinds import sqlite_in_small_runs
from tests.service import LIST
from tests.sizes import size
from tests.world import World

kind = sqlite_in_small_runs()

pytestmark = pytest.mark.usefixtures("unmeasured")

# Fewer on PostgreSQL, where each statement takes much longer.
PEOPLE = {
    kind: [f"person{n}@example.com" for n in range(many)]
    for kind, many in (("sqlite", size(80, 500)), ("postgresql", size(20, 120)))
}
ROUNDS = 40
# Faults with their probability. After a 429 all members wait for the next minute, so it must be rare.
ANSWERS: list[tuple[AnyFault, float]] = [
    (Error(status=429, code=43, text="Too many"), 0.001),
    (Error(status=200, code=99, text="Other"), 0.02),
    (Error(), 0.02),
    (Html(), 0.02),
    (Hang(), 0.02),
    (Hang(applied=False), 0.02),
    (Reset(), 0.02),
]


class History:
    """The events of one person. `is_in` holds the membership after each round; the field `round` its number."""

    def __init__(self) -> None:
        self.is_in: list[bool] = []

    def next(self, address: str, number: int, at: int, dice: random.Random) -> dict[str, object]:
        was_in = bool(self.is_in and self.is_in[-1])
        # A member either leaves or has a changed field.
        stays = was_in and dice.random() < 0.5
        self.is_in.append(stays or not was_in)
        fields = {"round": number}
        if stays:
            return webhooks.change(address, sent_at=at, fields=fields)
        event = webhooks.exit_ if was_in else webhooks.enter
        return event(address, at=at, sent_at=at, fields=fields)

    def assert_delivered_in_order(self, calls: list[dict[str, Any]]) -> None:
        """Check that no call delivers an earlier round than the previous call."""
        delivered = 0
        for call in calls:
            if "vars" in call:
                assert call["vars"]["round"] >= delivered
                delivered = call["vars"]["round"]
                assert self.is_in[delivered]
                assert call.get("lists", {LIST: 1}) == {LIST: 1}
            else:
                assert call["lists"] == {LIST: 0}
                delivered = next(number for number in range(delivered, ROUNDS) if not self.is_in[number])


def test_changes_of_each_member_are_delivered_in_order_despite_faults(tmp_path: Path, kind: str) -> None:
    """Up to 500 people have 40 changes each, with eight kinds of answers. The final list is exact."""
    dice = random.Random(20261125)
    people = PEOPLE[kind]
    histories = {address: History() for address in people}
    calls: list[dict[str, Any]] = []

    async def story(world: World) -> None:
        await world.service.exports.start(
            SPRING_BUYERS.id, audience_slug="", account="default", fields={"round": "round"}
        )
        world.service.exports_changed()
        await world.work_until_delivered()
        rules = [Rule(fault, endpoints=frozenset({"/user"}), chance=chance) for fault, chance in ANSWERS]
        world.sailthru.faults.set(rules, seed=7)
        for number in range(ROUNDS):
            at = int(world.clock().timestamp() * 1_000_000) * 1000
            batch = [histories[address].next(address, number, at, dice) for address in people]
            answer = await world.send(batch)
            assert answer.json() == {"accepted": len(people), "ignored": 0, "rejected": 0}
            await world.sleep(dice.choice([0.1, 1, 5, 30, 60]))
        await world.work_until_delivered(patience=3 * HOUR)
        world.sailthru.faults.set([])
        await world.admin("/dead-letters/redrive", method="POST", json={"all": True})
        await world.work_until_delivered(patience=3 * HOUR)

    with World(tmp_path, confirmed=calls) as world:
        world.run(story(world))
        account = world.account()
        world.add_up_metrics()

        assert world.sailthru.members(LIST) == {a for a, history in histories.items() if history.is_in[-1]}
        assert set(account["faults"]) == {"error", "html", "hang", "reset"}
        assert account["most_at_once_per_person"] == 1
        assert sum(account["rejoins"].values()) <= world.joins_repeated
        assert world.run(world.counts())["accepted"] == len(people) * ROUNDS
    by_person: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        by_person[call["id"]].append(call)
    # There are several calls for each person, although changes are superseded while the rate limit is used up.
    assert len(calls) > len(people) * ROUNDS / 8
    for address, history in histories.items():
        history.assert_delivered_in_order(by_person[address])
