"""One story for each fault that the service must survive. `test_faults.py` runs the stories.

A story may leave changes pending. It returns the expected members of the list after the delivery of all changes.
"""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from app.domain.account import Capacity
from app.sandbox.faults import AnyFault, Empty, Error, Hang, Html, Reset
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.rules import Rule
from tests.factories import HOUR, MINUTE, SECOND
from tests.service import API_KEY, HOOK, LIST, WEBHOOK_TOKEN
from tests.sizes import size
from tests.world import Died, World

ADA, ADA_NEW, BOB = "ada.lovelace@example.com", "ada.king@example.com", "bob.babbage@example.com"
FIRST_NAME = "Augusta-Ada"
ADA_ID, BOB_ID = "17361815000000000001", "17361815000000000002"
DAY = timedelta(days=1)

Story = Callable[[World], Coroutine[Any, Any, set[str]]]
STORIES: dict[str, Story] = {}


def story(function: Story) -> Story:
    """Register a story. Its name begins with the number of the fault."""
    STORIES[function.__name__] = function
    return function


async def send(world: World, *bodies: object, accepted: int = 1) -> None:
    """Send webhooks, and check that each is answered with 200 and this number of accepted changes."""
    for body in bodies:
        answer = await world.send(body)
        assert (answer.status_code, answer.json()["accepted"]) == (200, accepted), answer.text


async def send_refused(world: World, body: object, status: int, reason: str) -> None:
    """Send a webhook, and check that it is refused with this status and reason."""
    answer = await world.send(body)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


def enter(world: World, address: str | None = ADA, user_id: str = ADA_ID, *, ago: timedelta = SECOND) -> object:
    return webhooks.enter(address, at=world.clock() - ago, user_id=user_id, fields={"first_name": FIRST_NAME})


def leave(world: World, address: str | None = ADA, user_id: str = ADA_ID, *, ago: timedelta = SECOND) -> object:
    return webhooks.exit_(address, at=world.clock() - ago, user_id=user_id)


async def wait_until_delivered(world: World) -> None:
    await world.work_until_delivered(patience=HOUR)


async def posts(world: World) -> int:
    calls: int = world.account()["calls"].get("POST /user", 0)
    return calls


def answer_once(world: World, fault: AnyFault, *, times: int = 1) -> None:
    world.sailthru.faults.set([Rule(fault, endpoints=frozenset({"/user"}), times=times)])


# Source


@story
async def s01_duplicate(world: World) -> set[str]:
    event = enter(world)
    await send(world, event)
    await wait_until_delivered(world)
    before = await posts(world)
    await send(world, event, event, accepted=0)
    await world.sleep(60)
    assert await posts(world) == before
    return {ADA}


@story
async def s02_duplicate_hours_later(world: World) -> set[str]:
    event = enter(world)
    await send(world, event)
    await wait_until_delivered(world)
    before = await posts(world)
    await world.sleep(7 * 3600)
    await send(world, event, accepted=0)
    await world.sleep(60)
    assert await posts(world) == before
    return {ADA}


@story
async def s03_enter_and_exit_swapped(world: World) -> set[str]:
    await send(world, leave(world, ago=MINUTE))
    await send(world, enter(world, ago=2 * MINUTE), accepted=0)
    await send(world, enter(world, BOB, BOB_ID, ago=MINUTE))
    await send(world, leave(world, BOB, BOB_ID, ago=2 * MINUTE), accepted=0)
    return {BOB}


@story
async def s04_same_timestamp(world: World) -> set[str]:
    """If an exit and an enter have the same time, the enter wins in any order of arrival."""
    await send(world, leave(world), enter(world))
    await send(world, enter(world, BOB, BOB_ID))
    await send(world, leave(world, BOB, BOB_ID), accepted=0)
    return {ADA, BOB}


@story
async def s05_clock_in_the_future(world: World) -> set[str]:
    """An enter dated tomorrow does not override an exit that arrives a minute later."""
    await send(world, enter(world, ago=-DAY), enter(world, BOB, BOB_ID, ago=-DAY))
    await world.sleep(60)
    await send(world, leave(world))
    timeline = (await world.admin(f"/members/{BOB}"))["timeline"]
    assert timeline[0]["detail"]["clock_corrected"]
    return {BOB}


@story
async def s06_event_30_days_old(world: World) -> set[str]:
    await send(world, enter(world, ago=30 * DAY), enter(world, BOB, BOB_ID, ago=30 * DAY))
    await send(world, leave(world, ago=29 * DAY))
    return {BOB}


@story
async def s07_array_with_one_bad_item(world: World) -> set[str]:
    answer = await world.send([enter(world), {"data": {"email": BOB}}, enter(world, BOB, BOB_ID)])
    assert answer.json() == {"accepted": 2, "ignored": 0, "rejected": 1}
    (event,) = (await world.admin("/rejected-events"))["items"]
    assert event["reason"] == "no_segment_events"
    assert "Export Fields" in event["next_step"]
    return {ADA, BOB}


@story
async def s08_truncated_body(world: World) -> set[str]:
    whole = world.http.build_request("POST", HOOK, json=enter(world)).content
    answer = await world.http.post(HOOK, content=whole[: len(whole) // 2], headers={"Authorization": WEBHOOK_TOKEN})
    assert (answer.status_code, answer.json()["reason"]) == (400, "not_json")
    assert len((await world.admin("/rejected-events"))["items"]) == 1
    await send(world, enter(world))
    return {ADA}


@story
async def s09_body_over_the_limit(world: World) -> set[str]:
    answer = await world.http.post(HOOK, content=b"[" * (17 * 1024 * 1024), headers={"Authorization": WEBHOOK_TOKEN})
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
    (event,) = (await world.admin("/rejected-events"))["items"]
    assert "Batch Size" in event["next_step"]
    await send(world, enter(world))
    return {ADA}


@story
async def s10_wrong_token(world: World) -> set[str]:
    for token in ("", "not-a-token-of-this-service"):
        answer = await world.http.post(HOOK, json=enter(world), headers={"Authorization": token})
        assert answer.status_code == 401
    assert (await world.admin("/rejected-events"))["items"] == []
    assert (await world.admin("/exports"))["items"][0]["counts"]["accepted"] == 0
    return set()


@story
async def s11_old_token_during_rotation(world: World) -> set[str]:
    """Both tokens are accepted during the rotation. Afterwards the old token is refused."""
    new = "the-new-webhook-token"
    world.different["webhook_tokens"] = f"old:{WEBHOOK_TOKEN},new:{new}"
    await world.die()
    await send(world, enter(world))
    answer = await world.http.post(HOOK, json=enter(world, BOB, BOB_ID), headers={"Authorization": new})
    assert answer.status_code == 200
    world.different["webhook_tokens"] = f"new:{new}"
    await world.die()
    assert (await world.send(leave(world))).status_code == 401
    return {ADA, BOB}


@story
async def s12_flood_of_enters(world: World) -> set[str]:
    """A Lytics backfill sends an enter for each member, in batches. A member that leaves meanwhile is removed."""
    people = [f"crowd{n}@example.com" for n in range(size(250, 1000))]
    for start in range(0, len(people), 250):
        batch = [enter(world, address, str(start + n)) for n, address in enumerate(people[start : start + 250])]
        await send(world, batch, accepted=250)
    await send(world, leave(world, people[7], "7", ago=timedelta(0)))
    return {*people} - {people[7]}


# Audience


@story
async def s17_two_audiences_one_list_name(world: World) -> set[str]:
    """The second export waits until it has its own name. None of its members joins the first list."""
    other = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", SPRING_BUYERS.name, "spring_buyers_1")
    world.lytics.put(other)
    await send(world, enter(world), webhooks.enter(BOB, other, at=world.clock()))
    await world.sleep(30)
    _, export = (await world.admin("/exports"))["items"]
    assert (export["state"], export["counts"]["pending"]) == ("name_taken", 1)
    await world.admin(f"/exports/{export['id']}", method="PATCH", json={"name": "Spring Buyers of last year"})
    await wait_until_delivered(world)
    assert world.sailthru.members("Lytics Spring Buyers of last year") == {BOB}
    return {ADA}


@story
async def s18_long_name_with_dollar_and_emoji(world: World) -> set[str]:
    name = "$pring 🌷 Buyers " + "of the year " * 12
    other = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", name, "long")
    world.lytics.put(other)
    await send(world, webhooks.enter(BOB, other, at=world.clock()))
    await wait_until_delivered(world)
    _, export = (await world.admin("/exports"))["items"]
    assert export["list"].startswith("Lytics -pring 🌷 Buyers of")
    assert len(export["list"]) <= 120
    assert world.sailthru.members(export["list"]) == {BOB}
    return set()


# Identity


@story
async def s19_address_changed_between_enter_and_exit(world: World) -> set[str]:
    await send(world, enter(world), enter(world, BOB, BOB_ID))
    await wait_until_delivered(world)
    await send(world, leave(world, ADA_NEW, ago=timedelta(0)))
    return {BOB}


@story
async def s20_two_profiles_merged(world: World) -> set[str]:
    """Two users are merged: one leaves without an address, the other enters under a new address."""
    await send(world, enter(world, ago=HOUR), enter(world, BOB, BOB_ID, ago=HOUR))
    await wait_until_delivered(world)
    await send(world, leave(world, None, BOB_ID, ago=MINUTE))
    await send(world, enter(world, ADA_NEW), accepted=1)
    return {ADA_NEW}


@story
async def s21_case_and_spaces(world: World) -> set[str]:
    await send(world, enter(world, f"  {ADA.upper()} "))
    await send(world, leave(world, ADA.title(), ago=timedelta(0)))
    await send(world, enter(world, BOB.upper(), BOB_ID))
    return {BOB}


@story
async def s22_no_address(world: World) -> set[str]:
    await send_refused(world, enter(world, None), 400, "no_usable_address")
    await send_refused(world, enter(world, "not an address"), 400, "no_usable_address")
    await send(world, enter(world, BOB, BOB_ID, ago=MINUTE))
    await wait_until_delivered(world)
    await send(world, leave(world, None, BOB_ID))
    assert len((await world.admin("/rejected-events"))["items"]) == 2
    return set()


@story
async def s23_erased_person_enters_again(world: World) -> set[str]:
    world.different["erasure_key"] = "a-key-that-is-kept-elsewhere"
    await world.die()
    await send(world, enter(world, ago=HOUR), enter(world, BOB, BOB_ID))
    await wait_until_delivered(world)
    erased = await world.admin(f"/members/{ADA}?leave_lists=true", method="DELETE")
    assert erased == {"erased": True, "leaving": [LIST]}
    await world.sleep(60)
    assert world.sailthru.members(LIST) == {BOB}
    await send(world, enter(world), enter(world, ADA_NEW), accepted=0)
    return {BOB}


# Sailthru


def after(fault: AnyFault, *, times: int = 1, may_repeat: bool = False) -> Story:
    """Return a story in which the first calls meet a fault. The member still joins the list exactly once."""

    async def run(world: World) -> set[str]:
        answer_once(world, fault, times=times)
        await send(world, enter(world))
        await wait_until_delivered(world)
        rejoins = world.account()["rejoins"]
        assert rejoins == {} or may_repeat
        assert world.account()["faults"]
        return {ADA}

    return run


STORIES |= {
    "s24_429_with_headers": after(Error(status=429, code=43, text="Too many")),
    "s25_429_without_headers": after(Error(status=429, code=43, text="Too many", with_rate_headers=False)),
    "s26_500_with_error_9": after(Error(), times=3),
    "s26_500_with_error_9_although_applied": after(Error(applied=True)),
    "s27_503_with_html": after(Html(status=503), times=3),
    "s28_200_with_a_temporary_error": after(Error(status=200)),
    "s29_html_instead_of_json": after(Html(status=200)),
    "s29_html_instead_of_json_although_applied": after(Html(status=200, applied=True)),
    "s29_empty_body_instead_of_json": after(Empty(status=200)),
    "s30_timeout_applied": after(Hang()),
    "s30_timeout_applied_late": after(Hang(apply_after=20)),
    "s31_timeout_not_applied": after(Hang(applied=False), times=2),
    "s32_connection_reset": after(Reset(applied=False)),
    "s32_connection_reset_although_applied": after(Reset()),
}


@story
async def s30_timeout_applied_late_while_reads_lag(world: World) -> set[str]:
    """The call is applied just before its lease ends. A read four seconds later does not show it yet."""
    world.sailthru.switches.stale_read_seconds = 4
    return await after(Hang(apply_after=29))(world)


@story
async def s28_200_with_an_error_of_the_record(world: World) -> set[str]:
    """The member becomes a dead letter with a next step. Others are delivered. A second redrive changes nothing."""
    world.sailthru.faults.set([Rule(Error(status=200, code=99, text="Invalid email"), ids=frozenset({ADA}))])
    await send(world, enter(world), enter(world, BOB, BOB_ID))
    await wait_until_delivered(world)
    assert world.sailthru.members(LIST) == {BOB}
    (letter,) = (await world.admin("/dead-letters"))["items"]
    assert (letter["email"], letter["code"]) == (ADA, "99")
    assert "Lytics" in letter["next_step"]
    world.sailthru.faults.set([])
    redriven = [await world.admin("/dead-letters/redrive", method="POST", json={"code": "99"}) for _ in range(2)]
    assert redriven == [{"redriven": 1}, {"redriven": 0}]
    return {ADA, BOB}


@story
async def s33_key_revoked(world: World) -> set[str]:
    """The circuit breaker opens without dead letters. Delivery resumes once the key is accepted again."""
    world.sailthru.faults.set([Rule(Error(status=401, code=3, text="Invalid API key"))])
    await send(world, enter(world), enter(world, BOB, BOB_ID))
    await world.sleep(2 * 3600)
    assert (await world.admin("/health/ready"))["accounts"] == {"default": "refused"}
    assert (await world.admin("/dead-letters"))["items"] == []
    world.sailthru.faults.set([])
    return {ADA, BOB}


@story
async def s34_permission_missing(world: World) -> set[str]:
    """The key may not create lists. Members of the list wait without dead letters, and others are delivered."""
    other = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Autumn Buyers", "autumn")
    world.lytics.put(other)
    denied = Rule(Error(status=403, code=99, text="Not allowed"), endpoints=frozenset({"/list"}))
    world.sailthru.faults.set([denied])
    await send(world, webhooks.enter(BOB, other, at=world.clock()), enter(world))
    await world.sleep(10 * 3600)
    assert (await world.admin("/health/ready"))["accounts"] == {"default": "running"}
    assert (await world.admin("/dead-letters"))["items"] == []
    world.sailthru.faults.set([])
    await wait_until_delivered(world)
    assert world.sailthru.members("Lytics Autumn Buyers") == {BOB}
    return {ADA}


@story
async def s35_list_deleted_by_a_person(world: World) -> set[str]:
    """The next join creates the list again. Earlier members stay missing, which the list monitor reports."""
    await send(world, enter(world))
    await wait_until_delivered(world)
    world.sailthru.account(API_KEY).lists.clear()
    await send(world, enter(world, BOB, BOB_ID))
    return {BOB}


@story
async def s36_person_opted_out(world: World) -> set[str]:
    """Opted-out members stay on lists, and their opt-out is never written. A refused member is explained."""
    account = world.sailthru.account(API_KEY)
    profile = account.create()
    account.set_key(profile, "email", ADA)
    profile.optout_email = "all"
    world.sailthru.faults.set([Rule(Error(status=400, code=35, text="Known hardbounce"), ids=frozenset({BOB}))])
    await send(world, enter(world), enter(world, BOB, BOB_ID))
    await wait_until_delivered(world)
    assert profile.optout_email == "all"
    (letter,) = (await world.admin("/dead-letters"))["items"]
    assert (letter["email"], letter["code"]) == (BOB, "35")
    assert "bounce" in letter["happened"]
    return {ADA}


# The service itself


@story
async def s41_kill_9_after_any_commit(world: World) -> set[str]:
    """The process dies at each commit in the delivery of an enter and of an exit."""
    people = {f"crowd{n}@example.com" for n in range(12)}
    for commits, address in enumerate(sorted(people)):
        await send(world, enter(world, address, str(commits), ago=MINUTE))
        world.life.commits_left = commits % 6 + 1
        await until_dead(world)
    await wait_until_delivered(world)
    for commits, address in enumerate(sorted(people)[:6]):
        await send(world, leave(world, address, str(commits)))
        world.life.commits_left = commits + 1
        await until_dead(world)
    return people - set(sorted(people)[:6])


@story
async def s41_kill_9_while_a_call_is_carried_out(world: World) -> set[str]:
    """The next process does not read the member while the call of the dead process may still be applied."""
    world.sailthru.switches.stale_read_seconds = 4
    answer_once(world, Hang(apply_after=29))
    await send(world, enter(world))
    await world.sleep(1)
    await world.die()
    await wait_until_delivered(world)
    assert world.account()["rejoins"] == {}
    return {ADA}


async def until_dead(world: World) -> None:
    """Wait until the process dies at the chosen commit, or kill it after a minute."""
    try:
        await world.sleep(60)
    except Died:
        await world.restart()
    else:
        await world.die()


@story
async def s44_clock_jumps(world: World) -> set[str]:
    """The clock jumps by an hour in both directions, also during a call."""
    for number, hours in enumerate((1, 0, -1, 0, 1, -1, 0)):
        address = f"crowd{number}@example.com"
        world.sailthru.set_latency(10, 0)
        await send(world, webhooks.enter(address, at=world.real_clock()))
        await world.sleep(5)
        world.step = hours * HOUR
        await world.sleep(20)
        world.sailthru.set_latency(0.15, 0.05)
        now = world.real_clock()
        await send(world, webhooks.enter(ADA, at=now - 2 * SECOND), webhooks.exit_(ADA, at=now - SECOND))
    return {f"crowd{number}@example.com" for number in range(7)}


@story
async def s44_clock_far_ahead_for_a_while(world: World) -> set[str]:
    """The wrong clock moves a retry and a probe to next month. Both run within hours."""
    world.sailthru.faults.set([Rule(Error(), ids=frozenset({ADA}))])
    await send(world, enter(world))
    world.step = 30 * DAY
    await world.sleep(20)
    world.sailthru.faults.set([Rule(Error(status=401, code=3, text="Invalid API key"))])
    await send(world, enter(world, BOB, BOB_ID, ago=30 * DAY))
    await world.sleep(600)
    world.step = timedelta(0)
    world.sailthru.faults.set([])
    await world.work_until_delivered(patience=2 * HOUR)
    return {ADA, BOB}


@story
async def s45_two_workers_claim_a_member(world: World) -> set[str]:
    """One worker sleeps for longer than its lease. It makes no call when it wakes up."""
    await send(world, enter(world, BOB, BOB_ID))
    await wait_until_delivered(world)
    world.step = -HOUR
    service = world.service
    await send(world, webhooks.enter(ADA, at=world.clock()))
    world.step = timedelta(0)
    (claim,) = await service.stores.members.claim("default", capacity=Capacity(1, 1), lease_for=timedelta(seconds=1))
    await world.sleep(60)
    await wait_until_delivered(world)
    calls = await posts(world)
    delivered = await service.accounts["default"].deliverer.deliver(claim)
    assert delivered.due_at is None
    assert await posts(world) == calls
    return {ADA, BOB}
