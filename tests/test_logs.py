"""The log: one JSON line for each thing, without an address, a secret or a query."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI

from app.logs import configure_logs, masked_json
from app.web.access_log import AccessLog

ADA = "ada@example.com"


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Logging belongs to the whole process: as it was, once a test is over."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


async def nothing() -> dict[str, str]:
    return {}


def test_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What happened, when, how bad, who says so, and the facts as values of their own."""
    configure_logs()
    structlog.get_logger("app.tests").warning("list not made yet", export=7, why="away")

    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "list not made yet",
        "level": "warning",
        "logger": "app.tests",
        "export": 7,
        "why": "away",
    }


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    """LOG_LEVEL counts for our own lines and for those of libraries."""
    configure_logs("WARNING")
    structlog.get_logger("app.tests").info("not shown")
    logging.getLogger("library").info("not shown")
    logging.getLogger("library").warning("shown")

    assert [line["event"] for line in lines(capsys)] == ["shown"]


def test_no_address_gets_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither from our own words, nor from a library's, nor from a trace."""
    configure_logs()
    log, words = structlog.get_logger("app.tests"), f"told {ADA}"
    log.info(words, person="Ada.L+x@Example.co.uk", url="https://x.test/user?id=ada%40example.com&y=1")
    logging.getLogger("library").warning("bad row for %s", ADA)
    try:
        int(ADA)
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed too")

    written = capsys.readouterr().err
    assert "example" not in written.lower()
    assert written.count("base 10: '(address)") + written.count("base 10: (address)") == 2
    assert [json.loads(line)["level"] for line in written.splitlines()] == ["info", "warning", "error", "error"]


def test_what_is_no_address_stays() -> None:
    """Other values are as they were."""
    event = {"event": "ready", "at": "12:00", "number": 7, "text": "a @ b"}

    assert json.loads(masked_json(event)) == event


@pytest.mark.parametrize(
    "value",
    [
        "ada@example.com",
        ["ada@example.com"],
        {"who": {"deep": "ada@example.com"}},
        "müller@example.com",
        "ada@exämple.com",
        "first line\nada@example.com\nlast line",
        "https://x.test/user?id=ada%40example.com&y=1",
        "<ada@example.com>, (ada+tag@example.com)",
    ],
)
def test_an_address_is_masked_wherever_it_stands(value: object) -> None:
    """In lists, in foreign alphabets, beside line ends; the line stays JSON."""
    line = masked_json({"value": value}, ensure_ascii=False)

    assert "(address)" in json.dumps(json.loads(line))
    assert not any(part in line for part in ("ada", "ller@", "mple.com"))


async def test_httpx_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines would hold whole URLs, with address and signature."""
    configure_logs("DEBUG")
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport) as http:
        await http.get("https://sailthru.test/user?sig=secret")

    assert [line for line in lines(capsys) if line["logger"].startswith("http")] == []


async def test_the_access_log_names_the_route_and_not_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    """The template, never what stands in its place, and nothing of the query; webhooks and health checks are left
    out.
    """
    configure_logs()
    app = FastAPI()
    for path in ("/members/{email}", "/webhooks/lytics", "/health/live"):
        app.add_api_route(path, nothing)
    app.add_middleware(AccessLog)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service.test") as http:
        for path in (f"/members/{ADA}?token=secret", "/webhooks/lytics?token=secret", "/health/live", "/secret"):
            await http.get(path)

    shown = [{name: line[name] for name in ("event", "method", "route", "status")} for line in lines(capsys)]
    assert shown == [
        {"event": "request", "method": "GET", "route": "/members/{email}", "status": 200},
        {"event": "request", "method": "GET", "route": "(none)", "status": 404},
    ]
