"""`check` names each problem and its next step, and shows no secret."""

import json
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
from tests.command_line import CommandLine, Ended
from tests.promises.processes import (
    ADMIN_TOKEN,
    API_KEY,
    API_SECRET,
    ENV_WITHOUT_COVERAGE,
    LYTICS_TOKEN,
    ROOT,
    WEBHOOK_TOKEN,
    Sandbox,
    Service,
)

WRONG = "a-wrong-secret"
ERASURE_KEY = "an-erasure-key-of-the-tests"
SECRETS = (ADMIN_TOKEN, API_KEY, API_SECRET, LYTICS_TOKEN, WEBHOOK_TOKEN, WRONG, ERASURE_KEY, "sig=")
NOT_THE_API = "The answer from 127.0.0.1:{port} is not from the API"
DEFAULT, SHOP = "Sailthru 'default'", "Sailthru 'shop'"


@dataclass
class Checked:
    """The output of one run, and its lines by subject."""

    code: int
    output: str
    lines: dict[str, str]

    def marks(self) -> dict[str, str]:
        return {about: line[0] for about, line in self.lines.items()}


@dataclass
class Scene:
    """Both sandboxes, and matching settings."""

    sandbox: Sandbox
    command_line: CommandLine

    @property
    def folder(self) -> Path:
        return self.command_line.folder

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
        } | different

    def run(self, *words: str, **different: str) -> Ended:
        return without_secrets(self.command_line.run("check", *words, settings=self.settings(**different)))

    def run_process(self, *words: str, **different: str) -> Ended:
        """Run the command as a process, so that the resolver uses RES_OPTIONS."""
        known = {name.upper() for name in Settings.model_fields}
        environment = {name: value for name, value in ENV_WITHOUT_COVERAGE.items() if name not in known}
        done = subprocess.run(
            [sys.executable, "-m", "app", "check", *words],
            cwd=self.folder,
            # Do not wait long for a name server that does not answer.
            env={
                **environment,
                "RES_OPTIONS": "timeout:1 attempts:1",
                "PYTHONPATH": str(ROOT),
                **self.settings(**different),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return without_secrets(Ended(done.returncode, done.stdout, done.stderr))

    def check(self, **different: str) -> Checked:
        return self._read(self.run(**different))

    def check_process(self, **different: str) -> Checked:
        return self._read(self.run_process(**different))

    def _read(self, done: Ended) -> Checked:
        assert done.err == ""
        lines = {}
        for line in done.out.splitlines():
            about = line[2:].split("  ")[0]
            lines[about] = line
        return Checked(done.code, done.out, lines)

    def fail(self, status: int, code: int, **where: object) -> None:
        """Let Sailthru answer with an error."""
        fault = {"kind": "error", "status": status, "code": code, "text": f"Words of Sailthru about {API_KEY}"}
        self.sandbox.control("faults", rules=[{"fault": fault, **where}])


def without_secrets(ended: Ended) -> Ended:
    assert not [secret for secret in SECRETS if secret in ended.out + ended.err]
    return ended


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.close()


@pytest.fixture
def scene(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Scene]:
    """Return sandboxes without faults, and remove the faults of the test afterwards."""
    yield Scene(sandbox, CommandLine(monkeypatch, capsys, tmp_path))
    sandbox.control("faults")
    sandbox.lytics.post("reset").raise_for_status()


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def test_check_without_problems_exits_with_0_and_only_reads(scene: Scene) -> None:
    """Sailthru gets exactly two reads."""
    before = scene.sandbox.account()["calls"]
    found = scene.check_process()
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
def test_wrong_setting_is_named_and_other_checks_pass(
    scene: Scene, different: dict[str, str], about: str, words: list[str]
) -> None:
    port = str(scene.sandbox.port)
    looks_up_names = ".invalid" in str(different)
    settings = {name: value.replace("{port}", port) for name, value in different.items()}
    found = scene.check_process(**settings) if looks_up_names else scene.check(**settings)

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
        ({"kind": "reset"}, ["127.0.0.1:{port} closed the connection", "Check SAILTHRU_BASE_URL"]),
        (
            {"kind": "html", "status": 404},
            [NOT_THE_API, "SAILTHRU_BASE_URL"],
        ),
        (
            {"kind": "html", "status": 200},
            [NOT_THE_API, "SAILTHRU_BASE_URL"],
        ),
        (
            {"kind": "html", "status": 302},
            [NOT_THE_API, "SAILTHRU_BASE_URL"],
        ),
        ({"kind": "error", "status": 500, "code": 9}, ["internal error", "Try again in a few minutes"]),
        (
            {"kind": "error", "status": 401, "code": 99},
            ["refused the credentials", "SAILTHRU_API_KEY and SAILTHRU_API_SECRET"],
        ),
    ],
)
def test_failure_of_sailthru_is_explained(scene: Scene, fault: dict[str, object], words: list[str]) -> None:
    scene.sandbox.control("faults", rules=[{"fault": fault}])
    found = scene.check()

    assert found.code == 1
    assert found.marks() == {"settings": "✓", "store": "✓", DEFAULT: "✗", "Lytics": "✓"}
    for word in words:
        assert word.replace("{port}", str(scene.sandbox.port)) in found.lines[DEFAULT]


def test_check_waits_for_sailthru_as_long_as_the_timeout(scene: Scene) -> None:
    scene.sandbox.control("faults", rules=[{"fault": {"kind": "hang"}}])
    found = scene.check(SAILTHRU_TIMEOUT_SECONDS="0.5")

    assert found.code == 1
    assert f"127.0.0.1:{scene.sandbox.port} did not answer within 0.5 seconds" in found.lines[DEFAULT]
    assert "Check SAILTHRU_BASE_URL" in found.lines[DEFAULT]


@pytest.mark.parametrize("right", ["list", "user"])
def test_missing_right_is_named(scene: Scene, right: str) -> None:
    scene.fail(403, 99, endpoints=[f"/{right}"])
    found = scene.check()

    assert found.code == 1
    assert f"This key may not read /{right}" in found.lines[DEFAULT]
    assert f"allow the key in SAILTHRU_API_KEY to use {right}" in found.lines[DEFAULT]


def test_exhausted_rate_limit_is_a_warning(scene: Scene) -> None:
    """Sailthru counts only calls with a valid key and secret."""
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
            ["is not from the API", "LYTICS_BASE_URL"],
        ),
    ],
)
def test_failure_of_lytics_is_explained(scene: Scene, break_it: Callable[[Any], Any], words: list[str]) -> None:
    break_it(scene.sandbox.lytics).raise_for_status()
    found = scene.check()

    assert found.code == 1
    assert found.marks() == {"settings": "✓", "store": "✓", DEFAULT: "✓", "Lytics": "✗"}
    for word in words:
        assert word in found.lines["Lytics"]


def test_rate_limit_of_lytics_is_a_warning(scene: Scene) -> None:
    fault = {"kind": "error", "status": 429}
    scene.sandbox.lytics.post("faults", json={"rules": [{"fault": fault}]}).raise_for_status()
    found = scene.check()

    assert found.code == 0
    assert found.marks()["Lytics"] == "!"
    assert "The token is right" in found.lines["Lytics"]


def test_missing_lytics_token_is_a_warning(scene: Scene) -> None:
    found = scene.check(LYTICS_API_TOKEN="")

    assert found.code == 0
    assert found.marks()["Lytics"] == "!"
    assert "name each export by hand" in found.lines["Lytics"]


def test_two_failures_are_both_reported(scene: Scene) -> None:
    """Sailthru is at a closed port, and Lytics at a port without TLS."""
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
def test_unreadable_settings_are_the_only_finding(scene: Scene, different: dict[str, str], words: list[str]) -> None:
    """The exit code is 2."""
    found = scene.check(**different)

    assert found.code == 2
    assert found.marks() == {"settings": "✗"}
    for word in words:
        assert word in found.lines["settings"]


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"WEBHOOK_TOKENS": ""}, ["WEBHOOK_TOKENS is not set", "secrets.token_urlsafe"]),
        ({"DATABASE_URL": "mysql://me:a-wrong-secret@host/db"}, ["DATABASE_URL", "sqlite:///FILE"]),
    ],
)
def test_missing_setting_exits_with_2_and_other_checks_run(
    scene: Scene, different: dict[str, str], words: list[str]
) -> None:
    done = scene.run(**different)

    assert done.code == 2
    assert f"✓ {DEFAULT}" in done.out
    for word in words:
        assert word in done.out


def test_running_service_is_not_disturbed(scene: Scene) -> None:
    """No byte of its database file changes."""
    service = Service(scene.folder, scene.sandbox).start()
    try:
        before = (service.database.read_bytes(), sorted(service.database.parent.iterdir()))
        found = scene.check(DATABASE_URL=f"sqlite:///{service.database}")
        after = (service.database.read_bytes(), sorted(service.database.parent.iterdir()))
        is_available = service.http.get("/exports").is_success
    finally:
        service.close()

    assert found.code == 0
    assert f"✓ store               The running service uses {service.database}." == found.lines["store"]
    assert before == after
    assert is_available


def test_missing_folder_is_a_warning_and_is_not_created(scene: Scene) -> None:
    path = scene.folder / "elsewhere" / "store.db"
    found = scene.check(DATABASE_URL=f"sqlite:///{path}")

    assert (found.code, found.marks()["store"]) == (0, "!")
    assert f"{path} and its folder do not exist yet" in found.lines["store"]
    assert not path.parent.exists()


def test_current_older_and_missing_files_are_ok(scene: Scene, migrated_file: Path) -> None:
    current, older, none = (scene.folder / f"{name}.db" for name in ("current", "older", "none"))
    for path in (current, older):
        shutil.copyfile(migrated_file, path)
    with closing(sqlite3.connect(older)) as connection, connection:
        connection.execute("update alembic_version set version_num = '0001'")
    found = [scene.check(DATABASE_URL=f"sqlite:///{path}") for path in (current, older, none)]

    assert [checked.code for checked in found] == [0, 0, 0]
    assert [checked.lines["store"].removeprefix("✓ store               ") for checked in found] == [
        f"{current} is usable and up to date.",
        f"{older} has an older version; the next start backs it up and migrates it.",
        f"{none} does not exist yet; the first start creates it.",
    ]


def test_empty_and_current_postgresql_databases_are_ok(scene: Scene, postgresql_url: str) -> None:
    """The password is never shown."""
    with postgresql.database(postgresql_url) as given:
        parsed = make_url(given)
        name = f"{parsed.database} at {parsed.host}:{parsed.port}"
        url = parsed.set(password=WRONG).render_as_string(hide_password=False)
        found = [scene.check(DATABASE_URL=url)]
        migrated = scene.command_line.run("migrate", settings={"DATABASE_URL": url})
        found += [scene.check(DATABASE_URL=url), scene.check(DATABASE_URL=url, ERASURE_KEY="")]

    assert migrated.code == 0
    assert [checked.code for checked in found] == [0, 0, 0]
    assert [checked.lines["store"].removeprefix("✓ store               ") for checked in found] == [
        f"{name} is empty; the first start creates its tables.",
        f"{name} is usable and up to date.",
        f"{name} is usable and up to date.",
    ]


@pytest.mark.parametrize(
    ("found", "mark", "words"),
    [
        ({}, Mark.OK, "store at host:5432 is usable and up to date."),
        ({"replicas": 2}, Mark.OK, "up to date. Running replicas: 2."),
        ({"missing": ("0002",), "replicas": 1}, Mark.OK, "the next start migrates it. Running replicas"),
        ({"is_copy_unfinished": True}, Mark.FAILED, "A copy into store at host:5432 is not finished"),
        ({"ineffective_erasures": 3}, Mark.FAILED, "are not ignored: 3."),
    ],
)
async def test_state_of_a_postgresql_database(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], mark: Mark, words: str
) -> None:
    state: dict[str, Any] = {"name": "store at host:5432", "replicas": 0, "revision": "0008", "missing": ()}
    state |= {"is_copy_unfinished": False, "ineffective_erasures": 0}
    inspection = ServerInspection(**state | found)

    async def inspect(_url: str, _digests: object) -> ServerInspection:
        return inspection

    monkeypatch.setattr("app.check.store.inspect_server", inspect)
    finding = await check_store("postgresql://host/store", None)

    assert (finding.about, finding.mark) == ("store", mark)
    assert words in finding.happened
    assert (finding.next_step is None) == (mark is Mark.OK)


def test_unreachable_database_is_named_without_its_password(scene: Scene) -> None:
    port = closed_port()
    found = scene.check(DATABASE_URL=f"postgresql://me:{WRONG}@127.0.0.1:{port}/store")

    assert (found.code, found.marks()["store"]) == (1, "✗")
    assert f"Nothing listens at 127.0.0.1:{port}. Start PostgreSQL, or" in found.lines["store"]


def test_erasure_key_that_does_not_fit_is_reported(scene: Scene, migrated_file: Path) -> None:
    """Without a key the service does not start. With another key it does not recognise erased people."""
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
    done = scene.run_process("--json", LYTICS_API_TOKEN=WRONG)
    report = json.loads(done.out)

    assert done.code == 1
    assert report["ok"] is False
    assert [(finding["about"], finding["mark"]) for finding in report["findings"]] == [
        ("settings", "ok"),
        ("store", "ok"),
        (DEFAULT, "ok"),
        ("Lytics", "failed"),
    ]
    assert all(set(finding) == {"about", "mark", "happened", "next_step"} for finding in report["findings"])
