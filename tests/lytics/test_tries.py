"""Retries: temporary failures are tried again after a wait, other failures are not."""

from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest

from app.domain.errors import CallFailed, CredentialsRefused, LimitReached, NotFound, Permanent, Transient
from app.lytics.protocol import Failure, unreadable, wait_before_next_try
from tests.factories import HOUR, NOON, SECOND
from tests.lytics.clients import Answer, Waits, answering_in_turn, enveloped, response, segment

OK = response(200, enveloped(segment()))


@pytest.mark.parametrize(
    ("tried", "draw", "requested", "wait"),
    [
        (1, 0.0, None, 1),
        (1, 1.0, None, 0.75),
        (2, 0.0, None, 2),
        (2, 0.5, None, 1.75),
        (3, 0.0, None, None),
        (1, 0.0, 0, 1),
        (1, 0.0, 7, 7),
        (2, 1.0, 10, 10),
        (1, 0.0, 10.5, None),
        (3, 0.0, 1, None),
    ],
)
def test_wait_doubles_and_follows_retry_after_up_to_ten_seconds(
    tried: int, draw: float, requested: float | None, wait: float | None
) -> None:
    """There are three tries. The caller handles a wait of more than ten seconds."""
    retry_after = None if requested is None else timedelta(seconds=requested)

    actual = wait_before_next_try(tried, Failure(unreadable(), retry_after), draw=draw)

    assert actual == (None if wait is None else timedelta(seconds=wait))


@pytest.mark.parametrize(
    "failure",
    [
        response(429),
        response(500),
        response(503, b"<html>"),
        response(200, b'{"data": {'),
        httpx.ReadTimeout("x"),
        httpx.ConnectError("x"),
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
    ],
    ids=repr,
)
async def test_call_succeeds_after_two_failures(failure: Answer) -> None:
    waits = Waits()

    async with answering_in_turn(failure, failure, OK, waits=waits, draw=0.4) as client:
        audience = await client.audience("vip")

    assert audience.name == "VIP"
    assert waits == [0.9, 1.8]


async def test_call_fails_with_last_error_after_three_tries() -> None:
    waits = Waits()

    async with answering_in_turn(response(500), response(502), response(503), waits=waits) as client:
        with pytest.raises(Transient) as caught:
            await client.fields()

    assert caught.value.code == 503
    assert waits == [1, 2]


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Permanent), (401, CredentialsRefused), (403, CredentialsRefused), (404, NotFound), (422, Permanent)],
)
async def test_lasting_failure_is_raised_at_once(status: int, error: type[Exception]) -> None:
    waits = Waits()

    async with answering_in_turn(response(status), waits=waits) as client:
        with pytest.raises(error):
            await client.audience("vip")

    assert waits == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "4"}, 4),
        ({"Retry-After": " 10 "}, 10),
        ({"Retry-After": format_datetime(NOON + 5 * SECOND, usegmt=True)}, 5),
        # Lytics' own clock counts if the answer has a Date.
        (
            {
                "Retry-After": format_datetime(NOON + HOUR + 5 * SECOND, usegmt=True),
                "Date": format_datetime(NOON + HOUR, usegmt=True),
            },
            5,
        ),
        ({"Retry-After": format_datetime(NOON - HOUR, usegmt=True)}, 1),
        ({"Retry-After": "soon"}, 1),
        ({"Retry-After": "-3"}, 1),
        ({"Retry-After": "", "Date": "yesterday"}, 1),
    ],
)
async def test_retry_after_is_followed(status: int, headers: dict[str, str], wait: float) -> None:
    """The header holds seconds or a date. An unreadable value is ignored."""
    waits = Waits()

    async with answering_in_turn(response(status, headers=headers), OK, waits=waits) as client:
        await client.audience("vip")

    assert waits == [wait]


@pytest.mark.parametrize(
    ("headers", "resets_after"),
    [
        ({"Retry-After": "11"}, timedelta(seconds=11)),
        ({"Retry-After": "999999999"}, timedelta(days=1)),
        (
            {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT", "Date": "Mon, 01 Jan 0001 00:00:00 GMT"},
            timedelta(days=1),
        ),
    ],
)
async def test_long_retry_after_is_passed_to_caller(headers: dict[str, str], resets_after: timedelta) -> None:
    """The wait is one day at most."""
    async with answering_in_turn(response(429, headers=headers)) as client:
        with pytest.raises(LimitReached) as caught:
            await client.audiences()

    assert caught.value.resets_at == NOON + resets_after


async def test_each_page_of_scan_has_three_tries() -> None:
    waits = Waits()
    page, last = response(200, enveloped([], _next="b")), response(200, enveloped([], _next=""))

    async with answering_in_turn(response(500), page, response(500), response(500), last, waits=waits) as client:
        first = await client.scan("vip", fields=[], start=None)
        second = await client.scan("vip", fields=[], start=first.next)

    assert (first.next, second.next) == ("b", None)
    assert waits == [1, 1, 2]


async def test_stopped_client_tries_once() -> None:
    """A call that waits for its next try ends at once."""
    waits = Waits()

    async with answering_in_turn(response(500), response(502), waits=waits) as client:
        waits.meanwhile = client.stop
        with pytest.raises(Transient) as first:
            await client.audiences()
        with pytest.raises(Transient) as second:
            await client.audiences()

    assert [error.value.code for error in (first, second)] == [500, 502]
    assert waits == [1]


async def test_error_after_three_tries_has_no_context() -> None:
    """Httpx's errors hold the request with its token."""
    error = httpx.ConnectError("x")

    async with answering_in_turn(error, error, error) as client:
        with pytest.raises(CallFailed) as caught:
            await client.audiences()

    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
