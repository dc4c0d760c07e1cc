"""Exit codes and texts of commands for answers and failures of the service."""

import json
import socket
from pathlib import Path

import httpx
import pytest
import respx

from tests.command_line import Ended
from tests.commands.conftest import Run
from tests.promises.processes import ADMIN_TOKEN

URL = "https://lists.example.com"
EXPORTS: dict[str, list[object]] = {"items": [], "unexported": []}


@pytest.fixture
def operator(run: Run) -> Run:
    """Run a command against the service at `URL`."""

    def operator(*words: str, url: str = URL) -> Ended:
        ended = run(*words, SERVICE_URL=url, ADMIN_TOKENS=ADMIN_TOKEN)
        assert ADMIN_TOKEN not in ended.out + ended.err
        assert "Traceback" not in ended.err
        return ended

    return operator


def problem(status: int, **more: object) -> httpx.Response:
    body = {"title": "T", "status": status, **more}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


@respx.mock
def test_token_is_sent_to_the_service_only(operator: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client ignores proxies of the environment, and keeps the path of SERVICE_URL."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    route = respx.get(f"{URL}/behind/exports").respond(json=EXPORTS)
    ended = operator("export", "list", url=f"{URL}/behind/")

    assert ended.code == 0
    assert route.calls.last.request.headers["Authorization"] == f"Bearer {ADMIN_TOKEN}"


@respx.mock
def test_json_is_the_exact_body_of_the_service(operator: Run) -> None:
    text = '{ "unexported": [],\n"items" : [], "new":  1.0}'
    respx.get(f"{URL}/exports").respond(text=text)

    assert operator("export", "list", "--json") == Ended(0, f"{text}\n", "")


@respx.mock
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (problem(409, detail="It is stopped. Start it again."), ["It is stopped. Start it again."]),
        (problem(503), ["lytics-sailthru: T"]),
        (
            problem(422, detail="Not the form.", errors=[{"at": "body.name", "rule": "Field required"}]),
            ["Not the form. body.name: Field required."],
        ),
        (
            problem(401, detail="This needs a token."),
            ["This needs a token.", "does not accept the first token of ADMIN_TOKENS"],
        ),
        (
            problem(
                409,
                detail="Several audiences have this name:",
                reason="ambiguous_audience",
                candidates=[{"id": "a1", "slug": "vip", "name": "VIP"}, {"id": "b2", "slug": "vip_1", "name": None}],
            ),
            ["Several audiences have this name:\n  a1  vip  VIP\n  b2  vip_1\n"],
        ),
        (
            problem(409, detail="Taken. Choose:", choices={"adopt": 7, "email_field": None}),
            ["Taken. Choose:\n  add --adopt 7\n  add --email-field EMAIL_FIELD\n"],
        ),
    ],
)
def test_refusal_is_shown_with_exit_code_1(operator: Run, answer: httpx.Response, words: list[str]) -> None:
    """The text is on standard error, also with --json."""
    respx.get(f"{URL}/exports").mock(return_value=answer)
    for more in ((), ("--json",)):
        ended = operator("export", "list", *more)

        assert (ended.code, ended.out) == (1, "")
        for word in words:
            assert word in ended.err


@respx.mock
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<h1>It works!</h1>"),
        httpx.Response(200, json=["not", "an", "object"]),
        httpx.Response(301, headers={"Location": "https://elsewhere.example.com/exports"}),
        httpx.Response(404, json={"error": "no such page"}),
        httpx.Response(502, html="<h1>Bad Gateway</h1>"),
    ],
)
def test_answer_of_another_server_exits_with_3(operator: Run, answer: httpx.Response) -> None:
    """The client follows no redirect, because it would leak the token."""
    respx.get(f"{URL}/exports").mock(return_value=answer)
    ended = operator("export", "list")

    assert (ended.code, ended.out) == (3, "")
    assert f"The answer from {URL} (HTTP {answer.status_code}) is not from this service" in ended.err
    assert "Check SERVICE_URL" in ended.err
    assert len(respx.calls) == 1


@respx.mock
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ReadTimeout("x"), "did not answer within 60 seconds. The command may have taken effect"),
        (httpx.ReadError("x"), "closed the connection before it answered. The command may have taken effect"),
        (httpx.RemoteProtocolError("x"), "closed the connection before it answered. The command may have taken effect"),
        (httpx.ConnectTimeout("x"), "lists.example.com can't be reached. Check SERVICE_URL"),
        (httpx.ConnectError("x"), "lists.example.com can't be reached. Check SERVICE_URL"),
    ],
)
def test_missing_answer_exits_with_3(operator: Run, error: Exception, words: str) -> None:
    respx.get(f"{URL}/exports").mock(side_effect=error)
    ended = operator("export", "list")

    assert (ended.code, ended.out) == (3, "")
    assert words in ended.err


def test_closed_port_is_named(operator: Run) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    ended = operator("member", "ada@example.com", url=f"http://127.0.0.1:{port}")

    assert (ended.code, ended.out) == (3, "")
    assert f"Nothing takes connections at 127.0.0.1:{port}. Check SERVICE_URL" in ended.err
    assert "ada@" not in ended.err


def test_unknown_host_is_named(operator: Run) -> None:
    """Names under .invalid are reserved (RFC 6761)."""
    ended = operator("export", "list", url="https://lists.example.invalid")

    assert ended.code == 3
    assert "The name lists.example.invalid can't be looked up. Check SERVICE_URL" in ended.err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "ADMIN_TOKENS is not set: add an admin token of the running service"),
        ({"ADMIN_TOKENS": "short"}, "ADMIN_TOKENS"),
        (
            {"ADMIN_TOKENS": ADMIN_TOKEN, "SERVICE_URL": "http://lists.example.com"},
            "SERVICE_URL: must start with https",
        ),
    ],
)
def test_wrong_settings_exit_with_2(run: Run, settings: dict[str, str], words: str) -> None:
    ended = run("export", "list", **settings)

    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


@respx.mock
def test_settings_are_read_from_env_file(run: Run, tmp_path: Path) -> None:
    """The first of several admin tokens is sent."""
    (tmp_path / ".env").write_text(f"SERVICE_URL={URL}\nADMIN_TOKENS=mine:{ADMIN_TOKEN},another-one-of-16-characters\n")
    route = respx.get(f"{URL}/exports").respond(json=EXPORTS)
    ended = run("export", "list", "--json")

    assert json.loads(ended.out) == EXPORTS
    assert route.calls.last.request.headers["Authorization"] == f"Bearer {ADMIN_TOKEN}"
