"""Checks one Sailthru account: key, secret, allowed addresses, and the right to read lists and people."""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from app.check.findings import Finding, Mark
from app.check.unanswered import explain_failure
from app.domain.errors import CallFailed, CredentialsRefused, LimitReached, Permanent, UnknownList
from app.explain.codes import explain
from app.sailthru.answers import USER_NOT_FOUND
from app.sailthru.client import SailthruClient
from app.sailthru.protocol import Credentials

# The reads by endpoint. The expected answer is that the list or person does not exist. Only a write could check whether
# the key may write.
READS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "list": {"list": "A list that does not exist, asked for by lytics-sailthru check"},
        "user": {"id": "lytics-sailthru-check@example.com", "key": "email", "fields": {"lists": 1}},
    }
)

_PAGE = "My Sailthru > Settings > Setup > API & Postbacks"


class Names(NamedTuple):
    """The names of an account's settings in the findings."""

    key: str
    secret: str
    base_url: str


async def check_sailthru(label: str, credentials: Credentials, names: Names, call_timeout: timedelta) -> Finding:
    """Check the account with this label. `call_timeout` applies to each of the two calls."""
    about = f"Sailthru '{label}'"
    async with SailthruClient(credentials, timeout=call_timeout) as client:
        for endpoint, payload in READS.items():
            try:
                await client.call("GET", endpoint, payload)
            except LimitReached as error:
                return Finding(about, Mark.WARNING, str(error), "Key and secret are right. Try again in a minute.")
            except CallFailed as error:
                if isinstance(error, UnknownList) or error.code == USER_NOT_FOUND:
                    continue
                happened, next_step = _refused(error, endpoint, names) or explain_failure(
                    error, base_url=credentials.base_url, setting=names.base_url, timeout=call_timeout
                )
                return Finding(about, Mark.FAILED, happened, next_step)
    return Finding(about, Mark.OK, "Key, secret and this machine's address accepted; lists and people can be read.")


def _refused(error: CallFailed, endpoint: str, names: Names) -> tuple[str, str] | None:
    """Return the explanation and the next step if Sailthru itself refused the call; otherwise None."""
    happened = explain(str(error.code)).happened
    if isinstance(error, CredentialsRefused):
        match error.code:
            case 3:
                return happened, f"Compare {names.key} with the key under {_PAGE}."
            case 4:
                return happened, f"Add this machine's public address to the list under {_PAGE}."
            case 5:
                return happened, f"Compare {names.secret} with the secret under {_PAGE}."
            case _:
                return str(error), f"Check {names.key} and {names.secret}."
    if isinstance(error, Permanent) and error.code != HTTPStatus.NOT_FOUND:
        return (
            f"This key may not read /{endpoint}: {happened}",
            f"Ask Sailthru's support to allow the key in {names.key} to use {endpoint}.",
        )
    return None
