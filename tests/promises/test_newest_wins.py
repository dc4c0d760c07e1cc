"""newest-wins: the list ends as the newest change says, whatever the order and the repetition on the way."""

import random
from datetime import UTC, datetime, timedelta

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS
from tests.promises.processes import LIST, Sandbox, Service, until

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_a_late_exit_does_not_undo_a_newer_enter(both: tuple[Service, Sandbox]) -> None:
    """Lytics may deliver out of order; the change that happened last decides."""
    service, sandbox = both
    service.send_all(
        [
            webhooks.enter("ada@example.com", at=NOON),
            webhooks.exit_("ada@example.com", at=NOON - MINUTE),
            webhooks.enter("ben@example.com", at=NOON - MINUTE),
        ]
    )
    late = service.send(webhooks.exit_("ada@example.com", at=NOON - 2 * MINUTE))
    service.wait_until_told()

    assert late.json() == {"accepted": 0, "ignored": 1, "rejected": 0}
    assert sandbox.members() == {"ada@example.com", "ben@example.com"}


def test_shuffled_and_repeated_histories_end_as_the_newest_change_says(both: tuple[Service, Sandbox]) -> None:
    """Forty people with five moves each, every event twice, all in a random order: the last move of each decides."""
    service, sandbox = both
    dice = random.Random(7)
    wanted: set[str] = set()
    events: list[object] = []
    for person in range(40):
        address = f"person{person}@example.com"
        for move in range(5):
            is_enter = dice.random() < 0.5
            make = webhooks.enter if is_enter else webhooks.exit_
            events += 2 * [make(address, at=NOON + move * MINUTE)]
        if is_enter:
            wanted.add(address)
    dice.shuffle(events)
    service.send_all(events)
    export = service.wait_until_told()

    assert sandbox.members() == wanted
    assert export["members"] == len(wanted)
    counts = export["counts"]
    parts = ("delivered", "superseded", "pending", "dead", "erased", "cancelled")
    assert counts["accepted"] == sum(counts[part] for part in parts)


def test_a_new_address_takes_the_place_of_the_old_one(both: tuple[Service, Sandbox]) -> None:
    """The e-mail of a Lytics user changes: the old address leaves, the new one joins."""
    service, sandbox = both
    service.send_all([webhooks.enter("old@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"old@example.com"})
    service.send_all([webhooks.enter("new@example.com", at=NOON + MINUTE, user_id="15000000000000000001")])

    assert until(sandbox.members, lambda members: members == {"new@example.com"})


def test_a_change_under_a_new_address_moves_the_person_too(both: tuple[Service, Sandbox]) -> None:
    """Lytics tells a new e-mail as a change of fields; the person keeps one place on the list."""
    service, sandbox = both
    service.send_all([webhooks.enter("old@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"old@example.com"})
    service.send_all([webhooks.change("new@example.com", sent_at=NOON + MINUTE, user_id="15000000000000000001")])

    assert until(sandbox.members, lambda members: members == {"new@example.com"})


def test_an_exit_under_the_new_address_takes_the_old_one_off(both: tuple[Service, Sandbox]) -> None:
    """The address changed without an event, then the person left: the address that was entered goes."""
    service, sandbox = both
    service.send_all([webhooks.enter("old@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"old@example.com"})
    service.send_all([webhooks.exit_("new@example.com", at=NOON + MINUTE, user_id="15000000000000000001")])
    service.wait_until_told()

    assert sandbox.members() == set()
    assert sandbox.account()["profiles"]["addresses"] == ["old@example.com"]


def test_an_exit_without_an_address_finds_the_person_by_id(both: tuple[Service, Sandbox]) -> None:
    """A profile may lose its address before it leaves the audience."""
    service, sandbox = both
    service.send_all([webhooks.enter("ada@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"ada@example.com"})
    service.send_all([webhooks.exit_(None, at=NOON + MINUTE, user_id="15000000000000000001")])

    assert until(sandbox.members, lambda members: members == set()) == set()


def test_a_change_that_comes_during_a_call_is_told_next(both: tuple[Service, Sandbox]) -> None:
    """An exit that arrives while the join is in flight is not lost when the join is settled."""
    service, sandbox = both
    service.send_all([webhooks.enter("first@example.com", at=NOON)])
    until(sandbox.members, lambda members: members == {"first@example.com"})
    sandbox.tell("hold", after="before", then="apply", methods=["POST"], endpoints=["/user"])
    service.send_all([webhooks.enter("ada@example.com", at=NOON)])
    until(sandbox.state, lambda state: state["held"] == 1)
    service.send_all([webhooks.exit_("ada@example.com", at=NOON + MINUTE)])
    sandbox.tell("release")
    service.wait_until_told()

    assert sandbox.members() == {"first@example.com"}
    events = [e["entry"] for e in sandbox.account()["lo_events"] if e["email"] == "ada@example.com"]
    assert events == ["List Joined", "List Removed"]
    assert f"Lytics {SPRING_BUYERS.name}" == LIST
