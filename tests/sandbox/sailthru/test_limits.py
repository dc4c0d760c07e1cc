"""Rate limits, and their headers."""

from datetime import timedelta

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox
from tests.sandbox.caller import ADA, KEY, NOON, SECRET, Clock, account_state, behind, call, join, send, signed

SECOND = timedelta(seconds=1)
NEXT_MINUTE = int(NOON.timestamp()) + 60


def rate(answer: httpx.Response) -> tuple[int, int, int]:
    limit, remaining, reset = (int(answer.headers[f"X-Rate-Limit-{name}"]) for name in ("Limit", "Remaining", "Reset"))
    return limit, remaining, reset


@pytest.mark.parametrize(
    ("method", "endpoint", "limit"),
    [
        ("POST", "/user", 18_000),
        ("POST", "/list", 2_400),
        ("GET", "/user", 18_000),
        ("GET", "/list", 18_000),
        ("DELETE", "/user", 2_400),
        ("DELETE", "/list", 2_400),
    ],
)
async def test_limits_are_the_documented_ones(http: httpx.AsyncClient, method: str, endpoint: str, limit: int) -> None:
    """Each method and endpoint counts separately."""
    for remaining in (limit - 1, limit - 2):
        answer = await call(http, method, endpoint, {"id": ADA, "list": "Spring"})

        assert (limit, remaining, NEXT_MINUTE) == rate(answer)


async def test_limit_ends_with_the_calendar_minute(clock: Clock) -> None:
    """A call over the limit gets error 43 with status 429 and changes nothing."""
    sandbox = SailthruSandbox({KEY: SECRET}, limits={("POST", "/user"): 2}, clock=clock)
    clock.advance(42 * SECOND)
    async with behind(sandbox) as http:
        fitting = [await join(http, ADA, "Spring"), await join(http, ADA, "Summer")]
        clock.advance(17 * SECOND)
        refused = await join(http, ADA, "Autumn")
        elsewhere = await call(http, "GET", "/user", {"id": ADA})
        clock.advance(SECOND)
        fresh = await join(http, ADA, "Winter")

    assert [(answer.status_code, rate(answer)[1]) for answer in fitting] == [(200, 1), (200, 0)]
    assert refused.status_code == 429
    assert refused.json() == {"error": 43, "errormsg": "Too many POST requests this minute to /user API"}
    assert rate(refused) == (2, 0, NEXT_MINUTE)
    assert elsewhere.status_code == 200
    assert (fresh.status_code, rate(fresh)) == (200, (2, 1, NEXT_MINUTE + 60))
    assert {"Spring", "Summer", "Winter"} == sandbox.account(KEY).list_names()
    assert account_state(sandbox)["answers"]["POST /user"] == {"200": 3, "429": 1}


async def test_every_answer_has_rate_headers(http: httpx.AsyncClient) -> None:
    """Errors have them too. A call that an earlier check refuses does not count."""
    unsigned = {**signed({"id": ADA}), "sig": "0"}
    counted = [await call(http, "GET", "/user", {"id": ADA}) for _ in range(2)]
    stranger = await http.get("/user")
    nowhere = await http.get("/nowhere")
    forged = await send(http, "GET", "/user", unsigned)

    assert [rate(answer)[1] for answer in counted] == [17_999, 17_998]
    assert (18_000, 18_000, NEXT_MINUTE) == rate(stranger) == rate(nowhere)
    assert rate(forged) == (18_000, 17_998, NEXT_MINUTE)
