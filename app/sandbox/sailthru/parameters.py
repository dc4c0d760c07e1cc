"""The parameters of a request, and its signature."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from app.sandbox.bodies import JSONObject
from app.sandbox.sailthru.answers import Refused

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Parameters:
    """The parameters of a request as they arrived: not trimmed, not sorted, not re-encoded."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """Return the first value of that name."""
        return next((value for key, value in self.pairs if key == name), None)

    @property
    def wants_json(self) -> bool:
        """Whether errors may be sent as JSON. The Accept header does not matter."""
        return self.get("format") == "json"

    def is_signed_with(self, secret: str) -> bool:
        """Return whether `sig` is the signature of all other values."""
        expected = signature(secret, (value for key, value in self.pairs if key != "sig"))
        return hmac.compare_digest(expected.encode(), (self.get("sig") or "").encode())

    def payload(self) -> JSONObject:
        """Return the object in `json`; an empty object if the parameter is missing."""
        try:
            payload = json.loads(self.get("json") or "{}")
        except ValueError:
            payload = None
        if payload == []:  # PHP encodes an empty object as an empty array.
            payload = {}
        if not isinstance(payload, dict):
            raise Refused(400, 99, "Invalid JSON in parameter: json")
        return payload


def read_parameters(method: str, *, query: bytes, content_type: str, body: bytes) -> Parameters:
    """Read the query of a GET or DELETE, or the form of a POST. Sailthru does not read parameters from a JSON body."""
    text = query
    if method == "POST":
        text = body if content_type.partition(";")[0].strip().lower() == FORM else b""
    try:
        return Parameters(tuple(parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict")))
    except UnicodeDecodeError as error:
        raise Refused(400, 6, "Invalid UTF-8 for field") from error


def signature(secret: str, values: Iterable[str]) -> str:
    """Return the lower-case hex MD5 of the secret followed by the values, sorted by code point.

    https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/technical.html
    """
    text = secret + "".join(sorted(values))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
