"""Calls through the real client and the sandbox, in a time that jumps: how much of our share is used, and whom it
harms.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx
import pytest

from app.domain.errors import CallFailed, LimitReached, NotSent, OutcomeUnknown, ShareUsedUp, StoreUnavailable
from app.domain.rate_limit.bucket import LARGEST_BLOCK
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import ShareGrant, ShareRequest, Taken, grant
from app.sailthru.client import Method, SailthruClient
from app.sailthru.protocol import Credentials, RateLimit
from app.sailthru.rate_limit import RateLimitedClient, teach
from app.sandbox.sailthru import Access, SailthruSandbox
from tests.factories import ACCOUNT, MINUTE, NOON, SECOND
from tests.virtual_time import LoopClock, run

LIMIT = 600
SHARE = 0.8
OURS = int(LIMIT * SHARE)
FOREIGN = int(LIMIT * 0.3)
LANES = 64


def even(minute: int) -> list[float]:
    return [n * 60 / FOREIGN for n in range(FOREIGN)]


def burst(minute: int) -> list[float]:
    return [5.0] * FOREIGN


def nobody(minute: int) -> list[float]:
    return []


def only_first(minute: int) -> list[float]:
    return even(minute) if minute == 0 else []


def from_third(minute: int) -> list[float]:
    return even(minute) if minute >= 2 else []


@dataclass
class Tally:
    """What the other end saw, by the minute of its clock since the first call."""

    ours: Counter[int] = field(default_factory=Counter)
    ours_refused: int = 0
    foreign: Counter[int] = field(default_factory=Counter)
    foreign_refused_at: list[datetime] = field(default_factory=list)

    def usable(self, minute: int) -> int:
        return min(OURS, LIMIT - self.foreign[minute])

    def use(self, minute: int) -> float:
        return self.ours[minute] / self.usable(minute)


@dataclass
class Scene:
    """A backlog of members, somebody else who calls for the same account, and how our clock and Sailthru's differ.

    Args:
        foreign: at which seconds of a minute by Sailthru's clock the others call.
        ahead: of our clock, Sailthru's.
        starts: into a minute of Sailthru's.
    """

    foreign: Callable[[int], list[float]] = nobody
    ahead: timedelta = timedelta(0)
    starts: timedelta = timedelta(0)
    minutes: int = 5
    members: int = 3000

    def play(self) -> Tally:
        return run(self._play())

    async def _play(self) -> Tally:
        theirs, tally, budget = LoopClock(NOON + self.starts), Tally(), RateLimiter(SHARE)
        ours = LoopClock(NOON + self.starts - self.ahead)
        sandbox = SailthruSandbox(
            {"our_key": Access("our_secret", "one"), "foreign_key": Access("foreign_secret", "one")},
            limits={("POST", "/user"): LIMIT},
            clock=theirs,
            latency=(0.15, 0.05),
            dice=random.Random(7),
        )
        learn = teach(budget, ours)

        def heard(method: Method, endpoint: str, rate: RateLimit) -> None:
            learn(method, endpoint, rate)
            tally.ours[minute_of(rate)] += 1

        def heard_by_others(method: Method, endpoint: str, rate: RateLimit) -> None:
            tally.foreign[minute_of(rate)] += 1

        async with (
            client("our", sandbox, heard) as our,
            client("foreign", sandbox, heard_by_others) as foreign,
            asyncio.TaskGroup() as all_of_it,
        ):
            all_of_it.create_task(self._others(foreign, theirs, tally))
            all_of_it.create_task(self._work(RateLimitedClient(our, budget, clock=ours), theirs, ours, tally))
        return tally

    async def _others(self, http: SailthruClient, theirs: LoopClock, tally: Tally) -> None:
        async def call(address: str) -> None:
            try:
                await http.call("POST", "user", {"id": address})
            except LimitReached:
                tally.foreign_refused_at.append(theirs())

        async with asyncio.TaskGroup() as calls:
            for minute in range(self.minutes):
                for n, second in enumerate(self.foreign(minute)):
                    wait = NOON + minute * MINUTE + second * SECOND - theirs()
                    if wait >= timedelta(0):
                        await asyncio.sleep(wait.total_seconds())
                        calls.create_task(call(f"foreign{n}@example.com"))

    async def _work(self, within: RateLimitedClient, theirs: LoopClock, ours: LoopClock, tally: Tally) -> None:
        busy = asyncio.Semaphore(LANES)

        async def tell(member: int) -> None:
            try:
                await within.call("POST", "user", {"id": f"member{member}@example.com"})
            except LimitReached:
                tally.ours_refused += 1
            finally:
                busy.release()

        waiting = self.members
        async with asyncio.TaskGroup() as calls:
            while theirs() < NOON + self.minutes * MINUTE and waiting:
                await busy.acquire()
                if within.room():
                    calls.create_task(tell(waiting))
                    waiting -= 1
                    await asyncio.sleep(0)
                else:
                    busy.release()
                    await asyncio.sleep((within.opens_at() - ours()).total_seconds())


def client(name: str, sandbox: SailthruSandbox, heard: Callable[[Method, str, RateLimit], None]) -> SailthruClient:
    return SailthruClient(
        Credentials(f"{name}_key", f"{name}_secret", "http://sandbox"),
        transport=lambda: httpx.ASGITransport(sandbox),
        lanes=max(LANES, FOREIGN),
        on_rate_limit=heard,
    )


def minute_of(rate: RateLimit) -> int:
    return int((rate.resets_at - NOON) / MINUTE) - 1


@pytest.mark.parametrize(
    "scene",
    [
        Scene(),
        Scene(foreign=even),
        Scene(foreign=burst),
        Scene(foreign=only_first),
        Scene(foreign=from_third),
        Scene(foreign=even, ahead=20 * SECOND),
        Scene(foreign=even, ahead=-20 * SECOND),
        Scene(foreign=burst, ahead=-20 * SECOND),
        Scene(foreign=even, ahead=-20 * SECOND, starts=37 * SECOND),
        Scene(starts=57 * SECOND),
    ],
    ids=[
        "nobody else",
        "evenly",
        "in one burst",
        "in the first minute only",
        "from the third minute on",
        "evenly, Sailthru's clock ahead",
        "evenly, Sailthru's clock behind",
        "in one burst, Sailthru's clock behind",
        "evenly, begun within a minute, clock behind",
        "nobody else, begun at a minute's end",
    ],
)
def test_a_backlog_uses_what_others_leave_of_our_share_and_harms_nobody(scene: Scene) -> None:
    """From the second minute on at least 97 % of what is ours, never more than our share, and no call of anybody
    refused, whenever the others call.
    """
    tally = scene.play()

    use = {minute: tally.use(minute) for minute in range(1, scene.minutes)}
    assert min(use.values()) >= 0.97, use
    assert max(tally.ours.values()) <= OURS
    assert tally.ours_refused == 0
    assert tally.foreign_refused_at == []


def test_the_first_minute_is_used_as_well() -> None:
    """Where the backlog waits from its beginning; nobody is known yet who calls beside us."""
    tally = Scene(foreign=even, minutes=1).play()

    assert tally.use(0) >= 0.97
    assert (tally.ours_refused, tally.foreign_refused_at) == (0, [])


class Scripted:
    """A client whose calls end when told to, each as told."""

    def __init__(self, budget: RateLimiter, clock: Callable[[], datetime]) -> None:
        self.calls: list[tuple[str, str]] = []
        self.under_way: list[asyncio.Future[RateLimit | CallFailed]] = []
        self._heard = teach(budget, clock)

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        self.calls.append((method, endpoint))
        end: asyncio.Future[RateLimit | CallFailed] = asyncio.get_running_loop().create_future()
        self.under_way.append(end)
        outcome = await end
        if isinstance(outcome, CallFailed):
            raise outcome
        self._heard(method, endpoint, outcome)
        return {"ok": True}

    async def end(self, outcome: RateLimit | CallFailed) -> None:
        self.under_way.pop(0).set_result(outcome)
        await settled()


async def settled() -> None:
    """Lets every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


def within_and_client(clock: Callable[[], datetime] = lambda: NOON) -> tuple[RateLimitedClient, Scripted]:
    budget = RateLimiter(SHARE)
    client = Scripted(budget, clock)
    return RateLimitedClient(client, budget, clock=clock), client


def confirmed(remaining: int) -> RateLimit:
    return RateLimit(LIMIT, remaining, NOON + MINUTE)


async def test_a_member_is_not_told_beyond_the_budget() -> None:
    """Before anything is known of the limit one call leaves; the next is refused at once and never sent."""
    within, client = within_and_client()
    first = asyncio.create_task(within.call("POST", "user", {}))
    await settled()

    with pytest.raises(ShareUsedUp) as refused:
        await within.call("POST", "user", {})

    assert refused.value.code == "over_budget"
    assert refused.value.resets_at == within.opens_at()
    assert NOON < within.opens_at() <= NOON + SECOND
    assert within.room() == 0
    assert client.calls == [("POST", "user")]
    await client.end(confirmed(LIMIT - 1))
    assert await first == {"ok": True}
    assert within.room() > 1
    assert within.opens_at() == NOON
    assert within.budget_left() == {"POST user": within.room()}


@pytest.mark.parametrize(("method", "endpoint"), [("GET", "user"), ("GET", "list"), ("POST", "list")])
async def test_questions_wait_for_the_first_answer(method: Method, endpoint: str) -> None:
    """A read or the making of a list does not fail because nothing is known of the limit yet: it goes on with the
    answer.
    """
    within, client = within_and_client()
    calls = [asyncio.create_task(within.call(method, endpoint, {})) for _ in range(3)]
    await settled()

    assert len(client.calls) == 1
    await client.end(confirmed(LIMIT - 1))
    assert len(client.calls) == 3
    await client.end(confirmed(LIMIT - 2))
    await client.end(confirmed(LIMIT - 3))
    assert await asyncio.gather(*calls) == [{"ok": True}] * 3


async def test_questions_go_on_one_by_one_when_no_answer_tells_a_limit() -> None:
    within, client = within_and_client()
    calls = [asyncio.create_task(within.call("GET", "user", {})) for _ in range(3)]
    await settled()
    for sent in (1, 2, 3):
        assert len(client.calls) == sent
        await client.end(OutcomeUnknown("timeout", "No answer."))

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(result) for result in results] == [OutcomeUnknown] * 3


async def test_a_waiting_question_can_be_cancelled() -> None:
    within, client = within_and_client()
    first, second, third = (asyncio.create_task(within.call("GET", "user", {})) for _ in range(3))
    await settled()
    second.cancel()
    await settled()
    await client.end(confirmed(LIMIT - 1))

    assert len(client.calls) == 2
    await client.end(confirmed(LIMIT - 2))
    await asyncio.gather(first, third)


async def test_a_used_up_limit_closes_until_its_window_ends() -> None:
    """The error goes on to the caller; what comes after it is not sent."""
    within, client = within_and_client()
    first = asyncio.create_task(within.call("POST", "user", {}))
    await settled()
    await client.end(LimitReached(43, "Used up.", resets_at=NOON + 30 * SECOND))

    with pytest.raises(LimitReached):
        await first
    assert within.room() == 0
    assert within.opens_at() == NOON + 30 * SECOND
    with pytest.raises(ShareUsedUp):
        await within.call("POST", "user", {})
    with pytest.raises(ShareUsedUp):
        await within.call("POST", "user", {}, backfill=True)
    assert len(client.calls) == 1


async def test_a_call_that_never_left_costs_nothing() -> None:
    within, client = within_and_client()
    first = asyncio.create_task(within.call("POST", "user", {}))
    await settled()
    await client.end(confirmed(LIMIT - 1))
    await first
    before = within.room()
    second = asyncio.create_task(within.call("POST", "user", {}))
    await settled()

    assert within.room() == before - 1
    await client.end(NotSent("refused", "Refused."))
    assert within.room() == before
    with pytest.raises(NotSent):
        await second


class Shared:
    """A budget that several processes share, in memory."""

    def __init__(self) -> None:
        self.taken = Taken()
        self.asked: list[str] = []
        self.is_away = False

    async def take(self, account: str, endpoint: str, wish: ShareRequest) -> ShareGrant:
        assert account == ACCOUNT
        if self.is_away:
            raise StoreUnavailable("The database is away.")
        self.asked.append(endpoint)
        # As a database does: whoever asks meanwhile asks before this is answered.
        await asyncio.sleep(0)
        self.taken, given = grant(self.taken, wish)
        return given


def sharing(shared: Shared) -> tuple[RateLimitedClient, Scripted]:
    budget = RateLimiter(SHARE, is_shared=True)
    client = Scripted(budget, lambda: NOON)
    return RateLimitedClient(client, budget, clock=lambda: NOON, tokens=(shared, ACCOUNT)), client


async def call_first(within: RateLimitedClient, client: Scripted, method: Method) -> None:
    """One call, whose answer tells the limit."""
    first = asyncio.create_task(within.call(method, "user", {}))
    await settled()
    await client.end(confirmed(LIMIT - 1))
    await first


async def test_a_call_takes_a_token_first() -> None:
    """Of its own endpoint; what was prepared is there already."""
    shared = Shared()
    within, client = sharing(shared)
    await within.prepare(8)
    prepared = within.room()
    member = asyncio.create_task(within.call("POST", "user", {}))
    question = asyncio.create_task(within.call("GET", "list", {}))
    await settled()
    await client.end(confirmed(LIMIT - 1))
    await client.end(confirmed(LIMIT - 1))
    await asyncio.gather(member, question)
    await within.prepare(8)

    assert prepared == 1
    assert shared.asked == ["POST user", "GET list", "POST user"]
    assert within.room() == 8


async def test_many_who_ask_at_once_tell_what_is_left_to_tell_once() -> None:
    """The token of the first call was taken before any window had a name, and is carried into the first that has
    one.
    """
    shared = Shared()
    within, client = sharing(shared)
    await call_first(within, client, "GET")
    calls: list[asyncio.Task[object]] = []
    for _ in range(3):
        calls += [asyncio.create_task(within.call("GET", "user", {})) for _ in range(20)]
        for _ in range(4):
            await settled()
    sent = len(client.calls)
    for number in range(1, sent):
        await client.end(confirmed(LIMIT - 1 - number))
    await asyncio.gather(*calls)

    assert sent == 61
    assert sent <= shared.taken.taken <= sent + LARGEST_BLOCK


async def test_who_waited_for_an_answer_asks_for_its_token_then() -> None:
    """Before it nobody knew how many there are."""
    shared = Shared()
    within, client = sharing(shared)
    first, second = (asyncio.create_task(within.call("GET", "user", {})) for _ in range(2))
    await settled()
    before = len(client.calls)
    await client.end(confirmed(LIMIT - 1))
    await client.end(confirmed(LIMIT - 2))
    await asyncio.gather(first, second)

    assert (before, len(client.calls), len(shared.asked)) == (1, 2, 2)


async def test_nothing_is_sent_while_nobody_knows_how_much_is_left() -> None:
    shared = Shared()
    within, client = sharing(shared)
    shared.is_away = True

    with pytest.raises(ShareUsedUp, match="is not known"):
        await within.call("POST", "user", {})
    with pytest.raises(StoreUnavailable):
        await within.prepare(8)
    assert client.calls == []


async def test_what_others_have_taken_is_not_sent() -> None:
    shared = Shared()
    within, client = sharing(shared)
    await call_first(within, client, "POST")
    await within.prepare(0)
    shared.taken = shared.taken._replace(taken=OURS)
    await within.prepare(8)

    assert within.room() == 0
    assert within.opens_at() > NOON
    with pytest.raises(ShareUsedUp):
        await within.call("POST", "user", {})
