"""From a request to what Sailthru reads in it: its parameters, and whether the signature fits."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from app.sandbox.answers import JSONObject, Refused

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Parameters:
    """The named texts of a request, as they arrived: nothing is trimmed, sorted or written anew."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The first value of that name."""
        return next((value for key, value in self.pairs if key == name), None)

    @property
    def wants_json(self) -> bool:
        """Whether errors may come as JSON. The Accept header has no say in it."""
        return self.get("format") == "json"

    def is_signed_with(self, secret: str) -> bool:
        """Whether `sig` is the one that fits every other value."""
        expected = signature(secret, (value for key, value in self.pairs if key != "sig"))
        return hmac.compare_digest(expected.encode(), (self.get("sig") or "").encode())

    def payload(self) -> JSONObject:
        """The object in `json`; an empty one where it is missing."""
        try:
            payload = json.loads(self.get("json") or "{}")
        except ValueError:
            payload = None
        if payload == []:  # how PHP writes an empty object
            payload = {}
        if not isinstance(payload, dict):
            raise Refused(400, 99, "Invalid JSON in parameter: json")
        return payload


def read_parameters(method: str, *, query: bytes, content_type: str, body: bytes) -> Parameters:
    """From the query of a GET or DELETE, from the form of a POST; a JSON body holds no parameters for Sailthru."""
    text = query
    if method == "POST":
        text = body if content_type.partition(";")[0].strip().lower() == FORM else b""
    try:
        return Parameters(tuple(parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict")))
    except UnicodeDecodeError as error:
        raise Refused(400, 6, "Invalid UTF-8 for field") from error


def signature(secret: str, values: Iterable[str]) -> str:
    """Lower-case hex MD5 of the secret and the values, sorted by code point and joined.

    https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/technical.html
    """
    text = secret + "".join(sorted(values))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
