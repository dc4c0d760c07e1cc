"""Every kind of fault, for a client in this process, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.sandbox.faults import AnyFault, Empty, Error, Half, Hang, Html, Reset, Slow, Xml
from app.sandbox.rules import FaultMix, Rule
from app.sandbox.sailthru import SailthruSandbox
from tests.sandbox.caller import ADA, GRACE, KEY, NOON, SECRET, account_state, behind, call, join, until
from tests.virtual_time import LoopClock, run

Scene = Callable[[SailthruSandbox, httpx.AsyncClient], Awaitable[None]]


def play(scene: Scene, **different: Any) -> None:
    """Run a scene with a new sandbox. Its clock is the loop's virtual time."""

    async def main() -> None:
        sandbox = SailthruSandbox({KEY: SECRET}, clock=LoopClock(NOON), **different)
        async with behind(sandbox) as http:
            await scene(sandbox, http)

    run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


XML_ERROR = (
    '<?xml version="1.0" encoding="utf-8"?><triggermail><error>4</error><errormsg>R&amp;D</errormsg></triggermail>'
)


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "content"),
    [
        (Error(), 500, "application/json", '{"error": 9, "errormsg": "Internal error"}'),
        (Error(status=200, code=99, text="No"), 200, "application/json", '{"error": 99, "errormsg": "No"}'),
        (Error(status=429, code=43), 429, "application/json", '{"error": 43, "errormsg": "Internal error"}'),
        (Xml(status=403, code=4, text="R&D"), 403, "text/xml", XML_ERROR),
        (Html(status=503), 503, "text/html", "<h1>503 Service Unavailable</h1>"),
        (Html(status=520), 520, "text/html", "<h1>520</h1>"),
        (Empty(status=200), 200, "text/html", ""),
    ],
)
async def test_fault_replaces_the_answer(
    fault: Error | Xml | Html | Empty, status: int, content_type: str, content: str
) -> None:
    """The answer does not depend on whether the call is applied. The call counts against the rate limit."""
    for applied in (True, False):
        sandbox = SailthruSandbox({KEY: SECRET})
        sandbox.faults.set([Rule(replace(fault, applied=applied), times=1)])
        async with behind(sandbox) as http:
            answer = await join(http, ADA, "Spring")
            after = await call(http, "POST", "/user", {"id": GRACE})
        entry = account_state(sandbox)["calls_log"][0]

        assert (answer.status_code, answer.headers["content-type"]) == (status, content_type)
        assert content in answer.text
        assert bool(content) is bool(answer.text)
        assert [response.headers["X-Rate-Limit-Remaining"] for response in (answer, after)] == ["17999", "17998"]
        assert after.status_code == 200
        assert sandbox.members("Spring") == ({ADA} if applied else set())
        assert (entry["status"], entry["fault"]) == (status, fault.kind)
        assert account_state(sandbox)["faults"] == {fault.kind: 1}


@pytest.mark.parametrize("fault", [Error(), Xml(), Html(), Empty(), Slow(seconds=0)])
async def test_answer_without_rate_headers(sandbox: SailthruSandbox, http: httpx.AsyncClient, fault: AnyFault) -> None:
    sandbox.faults.set([Rule(replace(fault, with_rate_headers=False))])
    answer = await join(http, ADA, "Spring")

    assert not [name for name in answer.headers if name.startswith("x-rate-limit")]


@pytest.mark.parametrize("kind", [Half, Reset])
@pytest.mark.parametrize("applied", [False, True])
async def test_reset_fails_the_call(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, kind: type[Half | Reset], applied: bool
) -> None:
    """The next call succeeds."""
    sandbox.faults.set([Rule(kind(applied=applied), times=1)])

    with pytest.raises(ConnectionResetError):
        await join(http, ADA, "Spring")

    assert sandbox.members("Spring") == ({ADA} if applied else set())
    assert account_state(sandbox)["faults"] == {kind.kind: 1}
    assert (await join(http, GRACE, "Spring")).status_code == 200


async def test_half_answer_ends_in_the_middle(sandbox: SailthruSandbox) -> None:
    """If the call is not applied, the answer is half of `{"ok": true}`."""
    sandbox.faults.set([Rule(Half(), methods=frozenset({"POST"})), Rule(Half(applied=False))])
    transport = httpx.ASGITransport(sandbox, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as http:
        answers = [await call(http, method, "/list", {"list": "Spring"}) for method in ("POST", "GET")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.text for answer in answers] == ['{"list": "Spring", "type": "natural", ', '{"ok":']


@pytest.mark.parametrize(
    ("fault", "at_15", "at_25"),
    [
        (Hang(), True, True),
        (Hang(applied=False), False, False),
        (Hang(apply_after=20), False, True),
    ],
)
def test_hanging_call_gets_no_answer(fault: Hang, at_15: bool, at_25: bool) -> None:
    """The call may be applied before the client disconnects, afterwards, or never."""

    async def scene(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
        sandbox.faults.set([Rule(fault, ids=frozenset({ADA}))])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(15):
                await join(http, ADA, "Spring")

        assert now() == pytest.approx(15)
        assert (ADA in sandbox.members("Spring")) is at_15
        assert account_state(sandbox)["calls_log"][-1]["status"] is None

        await asyncio.sleep(10)

        assert (ADA in sandbox.members("Spring")) is at_25
        assert not sandbox._tasks
        assert (await join(http, GRACE, "Spring")).status_code == 200
        assert account_state(sandbox)["most_at_once_per_person"] == 1

    play(scene)


@pytest.mark.parametrize(("fault", "is_applied"), [(Hang(), True), (Hang(apply_after=3600), False)])
@pytest.mark.parametrize("end", [SailthruSandbox.reset, SailthruSandbox.shut_down])
def test_reset_and_shutdown_end_hanging_calls(
    fault: Hang, is_applied: bool, end: Callable[[SailthruSandbox], None]
) -> None:
    """A call that is not applied yet is never applied."""

    async def scene(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
        sandbox.faults.set([Rule(fault)])
        account = sandbox.account(KEY)
        hanging = asyncio.create_task(join(http, ADA, "Spring"))
        await asyncio.sleep(60)

        assert not hanging.done()

        end(sandbox)
        with pytest.raises(ConnectionResetError):
            await hanging
        assert (ADA in account.members("Spring")) is is_applied
        assert now() == pytest.approx(60)
        assert not sandbox._tasks

    play(scene)


@pytest.mark.parametrize(
    ("fault", "applied_at", "answered_at", "status"),
    [
        (Slow(), 0.5, 1, 200),
        (Slow(seconds=10, apply_after=0), 0, 10, 200),
        (Slow(seconds=10, apply_after=10), 10, 10, 200),
        (Slow(seconds=1, apply_after=10), 10, 10, 200),
        (Html(status=504, seconds=30, applied=True, apply_after=20), 20, 30, 504),
        (Error(seconds=5), None, 5, 500),
    ],
)
def test_slow_answer_is_late(fault: AnyFault, applied_at: float | None, answered_at: float, status: int) -> None:
    """An error may be late too. The usual latency is added."""

    async def scene(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
        sandbox.faults.set([Rule(fault)])
        answer = await join(http, ADA, "Spring")
        joined = [(event.time - NOON).total_seconds() for event in sandbox.account(KEY).lo_events]

        assert answer.status_code == status
        assert now() == pytest.approx(answered_at + 2)
        assert joined == ([] if applied_at is None else [applied_at + 1])

    play(scene, latency=(2, 0))


def test_most_in_a_minute_counts_calendar_minutes() -> None:
    """Calls over the limit and calls with faults count too."""

    async def scene(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
        sandbox.faults.set([Rule(Error(status=429, code=43), times=1)])
        await asyncio.sleep(50)
        for calls in (2, 4, 1):
            for _ in range(calls):
                await call(http, "GET", "/list", {})
            await asyncio.sleep(20)
        state = account_state(sandbox)

        assert (state["most_in_a_minute"], state["over_limit"]) == ({"GET /list": 5}, {"GET /list": 2})
        assert state["answers"] == {"GET /list": {"200": 4, "429": 3}}

    play(scene, limits={("GET", "/list"): 3})


def test_same_seed_repeats_a_random_run() -> None:
    runs = []

    async def scene(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
        sandbox.faults.set(FaultMix(chance=0.5).rules(), seed=3)
        crowd = [asyncio.create_task(_outcome(http, f"{n}@example.com")) for n in range(100)]
        confirmed = await asyncio.gather(*crowd)
        await until(lambda: not sandbox._tasks)
        runs.append((confirmed, sandbox.members("Spring"), account_state(sandbox)["faults"]))

    play(scene, latency=(0.15, 0))
    play(scene, latency=(0.15, 0))

    assert runs[0] == runs[1]
    assert 30 < sum(runs[0][2].values()) < 70
    assert {"hang", "reset", "error", "html"} <= set(runs[0][2])


async def _outcome(http: httpx.AsyncClient, email: str) -> tuple[object, float]:
    try:
        async with asyncio.timeout(15):
            answer = await join(http, email, "Spring")
    except (TimeoutError, ConnectionResetError) as error:
        return type(error), now()
    return answer.status_code, now()
