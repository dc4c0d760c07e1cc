"""Faults over real HTTP: connections break, and hanging calls last until the client disconnects."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest

from app.sandbox.faults import AnyFault, Half, Hang, Html, Reset, Slow
from app.sandbox.rules import Rule

from .caller import ADA, GRACE, account_state, join, signed, until
from .serving import HOST, Running, running

BODY = urlencode(signed({"id": ADA, "lists": {"Spring": 1}})).encode()
REQUEST = (
    b"POST /user HTTP/1.1\r\nHost: sandbox\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: %d\r\n\r\n%s"
) % (len(BODY), BODY)


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> object:
    """Check that the server logs no error."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []


@contextlib.asynccontextmanager
async def asked(server: Running, fault: AnyFault) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection and send Ada's join, which meets the fault."""
    server.sailthru.faults.set([Rule(fault, ids=frozenset({ADA}))])
    reader, writer = await asyncio.open_connection(HOST, server.ports[0])
    writer.write(REQUEST)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def all_is_well(server: Running) -> bool:
    async with httpx.AsyncClient(base_url=server.url) as http:
        return (await join(http, GRACE, "Summer")).status_code == 200


@pytest.mark.parametrize("applied", [True, False])
async def test_reset_ends_the_connection_without_a_byte(applied: bool) -> None:
    async with running() as server, asked(server, Reset(applied=applied)) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()

        assert server.sailthru.members("Spring") == ({ADA} if applied else set())
        assert await all_is_well(server)


@pytest.mark.parametrize("closes", [True, False])
async def test_half_answer_closes_the_connection(closes: bool) -> None:
    """The headers announce more than is sent."""
    async with running(closes_connections=closes) as server, asked(server, Half()) as (reader, _):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body == b'6\r\n{"ok":\r\n'
        assert server.sailthru.members("Spring") == {ADA}
        assert await all_is_well(server)


@pytest.mark.parametrize("fault", [Half(), Reset()])
async def test_client_sees_a_failed_call(fault: AnyFault) -> None:
    async with running() as server, httpx.AsyncClient(base_url=server.url) as http:
        server.sailthru.faults.set([Rule(fault, times=1)])
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await join(http, ADA, "Spring")

        assert (await join(http, ADA, "Spring")).status_code == 200


@pytest.mark.parametrize(
    ("fault", "at_once", "in_the_end"),
    [
        (Hang(), True, True),
        (Hang(applied=False), False, False),
        (Hang(apply_after=0.2), False, True),
    ],
)
async def test_hang_ends_when_the_client_disconnects(fault: Hang, at_once: bool, in_the_end: bool) -> None:
    """The hang ends at once, even if the call is not applied yet."""
    async with running() as server, asked(server, fault) as (reader, writer):
        answer = asyncio.create_task(reader.read())
        await until(lambda: account_state(server.sailthru)["faults"] == {"hang": 1})
        await until(lambda: (ADA in server.sailthru.members("Spring")) is at_once)

        assert await all_is_well(server)
        assert not answer.done()

        writer.transport.abort()
        await until(lambda: not server.sailthru._tasks)

        assert (ADA in server.sailthru.members("Spring")) is in_the_end
        assert await answer == b""
        assert await all_is_well(server)


@pytest.mark.parametrize("fault", [Hang(apply_after=3600), Slow(seconds=3600)])
async def test_waiting_calls_do_not_delay_shutdown(fault: AnyFault) -> None:
    """Their connections are reset, and no task is left."""
    async with running() as server, asked(server, fault) as (reader, _):
        await until(lambda: bool(server.sailthru._tasks))
        server.task.cancel()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(asyncio.CancelledError):
            await server.task

        assert not server.sailthru._tasks
        assert server.sailthru.members("Spring") == set()


async def test_lytics_breaks_connections_too() -> None:
    """The faults are a reset, half an answer, a hang and an HTML page."""
    async with running() as server, httpx.AsyncClient(base_url=f"http://{HOST}:{server.ports[1]}") as http:
        http.headers["Authorization"] = "token"
        faults: list[AnyFault] = [Reset(), Half(), Html()]
        server.lytics.faults.set([*(Rule(fault, times=1) for fault in faults), Rule(Hang())])
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await http.get("/v2/segment")
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/v2/segment")
        page = await http.get("/v2/segment")
        hanging = asyncio.create_task(http.get("/v2/segment"))
        await until(lambda: server.lytics.state()["faults"] == {"reset": 1, "half": 1, "html": 1, "hang": 1})

        assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")
        assert not hanging.done()

        hanging.cancel()
        server.lytics.faults.set([])
        assert (await http.get("/v2/segment")).status_code == 200
