"""newest-wins: the final list follows the newest changes, in any order of arrival and with any repetition."""

import random
from datetime import UTC, datetime, timedelta

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS
from tests.promises.kinds import sqlite_in_small_runs
from tests.promises.processes import LIST, Sandbox, Service, until

kind = sqlite_in_small_runs()

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_late_exit_does_not_override_newer_enter(both: tuple[Service, Sandbox]) -> None:
    service, sandbox = both
    service.send_all(
        [
            webhooks.enter("ada@example.com", at=NOON),
            webhooks.exit_("ada@example.com", at=NOON - MINUTE),
            webhooks.enter("ben@example.com", at=NOON - MINUTE),
        ]
    )
    late = service.send(webhooks.exit_("ada@example.com", at=NOON - 2 * MINUTE))
    service.wait_until_delivered()

    assert late.json() == {"accepted": 0, "ignored": 1, "rejected": 0}
    assert sandbox.members() == {"ada@example.com", "ben@example.com"}


def test_list_follows_newest_changes_of_shuffled_and_repeated_events(both: tuple[Service, Sandbox]) -> None:
    service, sandbox = both
    dice = random.Random(7)
    desired: set[str] = set()
    events: list[object] = []
    for person in range(40):
        address = f"person{person}@example.com"
        for move in range(5):
            is_enter = dice.random() < 0.5
            make = webhooks.enter if is_enter else webhooks.exit_
            events += 2 * [make(address, at=NOON + move * MINUTE)]
        if is_enter:
            desired.add(address)
    dice.shuffle(events)
    service.send_all(events)
    export = service.wait_until_delivered()

    assert sandbox.members() == desired
    assert export["members"] == len(desired)
    counts = export["counts"]
    parts = ("delivered", "superseded", "pending", "dead", "erased", "cancelled")
    assert counts["accepted"] == sum(counts[part] for part in parts)


def test_enter_under_a_new_address_replaces_the_old_one(both: tuple[Service, Sandbox]) -> None:
    """Both events have the same Lytics id. The old address leaves, and the new one joins."""
    service, sandbox = both
    service.send_all([webhooks.enter("old@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"old@example.com"})
    service.send_all([webhooks.enter("new@example.com", at=NOON + MINUTE, user_id="15000000000000000001")])

    assert until(sandbox.members, lambda members: members == {"new@example.com"})


def test_change_under_a_new_address_replaces_the_old_one(both: tuple[Service, Sandbox]) -> None:
    """Lytics reports a new e-mail address as a change of fields."""
    service, sandbox = both
    service.send_all([webhooks.enter("old@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"old@example.com"})
    service.send_all([webhooks.change("new@example.com", sent_at=NOON + MINUTE, user_id="15000000000000000001")])

    assert until(sandbox.members, lambda members: members == {"new@example.com"})


def test_exit_under_a_new_address_removes_the_old_one(both: tuple[Service, Sandbox]) -> None:
    """The address changed without an event, so the exit is the first event that shows it."""
    service, sandbox = both
    service.send_all([webhooks.enter("old@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"old@example.com"})
    service.send_all([webhooks.exit_("new@example.com", at=NOON + MINUTE, user_id="15000000000000000001")])
    service.wait_until_delivered()

    assert sandbox.members() == set()
    assert sandbox.account()["profiles"]["addresses"] == ["old@example.com"]


def test_exit_without_an_address_finds_the_member_by_id(both: tuple[Service, Sandbox]) -> None:
    """A profile may lose its address before it leaves the audience."""
    service, sandbox = both
    service.send_all([webhooks.enter("ada@example.com", at=NOON, user_id="15000000000000000001")])
    until(sandbox.members, lambda members: members == {"ada@example.com"})
    service.send_all([webhooks.exit_(None, at=NOON + MINUTE, user_id="15000000000000000001")])

    assert until(sandbox.members, lambda members: members == set()) == set()


def test_exit_during_a_join_is_delivered_next(both: tuple[Service, Sandbox]) -> None:
    """Settling the join does not confirm the newer exit."""
    service, sandbox = both
    service.send_all([webhooks.enter("first@example.com", at=NOON)])
    until(sandbox.members, lambda members: members == {"first@example.com"})
    sandbox.control("hold", after="before", then="apply", methods=["POST"], endpoints=["/user"])
    service.send_all([webhooks.enter("ada@example.com", at=NOON)])
    until(sandbox.state, lambda state: state["held"] == 1)
    service.send_all([webhooks.exit_("ada@example.com", at=NOON + MINUTE)])
    sandbox.control("release")
    service.wait_until_delivered()

    assert sandbox.members() == {"first@example.com"}
    events = [e["entry"] for e in sandbox.account()["lo_events"] if e["email"] == "ada@example.com"]
    assert events == ["List Joined", "List Removed"]
    assert f"Lytics {SPRING_BUYERS.name}" == LIST
