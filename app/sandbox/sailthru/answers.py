"""Renders Sailthru's answers: headers and body. Errors are XML unless the call asks for JSON."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Literal

from app.sandbox.bodies import JSONObject, html_error, xml_error
from app.sandbox.faults import Empty, Error, Fault, Half, Html, Slow, Xml
from app.sandbox.sailthru.limits import Rate

ACCOUNT_TIME_ZONE = timezone(-timedelta(hours=7))

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """The status and body of an answer.

    Attributes:
        form: "requested" is the form that the call requests; "half" is cut off in the middle; "html" is an error page.
        with_rate_headers: whether the answer carries the rate limit headers.
    """

    status: int
    body: JSONObject
    form: Literal["requested", "xml", "html", "empty", "half"] = "requested"
    with_rate_headers: bool = True


OK = Answer(200, {"ok": True})


class Refused(Exception):
    """A call that Sailthru refuses, with the HTTP status, Sailthru's error number and text."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, {"error": code, "errormsg": text})


def faulty_answer(fault: Fault, normal: Answer) -> Answer | None:
    """Return the answer that replaces `normal`; None to end the connection without an answer."""
    match fault:
        case Error(status=status, code=code, text=text):
            answer = Answer(status, {"error": code, "errormsg": text})
        case Xml(status=status, code=code, text=text):
            answer = Answer(status, {"error": code, "errormsg": text}, form="xml")
        case Html(status=status):
            answer = Answer(status, {}, form="html")
        case Empty(status=status):
            answer = Answer(status, {}, form="empty")
        case Half():
            answer = replace(normal, form="half")
        case Slow():
            answer = normal
        case _:
            return None
    return replace(answer, with_rate_headers=fault.with_rate_headers)


def account_time(moment: datetime) -> str:
    """Return a time in the account's time zone, as in `Sat, 02 Oct 2021 16:46:59 -0700`."""
    return format_datetime(moment.astimezone(ACCOUNT_TIME_ZONE))


def render(answer: Answer, *, is_json: bool, rate: Rate, closes: bool) -> tuple[RawHeaders, bytes]:
    """Return headers and body; of a "half" answer only the first half.

    `closes` adds `Connection: close`, which every recorded answer has.
    """
    content_type, body = _body(answer, is_json=is_json)
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


def _body(answer: Answer, *, is_json: bool) -> tuple[bytes, str]:
    match answer.form:
        case "html":
            return b"text/html", html_error(answer.status)
        case "empty":
            return b"text/html", ""
        case "half":
            body = json.dumps(answer.body)
            return b"application/json", body[: len(body) // 2]
        case "requested" if is_json or "error" not in answer.body:
            return b"application/json", json.dumps(answer.body)
        case _:
            return b"text/xml", xml_error(answer.body["error"], answer.body["errormsg"])
