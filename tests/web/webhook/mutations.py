"""Broken webhook bodies, derived from valid ones. The same seed gives the same bodies."""

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "fixtures" / "lytics" / "composed"
# JSON texts that no JSON writer produces.
RAW = (
    "1e999",
    "-1e999",
    "NaN",
    "9" * 400,
    "-" + "9" * 6000,
    "0." + "1" * 3000,
    "[" * 5000,
    "[" * 90 + "]" * 90,
    '{"a":' * 150 + "1" + "}" * 150,
    '"\\ud83d"',
    '"\\ude00\\ud83d"',
    '"a\\u0000b"',
    '"\\u0000"',
    '"ada\\u0000@example.com"',
    '"ada\\ud83d@example.com"',
    '"' + "x" * 20_000 + '"',
    '"' + "@" * 300 + '"',
    "",
    '"',
    "}",
    "undefined",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    2**64,
    1.5,
    "",
    " ",
    "\x00",
    "enter",
    "exit",
    "change",
    "left",
    "email",
    "0001-01-01T00:00:00Z",
    "2250-12-31T23:59:59.999999999Z",
    "9999-12-31T23:59:59Z",
    "2026-04-11T17:40:35+99:99",
    "b\u00e9b\u00e9@\u0443\u043a\u0440.example.com",
    "a" * 300,
    [],
    {},
    [[]],
    [None, "x@example.com"],
    {"email": "x@example.com"},
)
MARK = "\ue000raw\ue000"


class Mutator:
    def __init__(self, seed: str) -> None:
        self._dice = random.Random(seed)
        self._good = [json.loads(path.read_bytes()) for path in sorted(FIXTURES.glob("webhook_*.json"))]
        self._other = [path.read_bytes() for path in sorted(FIXTURES.glob("*.json"))]

    def bodies(self, count: int) -> Iterator[bytes]:
        """Yield `count` bodies, each changed in several ways."""
        for _ in range(count):
            yield self._body()

    def _body(self) -> bytes:
        body = self._dice.choice(self._other) if self._dice.random() < 0.1 else self._written(self._tree())
        mutations: list[Callable[[bytes], bytes]] = [self._flip, self._cut, self._splice, self._insert, self._swap]
        for _ in range(self._dice.choice((0, 0, 0, 1, 1, 3))):
            body = self._dice.choice(mutations)(body)
        return body

    def _tree(self) -> Any:
        """Return a message, or an array of messages, with some values changed."""
        tree = deepcopy(self._dice.choice(self._good))
        if self._dice.random() < 0.3:
            tree = [deepcopy(self._dice.choice(self._good)) for _ in range(self._dice.randint(0, 12))]
        for _ in range(self._dice.choice((0, 1, 1, 2, 5))):
            places = list(_places(tree))
            if places:
                holder, key = self._dice.choice(places)
                self._change(holder, key)
        return tree

    def _change(self, holder: Any, key: Any) -> None:
        match self._dice.randint(0, 5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = [holder[key], deepcopy(holder[key])]
            case 2:
                holder[key] = {"value": holder[key]}
            case 3:
                holder[key] = MARK
            case _:
                holder[key] = deepcopy(self._dice.choice(VALUES))

    def _written(self, tree: Any) -> bytes:
        text = json.dumps(tree, ensure_ascii=self._dice.random() < 0.5)
        mark = json.dumps(MARK)
        for form in (mark, f'"{MARK}"'):
            while form in text:
                text = text.replace(form, self._dice.choice(RAW), 1)
        if self._dice.random() < 0.1:
            # Add a duplicate name.
            text = text.replace("{", f'{{"id": {json.dumps(self._dice.choice(VALUES))}, ', 1)
        return text.encode("utf-8", "surrogatepass")

    def _flip(self, body: bytes) -> bytes:
        changed = bytearray(body)
        for _ in range(self._dice.randint(1, 8)):
            if changed:
                changed[self._dice.randrange(len(changed))] ^= 1 << self._dice.randrange(8)
        return bytes(changed)

    def _cut(self, body: bytes) -> bytes:
        begin, end = sorted(self._dice.randrange(len(body) + 1) for _ in range(2))
        return self._dice.choice((body[:end], body[begin:], body[:begin] + body[end:]))

    def _splice(self, body: bytes) -> bytes:
        other = self._dice.choice(self._other)
        return body[: self._dice.randrange(len(body) + 1)] + other[self._dice.randrange(len(other)) :]

    def _insert(self, body: bytes) -> bytes:
        place = self._dice.randrange(len(body) + 1)
        inserted = self._dice.choice(
            (b"\xff", b"\xed\xa0\xbd", b"\x00", b"\\u0000", b"\\ud83d", b"\xe2\x80\xa8", b'"', b"\\")
        )
        return body[:place] + inserted * self._dice.choice((1, 1, 50)) + body[place:]

    def _swap(self, body: bytes) -> bytes:
        """Replace one bracket, sign or quotation mark by another."""
        old, new = self._dice.sample((b"{", b"}", b"[", b"]", b":", b",", b'"'), 2)
        return body.replace(old, new, self._dice.choice((1, 1, -1)))


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the place of every value, as its container and the key or index in it."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
