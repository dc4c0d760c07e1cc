"""What each kind of answer, or of silence, means for a command."""

import json
import socket
from pathlib import Path

import httpx
import pytest
import respx

from tests.commands.conftest import Ended, Run
from tests.promises.processes import ADMIN_TOKEN

URL = "https://lists.example.com"
EXPORTS: dict[str, list[object]] = {"items": [], "unexported": []}


@pytest.fixture
def operator(run: Run) -> Run:
    """Runs a command for the service at `URL`."""

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
def test_the_token_goes_to_the_service_alone(operator: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the header, with no proxy of the environment, below the path of the address."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    route = respx.get(f"{URL}/behind/exports").respond(json=EXPORTS)
    ended = operator("export", "list", url=f"{URL}/behind/")

    assert ended.code == 0
    assert route.calls.last.request.headers["Authorization"] == f"Bearer {ADMIN_TOKEN}"


@respx.mock
def test_json_is_the_services_own_word_for_word(operator: Run) -> None:
    """Spaces, order and all, and nothing else on standard output."""
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
        (problem(401, detail="This needs a token."), ["This needs a token.", "The first of ADMIN_TOKENS"]),
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
def test_a_no_of_the_service_is_told_in_its_own_words(operator: Run, answer: httpx.Response, words: list[str]) -> None:
    """On standard error, with exit code 1; also where JSON was asked for."""
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
def test_what_is_not_the_service_is_not_taken_for_it(operator: Run, answer: httpx.Response) -> None:
    """Exit code 3; the token follows no redirect."""
    respx.get(f"{URL}/exports").mock(return_value=answer)
    ended = operator("export", "list")

    assert (ended.code, ended.out) == (3, "")
    assert f"What answers at {URL} is not the service (HTTP {answer.status_code})" in ended.err
    assert "Check SERVICE_URL" in ended.err
    assert len(respx.calls) == 1


@respx.mock
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ReadTimeout("x"), "took the call and did not answer within 60 seconds. It may have been done"),
        (httpx.ReadError("x"), "broke the connection before it answered. It may have been done"),
        (httpx.RemoteProtocolError("x"), "broke the connection before it answered. It may have been done"),
        (httpx.ConnectTimeout("x"), "lists.example.com can't be reached. Check SERVICE_URL"),
        (httpx.ConnectError("x"), "lists.example.com can't be reached. Check SERVICE_URL"),
    ],
)
def test_an_answer_that_does_not_come(operator: Run, error: Exception, words: str) -> None:
    respx.get(f"{URL}/exports").mock(side_effect=error)
    ended = operator("export", "list")

    assert (ended.code, ended.out) == (3, "")
    assert words in ended.err


def test_a_service_that_does_not_run(operator: Run) -> None:
    """A closed port: the address is said, and what to check."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    ended = operator("member", "ada@example.com", url=f"http://127.0.0.1:{port}")

    assert (ended.code, ended.out) == (3, "")
    assert f"Nothing takes connections at 127.0.0.1:{port}. Check SERVICE_URL" in ended.err
    assert "ada@" not in ended.err


def test_a_name_that_nobody_has(operator: Run) -> None:
    """Names under .invalid are never given (RFC 6761)."""
    ended = operator("export", "list", url="https://lists.example.invalid")

    assert ended.code == 3
    assert "The name lists.example.invalid can't be looked up. Check SERVICE_URL" in ended.err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "ADMIN_TOKENS is not set: put one of the running service's"),
        ({"ADMIN_TOKENS": "short"}, "ADMIN_TOKENS"),
        (
            {"ADMIN_TOKENS": ADMIN_TOKEN, "SERVICE_URL": "http://lists.example.com"},
            "SERVICE_URL: must start with https",
        ),
    ],
)
def test_settings_that_are_wrong_end_it_before_anything_is_sent(run: Run, settings: dict[str, str], words: str) -> None:
    ended = run("export", "list", **settings)

    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


@respx.mock
def test_the_settings_come_from_env_files_too(run: Run, tmp_path: Path) -> None:
    """Of several admin tokens the first is shown."""
    (tmp_path / ".env").write_text(f"SERVICE_URL={URL}\nADMIN_TOKENS=mine:{ADMIN_TOKEN},another-one-of-16-characters\n")
    route = respx.get(f"{URL}/exports").respond(json=EXPORTS)
    ended = run("export", "list", "--json")

    assert json.loads(ended.out) == EXPORTS
    assert route.calls.last.request.headers["Authorization"] == f"Bearer {ADMIN_TOKEN}"
