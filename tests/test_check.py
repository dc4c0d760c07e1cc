"""`check` as a process of its own, against a sandbox of its own: it names the culprit, and shows no secret."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from app.check.findings import Mark
from app.check.store import check_store
from app.settings import Settings
from app.store.moving.server_inspection import ServerInspection
from tests import postgresql
from tests.promises.processes import (
    ADMIN_TOKEN,
    API_KEY,
    API_SECRET,
    LYTICS_TOKEN,
    ROOT,
    WEBHOOK_TOKEN,
    Sandbox,
    Service,
)

WRONG = "nobodys-word-for-it"
ERASURE_KEY = "an-erasure-key-of-the-tests"
SECRETS = (ADMIN_TOKEN, API_KEY, API_SECRET, LYTICS_TOKEN, WEBHOOK_TOKEN, WRONG, ERASURE_KEY, "sig=")
DEFAULT, SHOP = "Sailthru 'default'", "Sailthru 'shop'"


@dataclass
class Checked:
    """What one run said, by what it is about: the mark and the line."""

    code: int
    output: str
    lines: dict[str, str]

    def marks(self) -> dict[str, str]:
        return {about: line[0] for about, line in self.lines.items()}


@dataclass
class Scene:
    """Both ends, and settings that fit them."""

    sandbox: Sandbox
    folder: Path

    def settings(self, **different: str) -> dict[str, str]:
        (self.folder / "data").mkdir(exist_ok=True)
        return {
            "DATABASE_URL": f"sqlite:///{self.folder / 'data' / 'store.db'}",
            "WEBHOOK_TOKENS": WEBHOOK_TOKEN,
            "ADMIN_TOKENS": ADMIN_TOKEN,
            "ERASURE_KEY": ERASURE_KEY,
            "LYTICS_API_TOKEN": LYTICS_TOKEN,
            "LYTICS_BASE_URL": f"http://127.0.0.1:{self.sandbox.lytics_port}",
            "SAILTHRU_API_KEY": API_KEY,
            "SAILTHRU_API_SECRET": API_SECRET,
            "SAILTHRU_BASE_URL": f"http://127.0.0.1:{self.sandbox.port}",
            # A name server that does not answer is not waited for long.
            "RES_OPTIONS": "timeout:1 attempts:1",
        } | different

    def run(self, *words: str, **different: str) -> subprocess.CompletedProcess[str]:
        known = {name.upper() for name in Settings.model_fields}
        outside = {name: value for name, value in os.environ.items() if name not in known}
        done = subprocess.run(
            [sys.executable, "-m", "app", "check", *words],
            cwd=self.folder,
            env={**outside, "PYTHONPATH": str(ROOT), **self.settings(**different)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
        return done

    def check(self, **different: str) -> Checked:
        done = self.run(**different)
        assert done.stderr == ""
        lines = {}
        for line in done.stdout.splitlines():
            about = line[2:].split("  ")[0]
            lines[about] = line
        return Checked(done.returncode, done.stdout, lines)

    def fail(self, status: int, code: int, **where: object) -> None:
        """Sailthru answers with an error."""
        fault = {"kind": "error", "status": status, "code": code, "text": f"Words of Sailthru about {API_KEY}"}
        self.sandbox.tell("faults", rules=[{"fault": fault, **where}])


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One for all tests of this file."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.close()


@pytest.fixture
def scene(sandbox: Sandbox, tmp_path: Path) -> Iterator[Scene]:
    """Nothing is wrong with either end, and will not be for the next."""
    yield Scene(sandbox, tmp_path)
    sandbox.tell("faults")
    sandbox.lytics.post("reset").raise_for_status()


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def test_all_is_right(scene: Scene) -> None:
    """Exit code 0, a line for each thing, and two reads at Sailthru are all that was done there."""
    before = scene.sandbox.account()["calls"]
    found = scene.check()
    after = scene.sandbox.account()

    assert found.code == 0
    assert found.marks() == {"settings": "✓", "store": "✓", DEFAULT: "✓", "Lytics": "✓"}
    made = {name: count - before.get(name, 0) for name, count in after["calls"].items()}
    assert {name: count for name, count in made.items() if count} == {"GET /list": 1, "GET /user": 1}
    assert (after["lists"], after["profiles"]["count"]) == ({}, 0)
    assert list((scene.folder / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("different", "about", "words"),
    [
        (
            {"SAILTHRU_API_KEY": WRONG},
            DEFAULT,
            ["does not know the API key", "Compare SAILTHRU_API_KEY", "My Sailthru"],
        ),
        (
            {"SAILTHRU_API_SECRET": WRONG},
            DEFAULT,
            ["API key and secret do not belong together", "Compare SAILTHRU_API_SECRET", "My Sailthru"],
        ),
        (
            {"SAILTHRU_BASE_URL": "https://api.sailthru.invalid"},
            DEFAULT,
            ["The name api.sailthru.invalid can't be looked up", "Check SAILTHRU_BASE_URL", "name server"],
        ),
        (
            {"LYTICS_BASE_URL": "https://api.lytics.invalid"},
            "Lytics",
            ["The name api.lytics.invalid can't be looked up", "Check LYTICS_BASE_URL", "name server"],
        ),
        (
            {"LYTICS_API_TOKEN": WRONG},
            "Lytics",
            ["does not know the API token", "Account > Security > Access Tokens", "LYTICS_API_TOKEN"],
        ),
        (
            {"DATABASE_URL": "sqlite:////proc/nowhere/store.db"},
            "store",
            ["/proc can't be written", "the service's user", "DATABASE_URL"],
        ),
        (
            {
                "SAILTHRU_AUTHORIZATIONS": json.dumps(
                    {"shop": {"api_key": API_KEY, "api_secret": WRONG, "base_url": "http://localhost:{port}"}}
                )
            },
            SHOP,
            ["API key and secret do not belong together", "Compare api_secret of 'shop' in SAILTHRU_AUTHORIZATIONS"],
        ),
    ],
)
def test_a_wrong_setting_is_named(scene: Scene, different: dict[str, str], about: str, words: list[str]) -> None:
    """Exit code 1; whatever else was checked is all right."""
    port = str(scene.sandbox.port)
    found = scene.check(**{name: value.replace("{port}", port) for name, value in different.items()})

    assert found.code == 1
    assert found.lines[about].startswith(f"✗ {about}")
    for word in words:
        assert word in found.lines[about]
    assert [about for about, mark in found.marks().items() if mark != "✓"] == [about]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            {"kind": "error", "status": 403, "code": 4},
            [
                "not on the list of addresses that the Sailthru account allows",
                "Add this machine's public address",
                "My Sailthru",
            ],
        ),
        ({"kind": "reset"}, ["127.0.0.1:{port} broke the connection", "Check SAILTHRU_BASE_URL"]),
        ({"kind": "html", "status": 404}, ["What answers at 127.0.0.1:{port} is not the API", "SAILTHRU_BASE_URL"]),
        ({"kind": "html", "status": 200}, ["What answers at 127.0.0.1:{port} is not the API", "SAILTHRU_BASE_URL"]),
        ({"kind": "html", "status": 302}, ["What answers at 127.0.0.1:{port} is not the API", "SAILTHRU_BASE_URL"]),
        ({"kind": "error", "status": 500, "code": 9}, ["internal error", "Try again in some minutes"]),
        (
            {"kind": "error", "status": 401, "code": 99},
            ["refused the credentials", "SAILTHRU_API_KEY and SAILTHRU_API_SECRET"],
        ),
    ],
)
def test_what_sailthru_does_is_told(scene: Scene, fault: dict[str, object], words: list[str]) -> None:
    scene.sandbox.tell("faults", rules=[{"fault": fault}])
    found = scene.check()

    assert found.code == 1
    assert found.marks() == {"settings": "✓", "store": "✓", DEFAULT: "✗", "Lytics": "✓"}
    for word in words:
        assert word.replace("{port}", str(scene.sandbox.port)) in found.lines[DEFAULT]


def test_silence_is_told(scene: Scene) -> None:
    """It is waited for as long as the settings say, and no longer."""
    scene.sandbox.tell("faults", rules=[{"fault": {"kind": "hang"}}])
    found = scene.check(SAILTHRU_TIMEOUT_SECONDS="0.5")

    assert found.code == 1
    assert f"127.0.0.1:{scene.sandbox.port} did not answer within 0.5 seconds" in found.lines[DEFAULT]
    assert "Check SAILTHRU_BASE_URL" in found.lines[DEFAULT]


@pytest.mark.parametrize("right", ["list", "user"])
def test_a_right_that_is_missing_is_named(scene: Scene, right: str) -> None:
    """Of the two that the service needs."""
    scene.fail(403, 99, endpoints=[f"/{right}"])
    found = scene.check()

    assert found.code == 1
    assert f"does not let this key read /{right}" in found.lines[DEFAULT]
    assert f"the key in SAILTHRU_API_KEY the right to {right}" in found.lines[DEFAULT]


def test_a_limit_that_is_used_up_is_a_warning(scene: Scene) -> None:
    """The account's other tools may have used it; key and secret were taken."""
    scene.fail(429, 43)
    found = scene.check()

    assert found.code == 0
    assert found.marks()[DEFAULT] == "!"
    assert "Key and secret are right" in found.lines[DEFAULT]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (
            lambda lytics: lytics.post("availability", json={"token_expired": True}),
            ["token has expired", "Account > Security > Access Tokens", "LYTICS_API_TOKEN"],
        ),
        (lambda lytics: lytics.post("availability", json={"unreachable": True}), ["HTTP 503", "Try again"]),
        (
            lambda lytics: lytics.post("faults", json={"rules": [{"fault": {"kind": "error", "status": 403}}]}),
            ["may not read this", "token's roles", "LYTICS_API_TOKEN"],
        ),
        (
            lambda lytics: lytics.post("faults", json={"rules": [{"fault": {"kind": "html", "status": 404}}]}),
            ["is not the API", "LYTICS_BASE_URL"],
        ),
    ],
)
def test_what_lytics_does_is_told(scene: Scene, break_it: Callable[[Any], Any], words: list[str]) -> None:
    break_it(scene.sandbox.lytics).raise_for_status()
    found = scene.check()

    assert found.code == 1
    assert found.marks() == {"settings": "✓", "store": "✓", DEFAULT: "✓", "Lytics": "✗"}
    for word in words:
        assert word in found.lines["Lytics"]


def test_a_pause_that_lytics_asks_for_is_a_warning(scene: Scene) -> None:
    fault = {"kind": "error", "status": 429}
    scene.sandbox.lytics.post("faults", json={"rules": [{"fault": fault}]}).raise_for_status()
    found = scene.check()

    assert found.code == 0
    assert found.marks()["Lytics"] == "!"
    assert "The token is right" in found.lines["Lytics"]


def test_without_a_lytics_token_there_is_a_warning(scene: Scene) -> None:
    """The service runs; names are given by hand."""
    found = scene.check(LYTICS_API_TOKEN="")

    assert found.code == 0
    assert found.marks()["Lytics"] == "!"
    assert "name each export by hand" in found.lines["Lytics"]


def test_both_ends_are_gone(scene: Scene) -> None:
    """A closed port, and one where no https is spoken: each is told for itself, and Sailthru's does not hide
    Lytics'.
    """
    port = closed_port()
    found = scene.check(
        SAILTHRU_BASE_URL=f"http://127.0.0.1:{port}", LYTICS_BASE_URL=f"https://127.0.0.1:{scene.sandbox.port}"
    )

    assert found.code == 1
    assert f"Nothing takes connections at 127.0.0.1:{port}" in found.lines[DEFAULT]
    assert f"127.0.0.1:{scene.sandbox.port} does not offer https that can be trusted." in found.lines["Lytics"]


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"SAILTHRU_BASE_URL": "http://api.sailthru.com"}, ["SAILTHRU_BASE_URL", "must start with https://"]),
        ({"LYTICS_BASE_URL": "http://api.lytics.io"}, ["LYTICS_BASE_URL", "must start with https://"]),
        ({"ADMIN_TOKENS": "short"}, ["ADMIN_TOKENS", "16 characters"]),
    ],
)
def test_settings_that_can_not_be_read_are_the_only_line(
    scene: Scene, different: dict[str, str], words: list[str]
) -> None:
    """Exit code 2, since nothing can be asked without them."""
    found = scene.check(**different)

    assert found.code == 2
    assert found.marks() == {"settings": "✗"}
    for word in words:
        assert word in found.lines["settings"]


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"WEBHOOK_TOKENS": ""}, ["WEBHOOK_TOKENS is not set", "secrets.token_urlsafe"]),
        ({"DATABASE_URL": "mysql://me:nobodys-word-for-it@host/db"}, ["DATABASE_URL", "sqlite:///FILE"]),
    ],
)
def test_settings_that_are_not_enough_end_with_2_and_the_rest_is_told(
    scene: Scene, different: dict[str, str], words: list[str]
) -> None:
    done = scene.run(**different)

    assert done.returncode == 2
    assert f"✓ {DEFAULT}" in done.stdout
    for word in words:
        assert word in done.stdout


def test_a_running_service_is_no_fault_and_is_not_disturbed(scene: Scene) -> None:
    """It holds the file; that is said, and not one byte of it changes."""
    service = Service(scene.folder, scene.sandbox).start()
    try:
        before = (service.database.read_bytes(), sorted(service.database.parent.iterdir()))
        found = scene.check(DATABASE_URL=f"sqlite:///{service.database}")
        after = (service.database.read_bytes(), sorted(service.database.parent.iterdir()))
        is_well = service.http.get("/exports").is_success
    finally:
        service.close()

    assert found.code == 0
    assert f"✓ store               The running service holds {service.database}." == found.lines["store"]
    assert before == after
    assert is_well


def test_what_the_first_start_would_make_is_told_and_not_made(scene: Scene) -> None:
    """A missing folder may be a slip, so that is a warning."""
    path = scene.folder / "elsewhere" / "store.db"
    found = scene.check(DATABASE_URL=f"sqlite:///{path}")

    assert (found.code, found.marks()["store"]) == (0, "!")
    assert f"Neither {path} nor its folder is there yet" in found.lines["store"]
    assert not path.parent.exists()


def test_a_database_that_is_there_and_one_that_is_not(scene: Scene, migrated_file: Path) -> None:
    """Of this version, of an older one that the next start brings up to date, and none yet: all are well."""
    current, older, none = (scene.folder / f"{name}.db" for name in ("current", "older", "none"))
    for path in (current, older):
        shutil.copyfile(migrated_file, path)
    with closing(sqlite3.connect(older)) as connection, connection:
        connection.execute("update alembic_version set version_num = '0001'")
    found = [scene.check(DATABASE_URL=f"sqlite:///{path}") for path in (current, older, none)]

    assert [one.code for one in found] == [0, 0, 0]
    assert [one.lines["store"].removeprefix("✓ store               ") for one in found] == [
        f"{current} can be used, and is up to date.",
        f"{older} is of an older version; the next start copies it, and brings it up to date.",
        f"{none} is not there yet; the first start makes it.",
    ]


def test_a_database_of_postgresql(scene: Scene, postgresql_url: str) -> None:
    """Empty, of this version, and while a replica runs on it: all are well. Its password is never shown."""
    with postgresql.database(postgresql_url) as given:
        parsed = make_url(given)
        name = f"{parsed.database} at {parsed.host}:{parsed.port}"
        url = parsed.set(password=WRONG).render_as_string(hide_password=False)
        found = [scene.check(DATABASE_URL=url)]
        migrated = subprocess.run(
            [sys.executable, "-m", "app", "migrate"],
            cwd=scene.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": url},
            check=False,
        )
        found += [scene.check(DATABASE_URL=url), scene.check(DATABASE_URL=url, ERASURE_KEY="")]

    assert migrated.returncode == 0
    assert [one.code for one in found] == [0, 0, 0]
    assert [one.lines["store"].removeprefix("✓ store               ") for one in found] == [
        f"{name} holds nothing yet; the first start makes its tables.",
        f"{name} can be used, and is up to date.",
        f"{name} can be used, and is up to date.",
    ]


@pytest.mark.parametrize(
    ("found", "mark", "words"),
    [
        ({}, Mark.OK, "store at host:5432 can be used, and is up to date."),
        ({"replicas": 2}, Mark.OK, "is up to date. Replicas that run on it: 2."),
        ({"missing": ("0002",), "replicas": 1}, Mark.OK, "the next start brings it up to date. Replicas"),
        ({"is_copy_unfinished": True}, Mark.FAILED, "A copy into store at host:5432 is not finished"),
        ({"not_kept_out": 3}, Mark.FAILED, "are not kept out: 3."),
    ],
)
async def test_how_a_database_of_postgresql_stands(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], mark: Mark, words: str
) -> None:
    standing: dict[str, Any] = {"name": "store at host:5432", "replicas": 0, "revision": "0008", "missing": ()}
    standing |= {"is_copy_unfinished": False, "not_kept_out": 0}
    inspection = ServerInspection(**standing | found)

    async def inspect(_url: str, _digests: object) -> ServerInspection:
        return inspection

    monkeypatch.setattr("app.check.store.inspect_server", inspect)
    finding = await check_store("postgresql://host/store", None)

    assert (finding.about, finding.mark) == ("store", mark)
    assert words in finding.happened
    assert (finding.next_step is None) == (mark is Mark.OK)


def test_a_database_that_can_not_be_reached_is_told(scene: Scene) -> None:
    """Host and port, and what to do; never the password."""
    port = closed_port()
    found = scene.check(DATABASE_URL=f"postgresql://me:{WRONG}@127.0.0.1:{port}/store")

    assert (found.code, found.marks()["store"]) == (1, "✗")
    assert f"Nothing listens at 127.0.0.1:{port}. Start PostgreSQL, or" in found.lines["store"]


def test_the_store_of_another_key_is_told(scene: Scene, migrated_file: Path) -> None:
    """Without the key that people were erased with the service does not start; with another it does not keep them
    out.
    """
    path = scene.folder / "store.db"
    shutil.copyfile(migrated_file, path)
    url = f"sqlite:///{path}"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("insert into erasures values ('digest', 'digest', 'of-another-key', 1, 0)")
    other, none = scene.check(DATABASE_URL=url), scene.check(DATABASE_URL=url, ERASURE_KEY="")

    assert (other.code, other.marks()["store"]) == (0, "!")
    assert "former ERASURE_KEY" in other.lines["store"]
    assert (none.code, none.marks()["store"]) == (1, "✗")
    assert "Set ERASURE_KEY" in none.lines["store"]


def test_as_json(scene: Scene) -> None:
    """The same for scripts, and nothing else on standard output."""
    done = scene.run("--json", LYTICS_API_TOKEN=WRONG)
    said = json.loads(done.stdout)

    assert done.returncode == 1
    assert said["ok"] is False
    assert [(one["about"], one["mark"]) for one in said["findings"]] == [
        ("settings", "ok"),
        ("store", "ok"),
        (DEFAULT, "ok"),
        ("Lytics", "failed"),
    ]
    assert all(set(one) == {"about", "mark", "happened", "next_step"} for one in said["findings"])
