"""once: one call at a time for a member, no join of a confirmed member, and one list for any number of webhooks."""

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


def test_many_webhooks_for_a_new_audience_create_one_list(both: tuple[Service, Sandbox]) -> None:
    """The webhooks arrive over 20 connections, and each member joins once."""
    service, sandbox = both
    # With this latency many members need the list while it is being created.
    sandbox.control("latency", mean=0.3, spread=0.1)
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
    service.wait_until_delivered()

    assert sandbox.calls("POST /list") == 1
    assert sorted(sandbox.joins()) == ordered
    assert sandbox.account()["most_at_once_per_person"] == 1


def test_duplicate_enter_causes_no_call(both: tuple[Service, Sandbox]) -> None:
    """Neither the same event nor the same enter in a newer message causes a call."""
    service, sandbox = both
    sandbox.control("switches", rejoin_fires=True)
    service.send_all([webhooks.enter("ada@example.com", at=NOON)])
    until(sandbox.members, lambda members: members == {"ada@example.com"})
    service.wait_until_delivered()
    calls = sandbox.calls("POST /user")
    duplicate = service.send(webhooks.enter("ada@example.com", at=NOON))
    resent = service.send(webhooks.enter("ada@example.com", at=NOON, sent_at=NOON + MINUTE))
    # Once a later change of another member is delivered, no call for Ada can be in flight.
    service.send_all([webhooks.enter("ben@example.com", at=NOON)])
    until(sandbox.members, lambda members: "ben@example.com" in members)

    assert duplicate.json() == {"accepted": 0, "ignored": 1, "rejected": 0}
    assert resent.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
    assert sandbox.calls("POST /user") == calls + 1
    assert sandbox.joins().count("ada@example.com") == 1


def test_exit_of_an_unknown_address_creates_no_profile(both: tuple[Service, Sandbox]) -> None:
    """A write would create a profile that can receive mail, so the service reads first and writes nothing."""
    service, sandbox = both
    service.send_all([webhooks.exit_("stranger@example.com", at=NOON)])
    service.wait_until_delivered()

    assert sandbox.account()["profiles"] == {"count": 0, "addresses": []}
    assert sandbox.calls("GET /user") == 1
    assert sandbox.calls("POST /user") == 0


def test_one_call_joins_several_lists(both: tuple[Service, Sandbox]) -> None:
    """One message reports that a person entered two audiences."""
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


def test_ten_changes_during_a_call_cost_at_most_one_more_call(both: tuple[Service, Sandbox]) -> None:
    """A member enters and leaves ten times. Only the last state is delivered."""
    service, sandbox = both
    service.send_all([webhooks.enter("ada@example.com", at=NOON)])
    service.wait_until_delivered()
    until(sandbox.members, bool)
    sandbox.control("hold", after="before", then="apply", methods=["POST"], endpoints=["/user"])
    service.send_all([webhooks.exit_("ada@example.com", at=NOON + MINUTE)])
    until(sandbox.state, lambda state: state["held"] == 1)
    for flip in range(10):
        make = webhooks.enter if flip % 2 == 0 else webhooks.exit_
        service.send_all([make("ada@example.com", at=NOON + (flip + 2) * MINUTE)])
    sandbox.control("release")
    export = service.wait_until_delivered()

    assert sandbox.members() == set()
    assert sandbox.calls("POST /user") <= 3
    assert export["counts"]["superseded"] == 9
    assert LYTICS_TOKEN not in service.log.read_text()
