"""A client of the running service's API."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx
import typer

from app import __version__, terminal
from app.commands.remedies import translated
from app.domain.errors import ServiceRefused, ServiceUnreachable
from app.domain.unreachable import Unreachable, why_unreachable
from app.explain.connection import explain_unreachable

LONGEST_ANSWER_SECONDS = 60.0
LONGEST_CONNECT_SECONDS = 5.0
PROBLEM = "application/problem+json"
SETTING = "SERVICE_URL"

JSONObject = dict[str, Any]


class Answer(NamedTuple):
    """An answer of the service.

    Args:
        text: the original body, for `--json`.
        data: the parsed body. Its sentences name commands instead of API calls.
    """

    text: str
    data: JSONObject


class Service:
    """A client of the running service.

    Every request carries the admin token, so redirects are not followed and the environment's proxies are not used.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/json",
                "User-Agent": f"lytics-sailthru/{__version__}",
            },
            timeout=httpx.Timeout(LONGEST_ANSWER_SECONDS, connect=LONGEST_CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    def get(self, path: str, *, is_quiet: bool = False) -> Answer:
        return self.call("GET", path, is_quiet=is_quiet)

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, is_quiet: bool = False
    ) -> Answer:
        """Make one call. A spinner appears if it takes long, unless `is_quiet`.

        Raises:
            ServiceRefused: the service answered with a problem.
            ServiceUnreachable: there was no answer, or it came from another server.
        """
        try:
            with nullcontext() if is_quiet else terminal.waiting(f"Waiting for {self._url} …"):
                response = self._http.request(method, path, json=body)
        except httpx.RequestError as error:
            failure = ServiceUnreachable(self._explain_failure(error))
        else:
            return self._read(response)
        # Raised outside the handler, because httpx's errors hold the request with its token.
        raise failure

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _read(self, response: httpx.Response) -> Answer:
        data = _json_object(response.text)
        if response.is_success and data is not None:
            return Answer(response.text, translated(data))
        if data is not None and response.headers.get("Content-Type", "").startswith(PROBLEM):
            raise _refusal(response.status_code, translated(data))
        raise ServiceUnreachable(
            f"The answer from {self._url} (HTTP {response.status_code}) is not from this service. "
            f"Check {SETTING}, and any proxy in front of the service."
        )

    def _explain_failure(self, error: httpx.RequestError) -> str:
        if isinstance(error, httpx.ReadTimeout):
            return (
                f"{self._url} did not answer within {LONGEST_ANSWER_SECONDS:g} seconds. "
                "The command may have taken effect: check before you repeat it."
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            why = why_unreachable(error) or Unreachable.SILENT
            happened, next_step = explain_unreachable(why, urlsplit(self._url).netloc, SETTING)
            return f"{happened} {next_step} {SETTING} is {self._url}. Check that the service runs there."
        return (
            f"{self._url} closed the connection before it answered. "
            "The command may have taken effect: check before you repeat it."
        )


def service_of(context: typer.Context) -> Service:
    """Return a client of the service that the settings name. The command must close it.

    Raises:
        BadSettings: the settings are invalid, or hold no admin token.
    """
    connect: Callable[[], Service] = context.obj
    return connect()


def _refusal(status: int, problem: JSONObject) -> ServiceRefused:
    sentences = [str(problem.get("detail") or problem.get("title") or f"HTTP {status}")]
    sentences += [f"{error.get('at')}: {error.get('rule')}." for error in problem.get("errors") or ()]
    if status == HTTPStatus.UNAUTHORIZED:
        sentences.append("The service does not accept the first token of ADMIN_TOKENS in your settings.")
    lines = [audience_line(audience) for audience in problem.get("candidates") or ()]
    lines += [f"add {_option(name, value)}" for name, value in (problem.get("choices") or {}).items()]
    return ServiceRefused(" ".join(sentences), lines)


def audience_line(audience: Mapping[str, object]) -> str:
    """Return the id, slug and name of an audience on one line, without empty ones."""
    return "  ".join(str(audience[key]) for key in ("id", "slug", "name") if audience.get(key))


def _option(name: str, value: object) -> str:
    """Return the command line option for a field of a request. None stands for any value."""
    return f"--{name.replace('_', '-')} {name.upper() if value is None else value}"


def _json_object(text: str) -> JSONObject | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
