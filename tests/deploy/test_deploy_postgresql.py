"""The compose file for PostgreSQL: routes and workers run from one image, with the rights of the single machine."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.store.database.url import parse_url

DEPLOY = Path(__file__).parents[2] / "deploy"
ALIKE = ("image", "build", "env_file", "read_only", "tmpfs", "cap_drop", "security_opt", "init", "stop_grace_period")


def services_of(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())["services"]
    return loaded


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return services_of("compose.postgresql.yaml")


@pytest.fixture(scope="module", params=["web", "worker"])
def replica(services: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = services[request.param]
    return found


def test_replica_has_the_options_of_the_single_machine(replica: dict[str, Any]) -> None:
    (alone,) = services_of("compose.yaml").values()

    assert {name: replica[name] for name in ALIKE} == {name: alone[name] for name in ALIKE}
    assert replica["healthcheck"] == alone["healthcheck"]
    assert replica["logging"] == alone["logging"]


def test_replica_waits_for_the_database(replica: dict[str, Any], services: dict[str, Any]) -> None:
    """The password comes from the environment and is in no file."""
    password = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    url = replica["environment"]["DATABASE_URL"]
    parsed = parse_url(url.replace(password, "secret"))

    assert replica["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert password.startswith("${POSTGRES_PASSWORD:?")
    assert (parsed.host, parsed.database, parsed.username) == (
        "postgres",
        services["postgres"]["environment"]["POSTGRES_DB"],
        services["postgres"]["environment"]["POSTGRES_USER"],
    )


def test_only_the_routes_open_a_port_and_only_locally(services: dict[str, Any]) -> None:
    ports = {name: service.get("ports", []) for name, service in services.items()}

    assert ports == {"web": ["127.0.0.1:8000:8000"], "worker": [], "postgres": []}


def test_roles_run_documented_commands(services: dict[str, Any]) -> None:
    assert services["web"]["command"] == ["serve", "--no-worker"]
    assert services["worker"]["command"] == ["work"]
