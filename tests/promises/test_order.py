"""newest-wins and once, on many people at a time: whatever Sailthru answers, each person's changes are told in order.

After the event-order test of rudder-server, with more people and stranger answers.
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
from tests.service import LIST
from tests.sizes import size
from tests.world import World

pytestmark = pytest.mark.usefixtures("unmeasured")

# Fewer where the database is asked over a connection, which takes so much longer.
PEOPLE = {
    kind: [f"person{n}@example.com" for n in range(many)]
    for kind, many in (("sqlite", size(80, 500)), ("postgresql", size(20, 120)))
}
ROUNDS = 40
# Beside the answer that is right. After a 429 everybody waits for the next minute, so that there must not be many.
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
    """What was sent of one person: round by round whether in, the fields with the number of the round."""

    def __init__(self) -> None:
        self.is_in: list[bool] = []

    def next(self, address: str, number: int, at: int, dice: random.Random) -> dict[str, object]:
        was_in = bool(self.is_in and self.is_in[-1])
        # Who is in leaves, or only a field changes.
        stays = was_in and dice.random() < 0.5
        self.is_in.append(stays or not was_in)
        fields = {"round": number}
        if stays:
            return webhooks.change(address, sent_at=at, fields=fields)
        event = webhooks.exit_ if was_in else webhooks.enter
        return event(address, at=at, sent_at=at, fields=fields)

    def assert_told_in_order(self, calls: list[dict[str, Any]]) -> None:
        """Each call tells of a round that is not before the one that the call before it told of."""
        confirmed = 0
        for call in calls:
            if "vars" in call:
                assert call["vars"]["round"] >= confirmed
                confirmed = call["vars"]["round"]
                assert self.is_in[confirmed]
                assert call.get("lists", {LIST: 1}) == {LIST: 1}
            else:
                assert call["lists"] == {LIST: 0}
                confirmed = next(number for number in range(confirmed, ROUNDS) if not self.is_in[number])


def test_whatever_is_answered_each_persons_changes_are_told_in_order(tmp_path: Path, kind: str) -> None:
    """500 people, or fewer on PostgreSQL, with 40 changes each and eight kinds of answer: the list is exact in the end,
    and no call ever tells of something older than the call before it.
    """
    dice = random.Random(20261125)
    people = PEOPLE[kind]
    histories = {address: History() for address in people}
    calls: list[dict[str, Any]] = []

    async def story(world: World) -> None:
        await world.service.exports.start(
            SPRING_BUYERS.id, audience_slug="", account="default", fields={"round": "round"}
        )
        world.service.exports_changed()
        await world.work_until_told()
        rules = [Rule(fault, endpoints=frozenset({"/user"}), chance=chance) for fault, chance in ANSWERS]
        world.sailthru.faults.set(rules, seed=7)
        for number in range(ROUNDS):
            at = int(world.clock().timestamp() * 1_000_000) * 1000
            batch = [histories[address].next(address, number, at, dice) for address in people]
            answer = await world.send(batch)
            assert answer.json() == {"accepted": len(people), "ignored": 0, "rejected": 0}
            await world.sleep(dice.choice([0.1, 1, 5, 30, 60]))
        await world.work_until_told(patience=3 * HOUR)
        world.sailthru.faults.set([])
        await world.admin("/dead-letters/redrive", method="POST", json={"all": True})
        await world.work_until_told(patience=3 * HOUR)

    with World(tmp_path, confirmed=calls) as world:
        world.run(story(world))
        account = world.account()
        world.note()

        assert world.sailthru.members(LIST) == {a for a, history in histories.items() if history.is_in[-1]}
        assert set(account["faults"]) == {"error", "html", "hang", "reset"}
        assert account["most_at_once_per_person"] == 1
        assert sum(account["rejoins"].values()) <= world.joins_repeated
        assert world.run(world.counts())["accepted"] == len(people) * ROUNDS
    by_person: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        by_person[call["id"]].append(call)
    # Enough to be out of order: several for each person, although a used-up limit lets changes pass unseen.
    assert len(calls) > len(people) * ROUNDS / 8
    for address, history in histories.items():
        history.assert_told_in_order(by_person[address])
