"""The log: one JSON line per event, without an address, a secret or a query."""

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
def restore_logging() -> Iterator[None]:
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


def test_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The line has the event, time, level and logger, and one value per keyword."""
    configure_logs()
    structlog.get_logger("app.tests").warning("list not created yet", export=7, why="unavailable")

    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "list not created yet",
        "level": "warning",
        "logger": "app.tests",
        "export": 7,
        "why": "unavailable",
    }


def test_log_level_applies_to_the_service_and_to_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("WARNING")
    structlog.get_logger("app.tests").info("not shown")
    logging.getLogger("library").info("not shown")
    logging.getLogger("library").warning("shown")

    assert [line["event"] for line in lines(capsys)] == ["shown"]


def test_addresses_are_masked_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """This covers the service, libraries and tracebacks."""
    configure_logs()
    log, event = structlog.get_logger("app.tests"), f"called {ADA}"
    log.info(event, member="Ada.L+x@Example.co.uk", url="https://x.test/user?id=ada%40example.com&y=1")
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


def test_other_values_are_not_changed() -> None:
    event = {"event": "ready", "at": "12:00", "number": 7, "text": "a @ b"}

    assert json.loads(masked_json(event)) == event


@pytest.mark.parametrize(
    "value",
    [
        "ada@example.com",
        ["ada@example.com"],
        {"member": {"nested": "ada@example.com"}},
        "müller@example.com",
        "ada@exämple.com",
        "first line\nada@example.com\nlast line",
        "https://x.test/user?id=ada%40example.com&y=1",
        "<ada@example.com>, (ada+tag@example.com)",
    ],
)
def test_address_is_masked_in_any_value(value: object) -> None:
    """This covers nested values, other alphabets and line breaks. The line stays JSON."""
    line = masked_json({"value": value}, ensure_ascii=False)

    assert "(address)" in json.dumps(json.loads(line))
    assert not any(part in line for part in ("ada", "ller@", "mple.com"))


async def test_httpx_logs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of httpx would contain whole URLs, with the address and the signature."""
    configure_logs("DEBUG")
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport) as http:
        await http.get("https://sailthru.test/user?sig=secret")

    assert [line for line in lines(capsys) if line["logger"].startswith("http")] == []


async def test_access_log_has_route_template_instead_of_path(capsys: pytest.CaptureFixture[str]) -> None:
    """The line contains neither the path's values nor the query. Webhooks and health checks have no line."""
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
