"""How Sailthru answers: JSON, errors as XML where JSON was not asked for, the headers of every reply."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http import HTTPStatus
from typing import Literal
from xml.sax.saxutils import escape

from app.sandbox.limits import Rate

ACCOUNT_TIME_ZONE = timezone(-timedelta(hours=7))

JSONObject = dict[str, object]
RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """A status and a body to be.

    Attributes:
        form: "asked" for what the call asks for; "half" is cut off in the middle, "html" a page in the body's place.
        with_rate_headers: whether it tells the limit.
    """

    status: int
    body: JSONObject
    form: Literal["asked", "xml", "html", "empty", "half"] = "asked"
    with_rate_headers: bool = True


class Refused(Exception):
    """A call that Sailthru does not carry out: HTTP status, its own error number, its words."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, {"error": code, "errormsg": text})


def account_time(moment: datetime) -> str:
    """As in `Sat, 02 Oct 2021 16:46:59 -0700`: in the account's time zone."""
    return format_datetime(moment.astimezone(ACCOUNT_TIME_ZONE))


def render(answer: Answer, *, is_json: bool, rate: Rate, closes: bool) -> tuple[RawHeaders, bytes]:
    """Headers and body as bytes; of a half answer, the first half. `closes` announces that the connection is not
    kept, as every recorded reply did.
    """
    content_type, body = _written(answer, is_json=is_json)
    headers = [
        (b"content-type", content_type),
        (b"transfer-encoding", b"chunked"),
        (b"server", b"Sailthru"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-xss-protection", b"1; mode=block"),
        (b"x-frame-options", b"SAMEORIGIN"),
    ]
    if answer.with_rate_headers:
        headers += [
            (b"x-rate-limit-limit", b"%d" % rate.limit),
            (b"x-rate-limit-remaining", b"%d" % rate.remaining),
            (b"x-rate-limit-reset", b"%d" % rate.reset),
        ]
    if closes:
        headers.append((b"connection", b"close"))
    return headers, body.encode()


def page(status: int) -> str:
    """What a server in front of an API shows in its place."""
    words = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
    return (
        f"<html>\r\n<head><title>{words}</title></head>\r\n<body>\r\n<center><h1>{words}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )


def _written(answer: Answer, *, is_json: bool) -> tuple[bytes, str]:
    match answer.form:
        case "html":
            return b"text/html", page(answer.status)
        case "empty":
            return b"text/html", ""
        case "half":
            body = json.dumps(answer.body)
            return b"application/json", body[: len(body) // 2]
        case "asked" if is_json or "error" not in answer.body:
            return b"application/json", json.dumps(answer.body)
        case _:
            return b"text/xml", error_as_xml(answer.body)


def error_as_xml(body: JSONObject) -> str:
    """The error in the form that Sailthru gives it where JSON was not asked for."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<triggermail><error>{body['error']}</error>"
        f"<errormsg>{escape(str(body['errormsg']))}</errormsg></triggermail>"
    )
