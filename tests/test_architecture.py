"""The arrows between the parts of `app`: a part is a folder or a module directly under it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"
MODULES = sorted(path.relative_to(APP.parent) for path in APP.rglob("*.py") if path != APP / "__init__.py")
USE_CASES = {"receive", "delivery", "exports", "backfills"}
IN_PROCESS = {"repeat", "signals", "alarms"}

# The parts of app that a part may import besides itself; a part that is missing here is bound by IMPORTED_BY alone.
MAY_IMPORT: dict[str, set[str]] = {
    "domain": set(),
    "sandbox": set(),
    "terminal": set(),
    "repeat": {"domain"},
    "signals": set(),
    "alarms": {"domain"},
    "explain": {"domain"},
    **{part: {"domain", "explain"} for part in ("lytics", "sailthru", "store")},
    # They are given the rest by `main`.
    **{part: {"domain", "explain", *IN_PROCESS} for part in USE_CASES},
    # A command asks a running service over HTTP, as every other client does.
    "commands": {"domain", "explain", "terminal"},
    "check": {"domain", "explain", "lytics", "sailthru", "store", "settings", "terminal"},
    "demo": {"sandbox"},
}
# The only parts that may import these.
IMPORTED_BY = {
    "app.settings": {"main", "__main__", "check"},
    "app.sandbox": {"demo"},
    **{f"app.{part}": {"__main__"} for part in ("main", "demo", "check", "commands")},
    "app.service": {"main", "web"},
    "app.terminal": {"__main__", "check", "commands"},
    **{package: {"store"} for package in ("sqlalchemy", "alembic", "sqlite3", "asyncpg")},
    "httpx": {"lytics", "sailthru", "main", "demo", "commands"},
    "typer": {"__main__", "commands"},
    "rich": {"terminal", "demo"},
    **{package: {"web", "main", "sandbox"} for package in ("fastapi", "starlette")},
}


def part_of(module: Path) -> str:
    return module.with_suffix("").parts[1]


def imports(module: Path, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.parts[: -node.level]) if node.level else ""
            origin = f"{package}.{node.module or ''}".strip(".")
            # In `from app import store` the part stands behind the word import.
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def violations(module: Path, source: str) -> list[str]:
    part = part_of(module)

    def is_allowed(name: str) -> bool:
        root, *rest = name.split(".")
        if root != "app":
            is_open = part != "domain" or root in sys.stdlib_module_names
            return is_open and part in IMPORTED_BY.get(root, {part})
        target = rest[0] if rest else ""
        if target in {part, "__version__"}:
            return True
        return target in MAY_IMPORT.get(part, {target}) and part in IMPORTED_BY.get(f"app.{target}", {part})

    return [f"{module} imports {name}" for name in imports(module, source) if not is_allowed(name)]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_imports_only_what_its_part_may(module: Path) -> None:
    assert violations(module, (APP.parent / module).read_text()) == []


def test_every_guarded_part_exists() -> None:
    guarded = {*MAY_IMPORT, "web", "main", "settings", "__main__"}

    assert guarded - {part_of(module) for module in MODULES} - IN_PROCESS == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain/membership.py", "import httpx"),
        ("domain/membership.py", "from app.store import members"),
        ("domain/errors.py", "from app.explain.codes import explain"),
        ("explain/codes.py", "from app.sailthru.protocol import Credentials"),
        ("lytics/client.py", "from app import sailthru"),
        ("sailthru/lists.py", "from ..store import members"),
        ("sailthru/lists.py", "from app.metrics import CALLS"),
        ("store/members/members.py", "import app"),
        ("store/members/members.py", "import httpx"),
        ("delivery/deliver.py", "from app.sailthru.lists import Lists"),
        ("receive.py", "def later():\n    import sqlalchemy.orm"),
        ("delivery/worker.py", "import app.store.members"),
        ("delivery/worker.py", "from fastapi import FastAPI"),
        ("exports/start.py", "from app.lytics.client import LyticsClient"),
        ("backfills/scan.py", "from app.store.backfills import pages"),
        ("repeat.py", "from app.store.database.engine import Database"),
        ("web/api/health.py", "from app.settings import Settings"),
        ("web/api/health.py", "from ... import settings"),
        ("web/api/health.py", "from app.sandbox import sailthru"),
        ("web/api/health.py", "from sqlalchemy import text"),
        ("main.py", "from app.sandbox.lytics import LyticsSandbox"),
        ("sandbox/lytics/app.py", "from app.domain.membership import Membership"),
        ("commands/service.py", "from app.settings import load_settings"),
        ("commands/exports.py", "from app.web.api.exports import ExportView"),
        ("commands/members.py", "from app.store.members.members import Members"),
        ("commands/exports.py", "from rich.table import Table"),
        ("check/store.py", "import sqlite3"),
        ("check/store.py", "import asyncpg"),
        ("check/lytics.py", "import httpx"),
        ("web/api/health.py", "from app.check.everything import check"),
        ("web/api/exports.py", "from app import terminal"),
        ("delivery/worker.py", "from app.commands.service import Service"),
        ("terminal.py", "from app.domain.errors import AppError"),
    ],
)
def test_forbidden_import_is_reported(module: str, source: str) -> None:
    assert len(violations(Path("app") / module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "domain/membership.py",
            "from app.domain.change import MembershipChange\nfrom .audience import Audience\nimport enum",
        ),
        ("sailthru/client.py", "import httpx\nfrom app import __version__"),
        ("sailthru/protocol.py", "from app.explain.codes import explain"),
        ("delivery/worker.py", "from app import domain, repeat"),
        ("web/api/members.py", "from app.store import members\nfrom fastapi import APIRouter"),
        ("__main__.py", "from app import demo, settings, main"),
        ("commands/service.py", "import httpx\nfrom app import __version__, terminal"),
        ("check/everything.py", "from app.settings import Settings\nfrom app.check.store import check_store"),
    ],
)
def test_allowed_import_passes(module: str, source: str) -> None:
    assert violations(Path("app") / module, source) == []
