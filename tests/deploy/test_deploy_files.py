"""The image and the compose file: no root user, the database on a volume, the port open only to this machine."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[2]
# Python and the shell read these, not the service.
NOT_SETTINGS = {"PATH", "PYTHONUNBUFFERED"}

Instructions = list[tuple[str, str]]


@pytest.fixture(scope="module")
def stages() -> list[Instructions]:
    """Return the Dockerfile's instructions, one list per stage, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found: list[Instructions] = []
    for line in filter(None, lines):
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


@pytest.fixture(scope="module")
def image(stages: list[Instructions]) -> dict[str, str]:
    """Return the last argument of each instruction in the last stage."""
    return dict(stages[-1])


@pytest.fixture(scope="module")
def image_env(image: dict[str, str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in image["ENV"].split())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def service(compose: dict[str, Any]) -> dict[str, Any]:
    (only,) = compose["services"].values()
    found: dict[str, Any] = only
    return found


def test_image_runs_as_a_numeric_user_that_is_not_root(image: dict[str, str]) -> None:
    user, group = image["USER"].split(":")

    assert int(user) > 0
    assert int(group) > 0


def test_image_installs_from_the_hashed_lock_only(stages: list[Instructions]) -> None:
    installs = [
        rest for stage in stages for word, rest in stage if word == "RUN" and " install " in rest and "pip" in rest
    ]

    assert len(installs) == 2
    assert all("--require-hashes -r requirements.txt" in line or "--no-deps ." in line for line in installs)


def test_image_keeps_its_database_on_its_volume(image: dict[str, str], image_env: dict[str, str]) -> None:
    assert image_env["DATABASE_URL"].startswith(f"sqlite:///{image['VOLUME']}/")


def test_image_serves_and_stops_with_sigterm(image: dict[str, str], image_env: dict[str, str]) -> None:
    assert json.loads(image["ENTRYPOINT"]) == ["lytics-sailthru"]
    assert json.loads(image["CMD"]) == ["serve"]
    assert image["STOPSIGNAL"] == "SIGTERM"
    assert image["EXPOSE"] == image_env["PORT"]


def test_image_and_compose_have_the_same_health_check(image: dict[str, str], service: dict[str, Any]) -> None:
    _, command = image["HEALTHCHECK"].split("CMD ", 1)

    assert ["CMD", *json.loads(command)] == service["healthcheck"]["test"]
    compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_compose_opens_the_port_only_locally(service: dict[str, Any]) -> None:
    assert service["ports"] == [f"127.0.0.1:8000:{service['environment']['PORT']}"]


def test_compose_keeps_the_database_on_a_named_volume(
    compose: dict[str, Any], service: dict[str, Any], image: dict[str, str]
) -> None:
    (mount,) = service["volumes"]
    name, _, target = mount.partition(":")

    assert name in compose["volumes"]
    assert target == image["VOLUME"]
    assert service["environment"]["DATABASE_URL"].startswith(f"sqlite:///{target}/")


def test_compose_builds_our_dockerfile(service: dict[str, Any]) -> None:
    context = ROOT / "deploy" / service["build"]["context"]

    assert context.resolve() == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()


def test_compose_drops_all_capabilities(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_waits_longer_than_a_call_takes(service: dict[str, Any]) -> None:
    assert (
        int(service["stop_grace_period"].removesuffix("s")) > Settings.model_fields["sailthru_timeout_seconds"].default
    )


def test_every_variable_is_a_setting(image_env: dict[str, str], service: dict[str, Any]) -> None:
    used = {*image_env, *service["environment"]} - NOT_SETTINGS

    assert used <= {name.upper() for name in Settings.model_fields}
    assert {"DATABASE_URL", "HOST", "PORT"} <= used


def test_image_context_contains_only_listed_files() -> None:
    first, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]

    assert first == "*"
    assert {line.removeprefix("!") for line in rules if line.startswith("!")} == {
        *("LICENSE", "README.md", "app", "pyproject.toml", "requirements.txt")
    }
