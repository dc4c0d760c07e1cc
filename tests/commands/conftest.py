"""The commands in this process, a real service with a sandbox in others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main
from app.sandbox import webhooks
from app.sandbox.audiences import Audience
from app.settings import Settings
from tests.promises.processes import ADMIN_TOKEN, Sandbox, Service, running, until

ADA, BAD = "ada@example.com", "bad@example.com"
numbers = count(1)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def list_of(audience: Audience) -> str:
    """The list that an audience is kept as."""
    return f"Lytics {audience.name}"


def export_of(service: Service, audience: Audience) -> dict[str, Any]:
    """The only export of an audience."""
    items = service.http.get("/exports").raise_for_status().json()["items"]
    (export,) = [one for one in items if one["audience"]["id"] == audience.id]
    return dict(export)


@pytest.fixture(scope="package")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Sandbox]]:
    """A service that has told Ada, and has given up somebody whose address Sailthru does not take."""
    with running(tmp_path_factory.mktemp("service"), ERASURE_KEY="an-erasure-key-of-the-tests") as (service, sandbox):
        invalid = {"kind": "error", "status": 400, "code": 11, "text": "Invalid email"}
        sandbox.tell("faults", rules=[{"fault": invalid, "ids": [BAD], "methods": ["POST"]}])
        # One after the other, so that neither has to wait for the first answer to tell the limit.
        service.send_all([webhooks.enter(ADA, at=datetime.now(UTC))])
        service.wait_until_told()
        service.send_all([webhooks.enter(BAD, at=datetime.now(UTC))])
        until(service.export, lambda export: export["counts"]["delivered"] and export["counts"]["dead"])
        yield service, sandbox


@pytest.fixture(scope="package")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Sandbox]]:
    """A service in which each test starts exports of its own."""
    with running(tmp_path_factory.mktemp("workshop"), AUTO_EXPORT="false") as both:
        yield both


@pytest.fixture
def audience(workshop: tuple[Service, Sandbox]) -> Audience:
    """An audience in the workshop's Lytics that nobody exports yet."""
    number = next(numbers)
    audience = Audience(f"a{number:031x}", f"Audience {number}", f"audience_{number}")
    workshop[1].tell_lytics("audiences", id=audience.id, name=audience.name, slug=audience.slug)
    return audience


@pytest.fixture
def service(both: tuple[Service, Sandbox]) -> Service:
    """The service."""
    return both[0]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as on a machine where nothing is set but what is given."""
    for name in (*(name.upper() for name in Settings.model_fields), "SECRETS_DIR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, **settings: str) -> Ended:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def ask(run: Run, service: Service) -> Run:
    """Runs a command that finds the service: with its address and a token, all that an operator's machine needs."""

    def ask(*words: str) -> Ended:
        return run(*words, SERVICE_URL=f"http://127.0.0.1:{service.port}", ADMIN_TOKENS=f"mine:{ADMIN_TOKEN}")

    return ask
