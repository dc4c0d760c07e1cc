"""Fixtures for commands in this process, with a real service and a sandbox as other processes."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import Audience
from tests.command_line import CommandLine, Ended
from tests.promises.processes import ADMIN_TOKEN, Sandbox, Service, running, until

ADA, BAD = "ada@example.com", "bad@example.com"
numbers = count(1)


Run = Callable[..., Ended]


def list_of(audience: Audience) -> str:
    return f"Lytics {audience.name}"


def export_of(service: Service, audience: Audience) -> dict[str, Any]:
    items = service.http.get("/exports").raise_for_status().json()["items"]
    (export,) = [item for item in items if item["audience"]["id"] == audience.id]
    return dict(export)


@pytest.fixture(scope="package")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Sandbox]]:
    """Run a service with one delivered member and one dead letter."""
    with running(tmp_path_factory.mktemp("service"), ERASURE_KEY="an-erasure-key-of-the-tests") as (service, sandbox):
        invalid = {"kind": "error", "status": 400, "code": 11, "text": "Invalid email"}
        sandbox.control("faults", rules=[{"fault": invalid, "ids": [BAD], "methods": ["POST"]}])
        # One after the other, because the first answer reports the rate limit.
        service.send_all([webhooks.enter(ADA, at=datetime.now(UTC))])
        service.wait_until_delivered()
        service.send_all([webhooks.enter(BAD, at=datetime.now(UTC))])
        until(service.export, lambda export: export["counts"]["delivered"] and export["counts"]["dead"])
        yield service, sandbox


@pytest.fixture(scope="package")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Sandbox]]:
    """Run a service in which each test starts its own exports."""
    with running(tmp_path_factory.mktemp("workshop"), AUTO_EXPORT="false") as both:
        yield both


@pytest.fixture
def audience(workshop: tuple[Service, Sandbox]) -> Audience:
    """Create an audience without an export in the workshop's Lytics."""
    number = next(numbers)
    audience = Audience(f"a{number:031x}", f"Audience {number}", f"audience_{number}")
    workshop[1].control_lytics("audiences", id=audience.id, name=audience.name, slug=audience.slug)
    return audience


@pytest.fixture
def service(both: tuple[Service, Sandbox]) -> Service:
    return both[0]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with no settings but those given."""
    command_line = CommandLine(monkeypatch, capsys, tmp_path)

    def run(*words: str, **settings: str) -> Ended:
        return command_line.run(*words, settings=settings)

    return run


@pytest.fixture
def ask(run: Run, service: Service) -> Run:
    """Run a command with the address and a token of the service."""

    def ask(*words: str) -> Ended:
        return run(*words, SERVICE_URL=f"http://127.0.0.1:{service.port}", ADMIN_TOKENS=f"mine:{ADMIN_TOKEN}")

    return ask
