"""
Keeps the arrows true: which part of `app` (a folder or a module right under it) may import what.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"
MODULES = sorted(path.relative_to(APP.parent) for path in APP.rglob("*.py") if path != APP / "__init__.py")
VERBS = {"receive", "deliver", "naming"}

# The parts of app that a part may import besides itself; one that is missing here is bound by IMPORTED_BY alone.
MAY_IMPORT: dict[str, set[str]] = {
    "domain": set(),
    "sandbox": set(),
    **{key: {"domain"} for key in ["lytics", "sailthru", "store", "gate", *VERBS]},
    "worker": {"domain", *VERBS},
    "terminal": set(),
    # What a command wants of a running service it asks over HTTP, as everybody else.
    "commands": {"domain", "terminal"},
    # Asks each part in the way the service would, and tells by the settings' names what is wrong.
    "check": {"domain", "lytics", "sailthru", "store", "settings", "terminal"},
}
# The only parts that may import these.
IMPORTED_BY = {
    "app.settings": {"main", "__main__", "check"},
    "app.sandbox": {"demo"},
    **{f"app.{key}": {"__main__"} for key in ["main", "demo", "check", "commands"]},
    "app.terminal": {"__main__", "check", "commands"},
    **{key: {"store"} for key in ["sqlalchemy", "alembic", "sqlite3"]},
    "httpx": {"lytics", "sailthru", "main", "demo", "commands"},
    "typer": {"__main__", "commands"},
    "rich": {"terminal", "demo"},
    **{key: {"web", "main", "sandbox"} for key in ["fastapi", "starlette"]},
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
def test_every_module_keeps_to_its_arrows(module: Path) -> None:
    assert violations(module, (APP.parent / module).read_text()) == []


def test_every_guarded_part_exists() -> None:
    guarded = {*MAY_IMPORT, "web", "main", "settings", "__main__"}

    assert guarded - {part_of(module) for module in MODULES} == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain/member.py", "import httpx"),
        ("domain/member.py", "from app.store import members"),
        ("lytics/client.py", "from app import sailthru"),
        ("sailthru/lists.py", "from ..store import members"),
        ("sailthru/lists.py", "from app.metrics import CALLS"),
        ("store/members.py", "import app"),
        ("store/members.py", "import httpx"),
        ("deliver.py", "from app.sailthru.lists import Lists"),
        ("receive.py", "def later():\n    import sqlalchemy.orm"),
        ("worker.py", "import app.store.members"),
        ("worker.py", "from fastapi import FastAPI"),
        ("web/health.py", "from app.settings import Settings"),
        ("web/health.py", "from .. import settings"),
        ("web/health.py", "from app.sandbox import sailthru"),
        ("web/health.py", "from sqlalchemy import text"),
        ("main.py", "from app.sandbox.lytics import app"),
        ("sandbox/lytics.py", "from app.domain.member import Member"),
        ("commands/service.py", "from app.settings import load_settings"),
        ("commands/exports.py", "from app.web.exports import ExportView"),
        ("commands/members.py", "from app.store.members import Members"),
        ("commands/exports.py", "from rich.table import Table"),
        ("check/store.py", "import sqlite3"),
        ("check/lytics.py", "import httpx"),
        ("web/health.py", "from app.check.everything import check"),
        ("web/exports.py", "from app import terminal"),
        ("worker.py", "from app.commands.service import Service"),
        ("terminal.py", "from app.domain.errors import AppError"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert len(violations(Path("app") / module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "domain/member.py",
            "from app.domain.change import MembershipChange\nfrom .audience import Audience\nimport enum",
        ),
        ("sailthru/client.py", "import httpx\nfrom app import __version__"),
        ("worker.py", "from app import deliver, domain"),
        ("web/members.py", "from app.store import members\nfrom fastapi import APIRouter"),
        ("__main__.py", "from app import demo, settings, main"),
        ("commands/service.py", "import httpx\nfrom app import __version__, terminal"),
        ("check/everything.py", "from app.settings import Settings\nfrom app.check.store import check_store"),
    ],
)
def test_a_lawful_import_passes(module: str, source: str) -> None:
    assert violations(Path("app") / module, source) == []
