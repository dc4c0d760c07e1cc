"""The documentation names what the code has, and nothing else; its links work."""

import ast
import asyncio
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from typer.main import get_command

from app.__main__ import app as command_line
from app.domain.backfill import BackfillState, Skip
from app.domain.export import ExportState
from app.domain.rejection import Reason
from app.explain.codes import EXPLANATIONS
from app.main import create_app
from app.metrics import Metrics
from app.sandbox import faults
from app.sandbox.lytics.app import ENDPOINTS, LyticsSandbox
from app.sandbox.lytics.control import lytics_control
from app.sandbox.rules import FaultSettings, Rule
from app.sandbox.sailthru.app import SailthruSandbox
from app.sandbox.sailthru.control import sailthru_control
from app.sandbox.sailthru.executor import Hold
from app.settings import Settings
from tests.service import ADMIN_TOKEN, settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EXAMPLE = ROOT / ".env.example"
REFERENCE, SANDBOX, OPERATE = (ROOT / "docs" / f"{name}.md" for name in ("reference", "sandbox", "operate"))
LONGEST_README_LINES = 230
# Calls of its API that pages mention.
OF_SAILTHRU = {"/user", "/list"}
# Read by the tests and by the service's start; not settings of the service.
OTHER_VARIABLES = {"SECRETS_DIR", "HISTORIES_SEED", "FUZZ_SEED", "REPLICAS_SEED", "TEST_SIZE"}

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
CALL = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE)\s+(/[\w{}@./-]*[\w}])")
TABLE = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)
VAGUE = re.compile(r"\b(somebody|nobody|whoever|everybody|anybody|whom)\b", re.IGNORECASE)


def section(page: Path, title: str) -> str:
    """Return the text below a heading, up to the next heading of its level or above."""
    text = page.read_text()
    start = next(found for found in HEADING.finditer(text) if found[2] == title)
    after = (found for found in HEADING.finditer(text, start.end()) if len(found[1]) <= len(start[1]))
    end = next(after, None)
    return text[start.end() : end.start() if end else len(text)]


def rows(text: str, head: str) -> list[list[str]]:
    """Return the cells of the tables whose first column has this head."""
    found: list[list[str]] = []
    for table in TABLE.findall(text):
        header, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        if header[0] == head:
            found += body
    return found


def names(text: str, head: str) -> list[str]:
    """Return what stands as code in the first column."""
    return [name for cells in rows(text, head) for name in CODE.findall(cells[0])]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub makes them from its headings."""
    titles = [title for _, title in HEADING.findall(FENCE.sub("", page.read_text()))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append(link)
    return broken


def commands() -> dict[str, Any]:
    """Return every command by its words, such as `export start`."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk(inner, (*words, name))
        else:
            yield " ".join(words), command

    return dict(walk(get_command(command_line), ()))


def options(command: Any) -> set[str]:
    return {
        name
        for each in command.params
        if each.param_type_name == "option" and each.name != "help"
        for name in (*each.opts, *each.secondary_opts)
    }


def reasons_in_errors() -> set[str]:
    """Return every fixed word that an error of the API carries, as the code raises them."""
    found: set[str] = set()
    for module in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"BadOrder", "Conflict", "super().__init__"}:
                given = [word.value for word in node.keywords if word.arg == "reason"]
            elif isinstance(node, ast.Assign) and [ast.unparse(name) for name in node.targets] == ["reason"]:
                given = [node.value]
            else:
                continue
            found |= {each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return found


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    transport = httpx.ASGITransport(create_app(settings(tmp_path_factory.mktemp("openapi"))))

    async def ask() -> dict[str, Any]:
        async with httpx.AsyncClient(transport=transport, base_url="http://service.test") as client:
            described = await client.get("/openapi.json", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        found: dict[str, Any] = described.json()
        return found

    return asyncio.run(ask())


def schema(openapi: Mapping[str, Any], found: Any) -> dict[str, Any]:
    """Follow references and `items`, to what has properties."""
    while "properties" not in found or "items" in found["properties"]:
        if "$ref" in found:
            found = openapi["components"]["schemas"][found["$ref"].rpartition("/")[2]]
        elif "properties" in found:
            found = found["properties"]["items"]
        else:
            found = found["items"]
    properties: dict[str, Any] = found["properties"]
    return properties


def answer(openapi: Mapping[str, Any], path: str) -> dict[str, Any]:
    content = openapi["paths"][path]["get"]["responses"]["200"]["content"]
    return schema(openapi, content["application/json"]["schema"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_and_anchors_work(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("other.md", False),
        ("other.md#a-second-page", False),
        ("#this-pages-title", False),
        ("https://example.com/missing", False),
        ("missing.md", True),
        ("other.md#missing", True),
        ("#missing", True),
        ("#not-a-heading", True),
    ],
)
def test_broken_links_are_found(tmp_path: Path, link: str, is_broken: bool) -> None:
    (tmp_path / "other.md").write_text("# A second `page`!\n")
    page = tmp_path / "page.md"
    page.write_text(f"# This page's title\n\n[a link]({link})\n\n```\n# Not a heading\n```\n")

    assert broken_links(page) == ([link] if is_broken else [])


def test_readme_is_short_and_links_every_page() -> None:
    readme = (ROOT / "README.md").read_text()

    assert len(readme.splitlines()) <= LONGEST_README_LINES
    assert {f"docs/{page.name}" for page in (ROOT / "docs").iterdir()} <= set(LINK.findall(readme))


@pytest.mark.parametrize("page", [*PAGES, EXAMPLE], ids=lambda page: page.name)
def test_prose_names_people_instead_of_hinting_at_them(page: Path) -> None:
    assert VAGUE.findall(page.read_text()) == []


def test_settings_are_documented_with_their_defaults() -> None:
    table = rows(section(REFERENCE, "Settings"), "name")
    documented = {CODE.findall(cells[0])[0]: cells[1] for cells in table}

    assert set(documented) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = documented[name.upper()]
        if default.startswith("none"):
            assert not getattr(field.default, "get_secret_value", lambda: field.default)()  # noqa: B023 - called at once
        elif isinstance(field.default, bool):
            assert default == f"`{str(field.default).lower()}`"
        else:
            assert default == f"`{field.default}`"


def test_example_holds_every_setting_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    lines = [line.partition("=") for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]

    assert {name for name, _, _ in lines} == {name.upper() for name in Settings.model_fields}
    assert len(lines) == len(Settings.model_fields)
    given: dict[str, Any] = {"_env_file": EXAMPLE}
    assert Settings(**given) == Settings(**given | {"_env_file": None})


@pytest.mark.parametrize("page", [*PAGES, EXAMPLE], ids=lambda page: page.name)
def test_settings_that_a_page_mentions_exist(page: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | OTHER_VARIABLES

    assert set(VARIABLE.findall(page.read_text())) <= known


def test_commands_and_their_options_are_documented() -> None:
    documented = {
        re.sub(r" [A-Z ]+$", "", CODE.findall(cells[0])[0]): set(re.findall(r"--[a-z-]+", cells[2]))
        for cells in rows(section(REFERENCE, "Commands"), "command")
    }

    assert documented == {name: options(command) for name, command in commands().items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_mentions_exist(page: Path) -> None:
    known = commands()
    shown = re.findall(r"(?<![/\w])(?:\.venv/bin/)?lytics-sailthru ((?:export )?[a-z]+)\b([^`\n]*)", page.read_text())
    in_examples = [(words, rest) for words, rest in shown if words != "lytics"]

    for words, rest in in_examples:
        assert words in known, words
        given = {part for part in rest.split("#")[0].split() if part.startswith("--")}
        assert given <= options(known[words]), (words, rest)


def test_routes_are_documented(openapi: dict[str, Any]) -> None:
    documented = names(section(REFERENCE, "HTTP API"), "call")

    assert sorted(documented) == sorted(
        f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_routes_that_a_page_mentions_exist(openapi: dict[str, Any], page: Path) -> None:
    known = [
        re.compile(f"{method.upper()} {re.sub(r'{[a-z_]+}', '[^/]+', path)}")
        for path, methods in openapi["paths"].items()
        for method in methods
    ]
    mentioned = {f"{method} {path}" for method, path in CALL.findall(page.read_text())}
    ours = {call for call in mentioned if call.split()[1] not in OF_SAILTHRU and "/_sandbox/" not in call}

    assert [call for call in sorted(ours) if not any(each.fullmatch(call) for each in known)] == []


@pytest.mark.parametrize(
    ("title", "path"),
    [
        ("Export", "/exports/{export_id}"),
        ("Backfill", "/exports/{export_id}/backfills/{backfill_id}"),
        ("Dead letter", "/dead-letters"),
        ("Rejected event", "/rejected-events"),
        ("Authorization", "/authorizations"),
    ],
)
def test_fields_of_answers_are_documented(openapi: dict[str, Any], title: str, path: str) -> None:
    assert names(section(REFERENCE, title), "field") == list(answer(openapi, path))


@pytest.mark.parametrize(("title", "name"), [("Membership", "memberships"), ("Timeline entry", "timeline")])
def test_fields_of_a_member_are_documented(openapi: dict[str, Any], title: str, name: str) -> None:
    member = answer(openapi, "/members/{email}")

    assert names(section(REFERENCE, title), "field") == list(schema(openapi, member[name]))


def test_fields_of_a_start_and_of_errors_are_documented(openapi: dict[str, Any]) -> None:
    body = openapi["paths"]["/exports"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert names(section(REFERENCE, "Start an export"), "field") == list(schema(openapi, body))
    assert names(section(REFERENCE, "Errors"), "field") == list(
        openapi["components"]["schemas"]["Problem"]["properties"]
    )


def test_fields_of_every_request_and_answer_are_mentioned(openapi: dict[str, Any]) -> None:
    text = section(REFERENCE, "HTTP API")
    known = {name for view in openapi["components"]["schemas"].values() for name in view.get("properties", {})}

    assert [name for name in sorted(known) if not re.search(rf"[`\"?]{name}[`\"=]", text)] == []


@pytest.mark.parametrize(
    ("title", "head", "known"),
    [
        ("Export", "state", ExportState),
        ("Backfill", "state", BackfillState),
        ("Backfill", "reason to skip a row", Skip),
        ("Reasons of rejected webhooks", "reason", Reason),
    ],
)
def test_states_and_reasons_are_documented(title: str, head: str, known: Iterable[str]) -> None:
    assert sorted(names(section(REFERENCE, title), head)) == sorted(known)


def test_metrics_are_documented_with_their_labels() -> None:
    registry = Metrics("x").registry
    known = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name: set(vars(collector)["_labelnames"])
        for collector in registry._collector_to_names
        for metric in collector.collect()
    }
    documented = {
        CODE.findall(cells[0])[0]: set(CODE.findall(cells[1])) for cells in rows(section(REFERENCE, "Metrics"), "name")
    }

    assert documented == known


# The changelog names former metrics.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_metrics_that_a_page_mentions_exist(page: Path) -> None:
    known = set(names(section(REFERENCE, "Metrics"), "name"))
    mentioned = set(re.findall(r"`(lytics_sailthru_\w+?)(?:_bucket|_count|_sum)?[`{]", page.read_text()))

    assert mentioned <= known


def test_codes_are_documented() -> None:
    documented = names(section(REFERENCE, "Codes"), "code")
    rejections = {str(reason) for reason in Reason}

    assert sorted(documented) == sorted(set(EXPLANATIONS) - rejections)


def test_reasons_in_errors_are_documented() -> None:
    documented = names(section(REFERENCE, "Reasons in errors"), "reason")

    assert sorted(documented) == sorted(reasons_in_errors())


def test_alarms_are_documented() -> None:
    known: Iterable[str] = importlib.import_module("app.alarms").AlarmName

    assert sorted(names(section(OPERATE, "Alarms and monitoring"), "alarm")) == sorted(known)


@pytest.mark.parametrize(
    ("title", "control"),
    [
        ("Control routes of Sailthru", sailthru_control(SailthruSandbox({}))),
        ("Control routes of Lytics", lytics_control(LyticsSandbox("token"))),
    ],
)
def test_control_routes_of_the_sandbox_are_documented(title: str, control: Starlette) -> None:
    routes = [route for route in control.routes if isinstance(route, Route)]
    known = [f"{method} {route.path}" for route in routes for method in (route.methods or set()) - {"HEAD"}]

    assert sorted(names(section(SANDBOX, title), "route")) == sorted(known)


def test_holds_and_switches_of_the_sandbox_are_documented() -> None:
    known = [each.name for part in (Hold, SailthruSandbox({}).switches) for each in fields(part)]
    in_state = names(section(SANDBOX, "Control routes of Sailthru").partition("**hold**")[0], "field")

    assert names(section(SANDBOX, "Control routes of Sailthru"), "field") == [*in_state, *known]


def test_faults_of_the_sandbox_are_documented() -> None:
    kinds, rule = section(SANDBOX, "Kinds of faults"), section(SANDBOX, "Fields of a rule")

    assert sorted(names(kinds, "kind")) == sorted(get_args(faults.Kind))
    assert {"kind", *names(kinds, "field")} == {each.name for each in fields(faults.Fault)}
    assert names(rule, "field") == [each.name for each in fields(Rule)]
    assert {*ENDPOINTS} == {name for name in CODE.findall(rule) if name.startswith(("/v2", "/api"))}


def test_body_of_the_fault_route_is_documented() -> None:
    documented = names(section(SANDBOX, "Faults").partition("### ")[0], "field")

    assert documented == [each.name for each in fields(FaultSettings)]


def test_sandbox_state_is_documented() -> None:
    state = SailthruSandbox({"key": "secret"}).state()
    accounts = state["accounts"]
    assert isinstance(accounts, dict)
    text = section(SANDBOX, "Control routes of Sailthru")

    assert [name for name in (*accounts["key"], *state) if name != "accounts" and f"`{name}`" not in text] == []


def test_baseline_of_the_benchmark_is_shown_as_it_is() -> None:
    _, _, code = (ROOT / "tests" / "bench" / "baseline.py").read_text().removeprefix('"""').partition('"""\n')

    assert f"```python\n{code.lstrip()}```\n" in (ROOT / "docs" / "benchmarks.md").read_text()


def test_folders_and_modules_in_the_layout_exist() -> None:
    """Every name in the tree is there, and every entry of `app` is in the tree."""
    tree = FENCE.findall(section(ROOT / "docs" / "contributing.md", "The layout"))[0]
    shown = set(re.findall(r"\b([a-z_]+(?:/|\.py))", tree.replace("__main__.py", ""))) - {"app/"}
    known = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "app").rglob("*")}
    top = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "app").iterdir()}

    assert shown <= known
    assert {name for name in top if not name.startswith("__") and name != "py.typed"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_a_page_mentions_exist(page: Path) -> None:
    mentioned = set(re.findall(r"`((?:app|tests|docs|deploy|\.ci)/[\w./-]*)`", page.read_text()))

    assert [path for path in sorted(mentioned) if not (ROOT / path).exists()] == []


def test_make_targets_that_a_page_mentions_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {
        name for page in PAGES for name in re.findall(r"(?:`|^    )make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }

    assert mentioned <= targets
    assert {"test", "demo"} <= mentioned
