"""Both sandboxes over real HTTP: connections close, held calls hang, signals stop the server."""

import asyncio
import os
import signal
import socket
from urllib.parse import urlencode

import httpx
import pytest

from app.sandbox.lytics import LyticsSandbox
from app.sandbox.sailthru import SailthruSandbox
from app.sandbox.server import serve

from .caller import ADA, GRACE, KEY, SECRET, call, join, signed, until
from .serving import HOST, running


async def test_both_are_served_until_cancelled() -> None:
    async with running() as server, httpx.AsyncClient(base_url=server.url) as http:
        state = await http.get(f"http://{HOST}:{server.ports[1]}/_sandbox/state")
        joined = await join(http, ADA, "Spring")

    assert (state.status_code, joined.status_code) == (200, 200)
    for port in server.ports:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)


async def test_each_answer_has_one_date() -> None:
    """The date of Lytics comes from its simulated clock, that of Sailthru from this machine."""
    async with running() as server, httpx.AsyncClient() as http:
        lytics = await http.get(f"http://{HOST}:{server.ports[1]}/v2/segment")
        sailthru = await http.get(server.url)

    assert len(lytics.headers.get_list("Date")) == len(sailthru.headers.get_list("Date")) == 1


@pytest.mark.parametrize("closes", [True, False])
async def test_connection_closes_after_each_answer(closes: bool) -> None:
    """The header announces it. With the switch off, the connection stays open."""
    query = urlencode(signed({}))
    request = f"GET /list?{query} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    async with running(closes_connections=closes) as server:
        reader, writer = await asyncio.open_connection(HOST, server.ports[0])
        writer.write(request)
        first = await reader.readuntil(b"\r\n0\r\n\r\n")
        if closes:
            rest = await reader.read()
        else:
            writer.write(request)
            rest = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()

    head = first.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 200 ok")
    assert head.count(b"server:") == head.count(b"transfer-encoding:") == 1
    assert (b"\r\nconnection: close" in head) is closes
    assert rest.startswith(b"HTTP/1.1 200 OK") is not closes


@pytest.mark.parametrize(("then", "expected"), [("apply", {ADA, GRACE}), ("drop", {GRACE})])
async def test_client_killed_while_its_call_is_held(then: str, expected: set[str]) -> None:
    """The call counts as abandoned at once. After the release it is applied or dropped."""
    async with running() as server, httpx.AsyncClient(base_url=server.url) as http:
        await http.post("/_sandbox/hold", json={"after": "before", "then": then})
        stays = asyncio.create_task(join(http, GRACE, "Spring"))
        body = urlencode(signed({"id": ADA, "lists": {"Spring": 1}})).encode()
        _, writer = await asyncio.open_connection(HOST, server.ports[0])
        writer.write(b"POST /user HTTP/1.1\r\nHost: sandbox\r\n")
        writer.write(b"Content-Type: application/x-www-form-urlencoded\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await until(lambda: server.sailthru.executor.held == 2)
        writer.transport.abort()
        await until(lambda: server.sailthru.executor.held_abandoned == 1)

        assert (await http.post("/_sandbox/release")).json()["released"] == 2
        assert (await stays).status_code == 200
        await until(lambda: server.sailthru.executor.held == 0)

        assert server.sailthru.members("Spring") == expected


async def test_incomplete_request_is_no_call() -> None:
    """The sandbox neither counts it nor reports an error."""
    async with running() as server, httpx.AsyncClient(base_url=server.url) as http:
        _, writer = await asyncio.open_connection(HOST, server.ports[0])
        writer.write(b"POST /user HTTP/1.1\r\nHost: sandbox\r\nContent-Length: 100\r\n\r\napi_key=")
        await writer.drain()
        writer.transport.abort()

        assert (await call(http, "GET", "/list", {})).status_code == 200
        assert server.sailthru.state()["refused_strangers"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_stop_the_server(number: signal.Signals) -> None:
    """The server stops even while calls are held."""
    async with running() as server, httpx.AsyncClient(base_url=server.url) as http:
        await http.post("/_sandbox/hold")
        held = asyncio.create_task(join(http, ADA, "Spring"))
        await until(lambda: server.sailthru.executor.held == 1)
        os.kill(os.getpid(), number)
        await server.task

        assert (await held).status_code == 200


async def test_signals_may_be_left_to_the_caller() -> None:
    """The server leaves the handlers of its caller in place."""
    received = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, received.set)
    try:
        async with running(handles_signals=False) as server:
            os.kill(os.getpid(), signal.SIGTERM)
            await received.wait()

            assert not server.task.done()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def test_other_threads_leave_signals_alone() -> None:
    """The server runs until it is cancelled."""

    async def main() -> int:
        async with running() as server, httpx.AsyncClient() as http:
            return (await http.get(f"{server.url}/_sandbox/state")).status_code

    assert asyncio.run(_in_thread(main)) == 200


async def _in_thread(main: object) -> int:
    assert callable(main)
    return await asyncio.to_thread(lambda: asyncio.run(main()))


async def test_port_in_use_is_an_error() -> None:
    """The error comes before either sandbox serves."""
    with socket.create_server((HOST, 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve(
            HOST, taken.getsockname()[1], 0, sailthru=SailthruSandbox({KEY: SECRET}), lytics=LyticsSandbox("token")
        )
