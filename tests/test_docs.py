"""What a person must find in README.md and .env.example."""

import re
from pathlib import Path

import pytest

from app.__main__ import app
from app.commands.exports import app as exports_app
from app.metrics import Metrics
from app.settings import Settings
from app.web.api import (
    authorizations,
    dead_letters,
    erasures,
    exports,
    health,
    lytics,
    members,
    openapi,
    rejected_events,
)
from app.web.webhook import route as webhook

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SETTINGS = [name.upper() for name in Settings.model_fields]
METRICS = [
    f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in Metrics("x").registry.collect()
]
ROUTERS = tuple(
    routes.router
    for routes in (
        exports,
        members,
        erasures,
        dead_letters,
        rejected_events,
        lytics,
        authorizations,
        health,
        openapi,
    )
)
PATHS = [webhook.PATH, *(str(getattr(route, "path_format", "")) for router in ROUTERS for route in router.routes)]

COMMANDS = [
    *(command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands),
    *(
        f"export {command.name or getattr(command.callback, '__name__', '')}"
        for command in exports_app.registered_commands
    ),
]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained(name: str) -> None:
    """In the example and in the README."""
    assert f"\n{name}=" in EXAMPLE
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name: str) -> None:
    assert re.search(rf"`{name}[` ]", README)


@pytest.mark.parametrize("path", PATHS)
def test_every_call_is_explained(path: str) -> None:
    assert f"{path}`" in README


def test_the_baseline_of_the_bench_is_the_code_in_the_readme() -> None:
    """Whoever reads a ratio sees what it was divided by."""
    _, _, code = (ROOT / "tests" / "bench" / "baseline.py").read_text().removeprefix('"""').partition('"""\n')

    assert f"```python\n{code.lstrip()}```\n" in README


def test_the_example_is_what_the_settings_take() -> None:
    """As it stands it is valid; no secret is in it."""
    lines = [line.partition("=") for line in EXAMPLE.splitlines() if line and not line.startswith("#")]
    given = {name: value.strip("'") for name, _, value in lines}

    assert set(given) == set(SETTINGS)
    assert not any(value for name, value in given.items() if name.endswith(("_TOKENS", "_TOKEN", "_KEY", "_SECRET")))
    assert len(METRICS) >= 10
    assert len(PATHS) >= 8
    assert len(COMMANDS) >= 14
