"""Rate-limited calls through the real client and the sandbox, in virtual time."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx
import pytest

from app.domain.errors import CallFailed, LimitReached, NotSent, OutcomeUnknown, ShareUsedUp, StoreUnavailable
from app.domain.rate_limit.bucket import LARGEST_BATCH
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import ShareGrant, ShareRequest, Taken, allocate
from app.sailthru.client import Method, SailthruClient
from app.sailthru.protocol import Credentials, RateLimit
from app.sailthru.rate_limit import RateLimitedClient, learn_from_headers
from app.sandbox.sailthru import Access, SailthruSandbox
from tests.factories import ACCOUNT, MINUTE, NOON, SECOND
from tests.virtual_time import LoopClock, run

SHARE = 0.8
# The limit of the scenes. It is small, so that a minute of virtual time needs few calls.
SCENE_LIMIT = 200
SCENE_OURS = int(SCENE_LIMIT * SHARE)
FOREIGN = int(SCENE_LIMIT * 0.3)
# The limit of all other tests.
LIMIT = 600
OURS = int(LIMIT * SHARE)
LANES = 64


def even(minute: int) -> list[float]:
    return [n * 60 / FOREIGN for n in range(FOREIGN)]


def burst(minute: int) -> list[float]:
    return [5.0] * FOREIGN


def no_calls(minute: int) -> list[float]:
    return []


def only_first(minute: int) -> list[float]:
    return even(minute) if minute == 0 else []


def from_third(minute: int) -> list[float]:
    return even(minute) if minute >= 2 else []


@dataclass
class Tally:
    """The calls that Sailthru counted, per minute of its clock."""

    ours: Counter[int] = field(default_factory=Counter)
    ours_refused: int = 0
    foreign: Counter[int] = field(default_factory=Counter)
    foreign_refused_at: list[datetime] = field(default_factory=list)

    def usable(self, minute: int) -> int:
        return min(SCENE_OURS, SCENE_LIMIT - self.foreign[minute])

    def use(self, minute: int) -> float:
        return self.ours[minute] / self.usable(minute)


@dataclass
class Scene:
    """A backlog of members, another tool that calls for the same account, and two clocks that may differ.

    Args:
        foreign: the seconds of a minute of Sailthru's clock at which the other tool makes calls.
        ahead: the time by which Sailthru's clock is ahead of ours.
        starts: the time within Sailthru's minute at which the backlog starts.
    """

    foreign: Callable[[int], list[float]] = no_calls
    ahead: timedelta = timedelta(0)
    starts: timedelta = timedelta(0)
    minutes: int = 5
    members: int = 5 * SCENE_LIMIT

    def play(self) -> Tally:
        return run(self._play())

    async def _play(self) -> Tally:
        theirs, tally, limiter = LoopClock(NOON + self.starts), Tally(), RateLimiter(SHARE)
        ours = LoopClock(NOON + self.starts - self.ahead)
        sandbox = SailthruSandbox(
            {"our_key": Access("our_secret", "one"), "foreign_key": Access("foreign_secret", "one")},
            limits={("POST", "/user"): SCENE_LIMIT},
            clock=theirs,
            latency=(0.15, 0.05),
            dice=random.Random(7),
        )
        learn = learn_from_headers(limiter, ours)

        def count_ours(method: Method, endpoint: str, rate: RateLimit) -> None:
            learn(method, endpoint, rate)
            tally.ours[minute_of(rate)] += 1

        def count_foreign(method: Method, endpoint: str, rate: RateLimit) -> None:
            tally.foreign[minute_of(rate)] += 1

        async with (
            client("our", sandbox, count_ours) as our,
            client("foreign", sandbox, count_foreign) as foreign,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._call_from_other_tool(foreign, theirs, tally))
            tasks.create_task(self._work_off(RateLimitedClient(our, limiter, clock=ours), theirs, ours, tally))
        return tally

    async def _call_from_other_tool(self, client: SailthruClient, theirs: LoopClock, tally: Tally) -> None:
        async def call(address: str) -> None:
            try:
                await client.call("POST", "user", {"id": address})
            except LimitReached:
                tally.foreign_refused_at.append(theirs())

        async with asyncio.TaskGroup() as calls:
            for minute in range(self.minutes):
                for n, second in enumerate(self.foreign(minute)):
                    wait = NOON + minute * MINUTE + second * SECOND - theirs()
                    if wait >= timedelta(0):
                        await asyncio.sleep(wait.total_seconds())
                        calls.create_task(call(f"foreign{n}@example.com"))

    async def _work_off(self, limited: RateLimitedClient, theirs: LoopClock, ours: LoopClock, tally: Tally) -> None:
        busy = asyncio.Semaphore(LANES)

        async def write(member: int) -> None:
            try:
                await limited.call("POST", "user", {"id": f"member{member}@example.com"})
            except LimitReached:
                tally.ours_refused += 1
            finally:
                busy.release()

        waiting = self.members
        async with asyncio.TaskGroup() as calls:
            while theirs() < NOON + self.minutes * MINUTE and waiting:
                await busy.acquire()
                if limited.room():
                    calls.create_task(write(waiting))
                    waiting -= 1
                    await asyncio.sleep(0)
                else:
                    busy.release()
                    await asyncio.sleep((limited.opens_at() - ours()).total_seconds())


def client(
    name: str, sandbox: SailthruSandbox, on_rate_limit: Callable[[Method, str, RateLimit], None]
) -> SailthruClient:
    return SailthruClient(
        Credentials(f"{name}_key", f"{name}_secret", "http://sandbox"),
        transport=lambda: httpx.ASGITransport(sandbox),
        lanes=max(LANES, FOREIGN),
        on_rate_limit=on_rate_limit,
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
        "no other tool",
        "evenly",
        "in one burst",
        "in the first minute only",
        "from the third minute on",
        "evenly, Sailthru's clock ahead",
        "evenly, Sailthru's clock behind",
        "in one burst, Sailthru's clock behind",
        "evenly, begun within a minute, clock behind",
        "no other tool, begun at a minute's end",
    ],
)
def test_backlog_uses_97_percent_of_our_share_and_causes_no_refusal(scene: Scene) -> None:
    """The share counts from the second minute on. Neither the other tool's calls nor ours are refused."""
    tally = scene.play()

    use = {minute: tally.use(minute) for minute in range(1, scene.minutes)}
    assert min(use.values()) >= 0.97, use
    assert max(tally.ours.values()) <= SCENE_OURS
    assert tally.ours_refused == 0
    assert tally.foreign_refused_at == []


def test_backlog_uses_97_percent_of_first_minute() -> None:
    """The limiter does not know yet that another tool calls."""
    tally = Scene(foreign=even, minutes=1).play()

    assert tally.use(0) >= 0.97
    assert (tally.ours_refused, tally.foreign_refused_at) == (0, [])


class Scripted:
    """A client whose calls end on demand, each with a given result."""

    def __init__(self, limiter: RateLimiter, clock: Callable[[], datetime]) -> None:
        self.calls: list[tuple[str, str]] = []
        self.under_way: list[asyncio.Future[RateLimit | CallFailed]] = []
        self._learn = learn_from_headers(limiter, clock)

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        self.calls.append((method, endpoint))
        end: asyncio.Future[RateLimit | CallFailed] = asyncio.get_running_loop().create_future()
        self.under_way.append(end)
        outcome = await end
        if isinstance(outcome, CallFailed):
            raise outcome
        self._learn(method, endpoint, outcome)
        return {"ok": True}

    async def end(self, outcome: RateLimit | CallFailed) -> None:
        self.under_way.pop(0).set_result(outcome)
        await settled()


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def limited_and_client(clock: Callable[[], datetime] = lambda: NOON) -> tuple[RateLimitedClient, Scripted]:
    limiter = RateLimiter(SHARE)
    client = Scripted(limiter, clock)
    return RateLimitedClient(client, limiter, clock=clock), client


def reported(remaining: int) -> RateLimit:
    return RateLimit(LIMIT, remaining, NOON + MINUTE)


async def test_one_member_is_written_until_limit_is_known() -> None:
    """The next write is refused at once and never sent."""
    limited, client = limited_and_client()
    first = asyncio.create_task(limited.call("POST", "user", {}))
    await settled()

    with pytest.raises(ShareUsedUp) as refused:
        await limited.call("POST", "user", {})

    assert refused.value.code == "over_budget"
    assert refused.value.resets_at == limited.opens_at()
    assert NOON < limited.opens_at() <= NOON + SECOND
    assert limited.room() == 0
    assert client.calls == [("POST", "user")]
    await client.end(reported(LIMIT - 1))
    assert await first == {"ok": True}
    assert limited.room() > 1
    assert limited.opens_at() == NOON
    assert limited.room_left() == {"POST user": limited.room()}


@pytest.mark.parametrize(("method", "endpoint"), [("GET", "user"), ("GET", "list"), ("POST", "list")])
async def test_other_calls_wait_for_first_answer(method: Method, endpoint: str) -> None:
    """Other calls continue when the first answer reports the limit."""
    limited, client = limited_and_client()
    calls = [asyncio.create_task(limited.call(method, endpoint, {})) for _ in range(3)]
    await settled()

    assert len(client.calls) == 1
    await client.end(reported(LIMIT - 1))
    assert len(client.calls) == 3
    await client.end(reported(LIMIT - 2))
    await client.end(reported(LIMIT - 3))
    assert await asyncio.gather(*calls) == [{"ok": True}] * 3


async def test_waiting_calls_leave_one_by_one_while_no_answer_reports_limit() -> None:
    limited, client = limited_and_client()
    calls = [asyncio.create_task(limited.call("GET", "user", {})) for _ in range(3)]
    await settled()
    for sent in (1, 2, 3):
        assert len(client.calls) == sent
        await client.end(OutcomeUnknown("timeout", "No answer."))

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(result) for result in results] == [OutcomeUnknown] * 3


async def test_waiting_call_can_be_cancelled() -> None:
    limited, client = limited_and_client()
    first, second, third = (asyncio.create_task(limited.call("GET", "user", {})) for _ in range(3))
    await settled()
    second.cancel()
    await settled()
    await client.end(reported(LIMIT - 1))

    assert len(client.calls) == 2
    await client.end(reported(LIMIT - 2))
    await asyncio.gather(first, third)


async def test_exhausted_limit_closes_until_window_ends() -> None:
    """The caller gets the error. Later calls are not sent."""
    limited, client = limited_and_client()
    first = asyncio.create_task(limited.call("POST", "user", {}))
    await settled()
    await client.end(LimitReached(43, "Used up.", resets_at=NOON + 30 * SECOND))

    with pytest.raises(LimitReached):
        await first
    assert limited.room() == 0
    assert limited.opens_at() == NOON + 30 * SECOND
    with pytest.raises(ShareUsedUp):
        await limited.call("POST", "user", {})
    with pytest.raises(ShareUsedUp):
        await limited.call("POST", "user", {}, backfill=True)
    assert len(client.calls) == 1


async def test_call_that_was_not_sent_does_not_count() -> None:
    limited, client = limited_and_client()
    first = asyncio.create_task(limited.call("POST", "user", {}))
    await settled()
    await client.end(reported(LIMIT - 1))
    await first
    before = limited.room()
    second = asyncio.create_task(limited.call("POST", "user", {}))
    await settled()

    assert limited.room() == before - 1
    await client.end(NotSent("refused", "Refused."))
    assert limited.room() == before
    with pytest.raises(NotSent):
        await second


class SharedInMemory:
    """A rate limit that several replicas share."""

    def __init__(self) -> None:
        self.taken = Taken()
        self.requested: list[str] = []
        self.is_unavailable = False

    async def take(self, account: str, endpoint: str, request: ShareRequest) -> ShareGrant:
        assert account == ACCOUNT
        if self.is_unavailable:
            raise StoreUnavailable("The database is unavailable.")
        self.requested.append(endpoint)
        # As with a database, other requests may start before the answer to this one.
        await asyncio.sleep(0)
        self.taken, grant = allocate(self.taken, request)
        return grant


def sharing(shared: SharedInMemory) -> tuple[RateLimitedClient, Scripted]:
    limiter = RateLimiter(SHARE, is_shared=True)
    client = Scripted(limiter, lambda: NOON)
    return RateLimitedClient(client, limiter, clock=lambda: NOON, shares=(shared, ACCOUNT)), client


async def call_first(limited: RateLimitedClient, client: Scripted, method: Method) -> None:
    """Make one call. Its answer reports the limit."""
    first = asyncio.create_task(limited.call(method, "user", {}))
    await settled()
    await client.end(reported(LIMIT - 1))
    await first


async def test_call_gets_permit_of_its_endpoint_first() -> None:
    """A prepared call has its permit already."""
    shared = SharedInMemory()
    limited, client = sharing(shared)
    await limited.prepare(8)
    prepared = limited.room()
    member = asyncio.create_task(limited.call("POST", "user", {}))
    read = asyncio.create_task(limited.call("GET", "list", {}))
    await settled()
    await client.end(reported(LIMIT - 1))
    await client.end(reported(LIMIT - 1))
    await asyncio.gather(member, read)
    await limited.prepare(8)

    assert prepared == 1
    assert shared.requested == ["POST user", "GET list", "POST user"]
    assert limited.room() == 8


async def test_concurrent_requests_report_carried_calls_once() -> None:
    """The permit of the first call precedes the first known window, and is counted in that window."""
    shared = SharedInMemory()
    limited, client = sharing(shared)
    await call_first(limited, client, "GET")
    calls: list[asyncio.Task[object]] = []
    for _ in range(3):
        calls += [asyncio.create_task(limited.call("GET", "user", {})) for _ in range(20)]
        for _ in range(4):
            await settled()
    sent = len(client.calls)
    for number in range(1, sent):
        await client.end(reported(LIMIT - 1 - number))
    await asyncio.gather(*calls)

    assert sent == 61
    assert sent <= shared.taken.taken <= sent + LARGEST_BATCH


async def test_call_that_waited_for_answer_requests_its_permit_afterwards() -> None:
    shared = SharedInMemory()
    limited, client = sharing(shared)
    first, second = (asyncio.create_task(limited.call("GET", "user", {})) for _ in range(2))
    await settled()
    before = len(client.calls)
    await client.end(reported(LIMIT - 1))
    await client.end(reported(LIMIT - 2))
    await asyncio.gather(first, second)

    assert (before, len(client.calls), len(shared.requested)) == (1, 2, 2)


async def test_nothing_is_sent_while_shared_limit_is_unavailable() -> None:
    shared = SharedInMemory()
    limited, client = sharing(shared)
    shared.is_unavailable = True

    with pytest.raises(ShareUsedUp, match="cannot be read"):
        await limited.call("POST", "user", {})
    with pytest.raises(StoreUnavailable):
        await limited.prepare(8)
    assert client.calls == []


async def test_calls_taken_by_other_replicas_leave_no_room() -> None:
    shared = SharedInMemory()
    limited, client = sharing(shared)
    await call_first(limited, client, "POST")
    await limited.prepare(0)
    shared.taken = shared.taken._replace(taken=OURS)
    await limited.prepare(8)

    assert limited.room() == 0
    assert limited.opens_at() > NOON
    with pytest.raises(ShareUsedUp):
        await limited.call("POST", "user", {})
