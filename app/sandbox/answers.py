"""
How Sailthru answers: JSON, errors as XML where JSON was not asked for, the headers of every reply.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from xml.sax.saxutils import escape

from app.sandbox.limits import Rate

ACCOUNT_TIME_ZONE = timezone(-timedelta(hours=7))

JSONObject = dict[str, object]
RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """
    A status and a body to be.
    """

    status: int
    body: JSONObject


class Refused(Exception):
    """
    A call that Sailthru does not carry out: HTTP status, its own error number, its words.
    """

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, {"error": code, "errormsg": text})


def account_time(moment: datetime) -> str:
    """
    As in `Sat, 02 Oct 2021 16:46:59 -0700`: in the account's time zone.
    """
    return format_datetime(moment.astimezone(ACCOUNT_TIME_ZONE))


def render(answer: Answer, *, is_json: bool, rate: Rate, closes: bool) -> tuple[RawHeaders, bytes]:
    """
    Headers and body as bytes. `closes` announces that the connection is not kept, as every recorded reply did.
    """
    if is_json or "error" not in answer.body:
        content_type, body = b"application/json", json.dumps(answer.body)
    else:
        content_type, body = b"text/xml", _error_as_xml(answer.body)
    headers = [
        (b"content-type", content_type),
        (b"transfer-encoding", b"chunked"),
        (b"server", b"Sailthru"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-xss-protection", b"1; mode=block"),
        (b"x-frame-options", b"SAMEORIGIN"),
        (b"x-rate-limit-limit", b"%d" % rate.limit),
        (b"x-rate-limit-remaining", b"%d" % rate.remaining),
        (b"x-rate-limit-reset", b"%d" % rate.reset),
    ]
    if closes:
        headers.append((b"connection", b"close"))
    return headers, body.encode()


def _error_as_xml(body: JSONObject) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<triggermail><error>{body['error']}</error>"
        f"<errormsg>{escape(str(body['errormsg']))}</errormsg></triggermail>"
    )
