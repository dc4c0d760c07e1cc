"""Checks one Sailthru account: its key and secret, this machine's address, and the right to read what the service
reads.
"""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from app.check.findings import Finding, Mark
from app.check.unanswered import why_unanswered
from app.domain.errors import CallFailed, CredentialsRefused, LimitReached, Permanent, UnknownList
from app.explain.codes import explain
from app.sailthru.answers import USER_NOT_FOUND
from app.sailthru.client import SailthruClient
from app.sailthru.protocol import Credentials

READS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "list": {"list": "A list that nobody has, asked for by lytics-sailthru check"},
        "user": {"id": "lytics-sailthru-check@example.com", "key": "email", "fields": {"lists": 1}},
    }
)
"""
What is asked, by endpoint: the service's own reads, where the right answer is that there is no such thing. Whether the
key may write as well can't be found out without writing.
"""

_PAGE = "My Sailthru > Settings > Setup > API & Postbacks"


class Names(NamedTuple):
    """The settings that an account comes from, in words."""

    key: str
    secret: str
    base_url: str


async def check_sailthru(label: str, credentials: Credentials, names: Names, within: timedelta) -> Finding:
    """How the account of a label stands.

    Args:
        within: how long each of its answers may take.
    """
    about = f"Sailthru '{label}'"
    async with SailthruClient(credentials, timeout=within) as client:
        for endpoint, payload in READS.items():
            try:
                await client.call("GET", endpoint, payload)
            except LimitReached as error:
                return Finding(about, Mark.WARNING, str(error), "Key and secret are right. Try again in a minute.")
            except CallFailed as error:
                if isinstance(error, UnknownList) or error.code == USER_NOT_FOUND:
                    continue
                happened, next_step = _refused(error, endpoint, names) or why_unanswered(
                    error, base_url=credentials.base_url, setting=names.base_url, within=within
                )
                return Finding(about, Mark.FAILED, happened, next_step)
    return Finding(
        about, Mark.OK, "It takes key, secret and this machine's address, and lets lists and people be read."
    )


def _refused(error: CallFailed, endpoint: str, names: Names) -> tuple[str, str] | None:
    """What happened and what to do next, where Sailthru said what it refuses; else None."""
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
                return str(error), f"They are {names.key} and {names.secret}."
    if isinstance(error, Permanent) and error.code != HTTPStatus.NOT_FOUND:
        return (
            f"It does not let this key read /{endpoint}: {happened}",
            f"Ask Sailthru's support to give the key in {names.key} the right to {endpoint}.",
        )
    return None
