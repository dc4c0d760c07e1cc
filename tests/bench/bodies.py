"""The requests of the load: Lytics' default format with a full profile, and a new person in each event."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

from sqlalchemy import ColumnElement

from tests.promises.processes import WEBHOOK_TOKEN

PATH = "/webhooks/lytics"
_FULL = Path(__file__).parents[1] / "fixtures" / "lytics" / "composed" / "webhook_enter_full.json"
_ID, _ADDRESS = b"%(n)019d", b"person%(n)012d@example.com"


# Coprime to ten, so no two people get the same number.
SCATTER = 3**18
N = TypeVar("N", int, ColumnElement[int])


def scattered(person: N) -> N:
    """Return a unique number of at most 12 digits for each person, so that addresses are in no order."""
    return person * SCATTER % 10**12


def address(person: int) -> str:
    return (_ADDRESS % {b"n": scattered(person)}).decode()


def requests(first: int, events: int) -> Iterator[tuple[int, bytes]]:
    """Yield HTTP requests without end, each with the number of its first person.

    People are numbered from `first`. A request with one event holds a message, with several events an array.
    """
    message = json.loads(_FULL.read_text())
    message["id"], message["data"]["email"] = "ID", "ADDRESS"
    template = json.dumps(message, separators=(",", ":")).encode().replace(b"%", b"%%")
    template = template.replace(b"ID", _ID, 1).replace(b"ADDRESS", _ADDRESS, 1)
    length = len(template % {b"n": 0}) * events + (0 if events == 1 else events + 1)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: {WEBHOOK_TOKEN}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
    for person in count(first, events):
        messages = [template % {b"n": scattered(n)} for n in range(person, person + events)]
        yield person, head + (messages[0] if events == 1 else b"[" + b",".join(messages) + b"]")
