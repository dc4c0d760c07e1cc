"""One call to the running service: what is sent, and what each kind of answer means for a command."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx
import typer

from app import __version__, terminal
from app.domain.errors import ServiceNotReached, ServiceSaidNo
from app.domain.unreachable import Unreachable, why_unreachable
from app.explain.connection import explain_unreachable
from app.explain.remedies import as_commands

LONGEST_ANSWER_SECONDS = 60.0
LONGEST_CONNECT_SECONDS = 5.0
PROBLEM = "application/problem+json"
SETTING = "SERVICE_URL"

JSONObject = dict[str, Any]


class Answer(NamedTuple):
    """What the service said.

    Args:
        text: word for word, for scripts.
        data: the same, read.
    """

    text: str
    data: JSONObject


class Service:
    """A running service.

    Args:
        url: where it is; redirects are not followed, and no proxy of the environment is asked, since a token is sent.
        token: one of its admin tokens.
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
        """What the service tells; see `call`."""
        return self.call("GET", path, is_quiet=is_quiet)

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, is_quiet: bool = False
    ) -> Answer:
        """The answer to one call. While it takes long, that is shown, unless something else is on show already.

        Raises:
            ServiceSaidNo: it answered with a problem.
            ServiceNotReached: no answer came, or not from the service.
        """
        try:
            with nullcontext() if is_quiet else terminal.waiting(f"Waiting for {self._url} …"):
                response = self._http.request(method, path, json=body)
        except httpx.RequestError as error:
            failure = ServiceNotReached(self._why_lost(error))
        else:
            return self._read(response)
        # Outside of the handler: httpx's errors hold the request with its token.
        raise failure

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """The service itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Closes the connections."""
        self.close()

    def _read(self, response: httpx.Response) -> Answer:
        data = _json_object(response.text)
        if response.is_success and data is not None:
            return Answer(response.text, data)
        if data is not None and response.headers.get("Content-Type", "").startswith(PROBLEM):
            raise _refusal(response.status_code, data)
        raise ServiceNotReached(
            f"What answers at {self._url} is not the service (HTTP {response.status_code}). "
            f"Check {SETTING}, and the proxy before it."
        )

    def _why_lost(self, error: httpx.RequestError) -> str:
        if isinstance(error, httpx.ReadTimeout):
            return (
                f"{self._url} took the call and did not answer within {LONGEST_ANSWER_SECONDS:g} seconds. "
                "It may have been done: look before you ask again."
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            why = why_unreachable(error) or Unreachable.SILENT
            happened, next_step = explain_unreachable(why, urlsplit(self._url).netloc, SETTING)
            return f"{happened} {next_step} It is {self._url} now; does the service run there?"
        return f"{self._url} broke the connection before it answered. It may have been done: look before you ask again."


def service_of(context: typer.Context) -> Service:
    """The service that the settings name; a command closes it.

    Raises:
        BadSettings: they name none, or no token for it.
    """
    connect: Callable[[], Service] = context.obj
    return connect()


def _refusal(status: int, problem: JSONObject) -> ServiceSaidNo:
    said = [str(problem.get("detail") or problem.get("title") or f"HTTP {status}")]
    said += [f"{one.get('at')}: {one.get('rule')}." for one in problem.get("errors") or ()]
    if status == HTTPStatus.UNAUTHORIZED:
        said.append("The first of ADMIN_TOKENS, as set here, is none of the service's.")
    lines = [audience_line(one) for one in problem.get("candidates") or ()]
    lines += [f"add {_option(name, value)}" for name, value in (problem.get("choices") or {}).items()]
    return ServiceSaidNo(as_commands(" ".join(said)), lines)


def audience_line(audience: Mapping[str, object]) -> str:
    """An audience in one line: id, slug, and name where it has one."""
    return "  ".join(str(audience[key]) for key in ("id", "slug", "name") if audience.get(key))


def _option(name: str, value: object) -> str:
    """What a call takes in its body, as the command's option for it; None is any value."""
    return f"--{name.replace('_', '-')} {name.upper() if value is None else value}"


def _json_object(text: str) -> JSONObject | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
