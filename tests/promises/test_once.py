"""once: one call at a time for a person, a join only where Sailthru was told otherwise, one list however many ask."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import Audience
from tests.promises.processes import LIST, LYTICS_TOKEN, WEBHOOK_TOKEN, Sandbox, Service, until
from tests.sizes import size

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LAPSED = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers")


def test_many_webhooks_for_a_new_audience_make_one_list(both: tuple[Service, Sandbox]) -> None:
    """Webhooks arrive over 20 connections: exactly one POST /list leaves, and each person joins once."""
    service, sandbox = both
    # Slow enough for many to need the list while it is being made.
    sandbox.tell("latency", mean=0.3, spread=0.1)
    addresses = {f"person{n}@example.com" for n in range(size(200, 1000))}

    def send(part: list[str]) -> None:
        with service.client() as client:
            for address in part:
                answer = client.post(
                    "/webhooks/lytics",
                    json=webhooks.enter(address, at=NOON),
                    headers={"Authorization": WEBHOOK_TOKEN},
                )
                answer.raise_for_status()

    ordered = sorted(addresses)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(send, [ordered[n::20] for n in range(20)]))
    until(sandbox.members, lambda members: members == addresses)
    service.wait_until_told()

    assert sandbox.calls("POST /list") == 1
    assert sorted(sandbox.joins()) == ordered
    assert sandbox.account()["most_at_once_per_person"] == 1


def test_a_duplicate_enter_causes_no_call(both: tuple[Service, Sandbox]) -> None:
    """The same event again, and the same enter in a newer message, start no flow and cost no call."""
    service, sandbox = both
    sandbox.tell("switches", rejoin_fires=True)
    service.send_all([webhooks.enter("ada@example.com", at=NOON)])
    until(sandbox.members, lambda members: members == {"ada@example.com"})
    service.wait_until_told()
    calls = sandbox.calls("POST /user")
    duplicate = service.send(webhooks.enter("ada@example.com", at=NOON))
    resent = service.send(webhooks.enter("ada@example.com", at=NOON, sent_at=NOON + MINUTE))
    # Somebody else's change, told after them, shows that nothing of theirs is still on its way.
    service.send_all([webhooks.enter("ben@example.com", at=NOON)])
    until(sandbox.members, lambda members: "ben@example.com" in members)

    assert duplicate.json() == {"accepted": 0, "ignored": 1, "rejected": 0}
    assert resent.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
    assert sandbox.calls("POST /user") == calls + 1
    assert sandbox.joins().count("ada@example.com") == 1


def test_an_exit_for_a_stranger_leaves_no_profile(both: tuple[Service, Sandbox]) -> None:
    """A write would create a profile that can be mailed, so Sailthru is asked first, and told nothing."""
    service, sandbox = both
    service.send_all([webhooks.exit_("stranger@example.com", at=NOON)])
    service.wait_until_told()

    assert sandbox.account()["profiles"] == {"count": 0, "addresses": []}
    assert sandbox.calls("GET /user") == 1
    assert sandbox.calls("POST /user") == 0


def test_several_lists_of_a_person_travel_in_one_call(both: tuple[Service, Sandbox]) -> None:
    """One message tells that a person entered two audiences: one call joins both lists."""
    service, sandbox = both
    sandbox.lytics.post("audiences", json={"id": LAPSED.id, "name": LAPSED.name, "slug": LAPSED.slug})
    service.send_all(
        [webhooks.enter("first@example.com", at=NOON), webhooks.enter("first@example.com", LAPSED, at=NOON)]
    )
    until(lambda: sandbox.members("Lytics Lapsed Buyers"), bool)
    until(sandbox.members, bool)
    message: dict[str, Any] = webhooks.enter("ada@example.com", at=NOON)
    other: dict[str, Any] = webhooks.enter("ada@example.com", LAPSED, at=NOON)
    message["data"]["segment_events"] += other["data"]["segment_events"]
    answer = service.send(message)
    until(sandbox.members, lambda members: "ada@example.com" in members)
    calls = [c["json"] for c in sandbox.account(with_log=True)["calls_log"] if c["json"].get("id") == "ada@example.com"]

    assert answer.json()["accepted"] == 2
    assert [call["lists"] for call in calls] == [{LIST: 1, "Lytics Lapsed Buyers": 1}]


def test_flapping_while_sailthru_is_busy_costs_at_most_one_call_more(both: tuple[Service, Sandbox]) -> None:
    """A person who enters and leaves ten times while a call is open is told only how it ended."""
    service, sandbox = both
    service.send_all([webhooks.enter("ada@example.com", at=NOON)])
    service.wait_until_told()
    until(sandbox.members, bool)
    sandbox.tell("hold", after="before", then="apply", methods=["POST"], endpoints=["/user"])
    service.send_all([webhooks.exit_("ada@example.com", at=NOON + MINUTE)])
    until(sandbox.state, lambda state: state["held"] == 1)
    for flip in range(10):
        make = webhooks.enter if flip % 2 == 0 else webhooks.exit_
        service.send_all([make("ada@example.com", at=NOON + (flip + 2) * MINUTE)])
    sandbox.tell("release")
    export = service.wait_until_told()

    assert sandbox.members() == set()
    assert sandbox.calls("POST /user") <= 3
    assert export["counts"]["superseded"] == 9
    assert LYTICS_TOKEN not in service.log.read_text()
