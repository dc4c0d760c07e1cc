"""Bodies as nobody means to send them, made from good ones: the same again for the same seed."""

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "fixtures" / "lytics" / "composed"
# What is written as it is, since no JSON writer would do it.
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
    """Spoils bodies."""

    def __init__(self, seed: str) -> None:
        self._dice = random.Random(seed)
        self._good = [json.loads(path.read_bytes()) for path in sorted(FIXTURES.glob("webhook_*.json"))]
        self._other = [path.read_bytes() for path in sorted(FIXTURES.glob("*.json"))]

    def bodies(self, count: int) -> Iterator[bytes]:
        """So many bodies, each spoilt in one to four ways."""
        for _ in range(count):
            yield self._body()

    def _body(self) -> bytes:
        body = self._dice.choice(self._other) if self._dice.random() < 0.1 else self._written(self._tree())
        ways: list[Callable[[bytes], bytes]] = [self._flip, self._cut, self._splice, self._insert, self._swap]
        for _ in range(self._dice.choice((0, 0, 0, 1, 1, 3))):
            body = self._dice.choice(ways)(body)
        return body

    def _tree(self) -> Any:
        """A message, or an array of several, in which some values are others."""
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
            # A name that comes twice.
            text = text.replace("{", f'{{"id": {json.dumps(self._dice.choice(VALUES))}, ', 1)
        return text.encode("utf-8", "surrogatepass")

    def _flip(self, body: bytes) -> bytes:
        spoilt = bytearray(body)
        for _ in range(self._dice.randint(1, 8)):
            if spoilt:
                spoilt[self._dice.randrange(len(spoilt))] ^= 1 << self._dice.randrange(8)
        return bytes(spoilt)

    def _cut(self, body: bytes) -> bytes:
        begin, end = sorted(self._dice.randrange(len(body) + 1) for _ in range(2))
        return self._dice.choice((body[:end], body[begin:], body[:begin] + body[end:]))

    def _splice(self, body: bytes) -> bytes:
        other = self._dice.choice(self._other)
        return body[: self._dice.randrange(len(body) + 1)] + other[self._dice.randrange(len(other)) :]

    def _insert(self, body: bytes) -> bytes:
        place = self._dice.randrange(len(body) + 1)
        what = self._dice.choice(
            (b"\xff", b"\xed\xa0\xbd", b"\x00", b"\\u0000", b"\\ud83d", b"\xe2\x80\xa8", b'"', b"\\")
        )
        return body[:place] + what * self._dice.choice((1, 1, 50)) + body[place:]

    def _swap(self, body: bytes) -> bytes:
        """Brackets and other signs that stand for one another."""
        one, another = self._dice.sample((b"{", b"}", b"[", b"]", b":", b",", b'"'), 2)
        return body.replace(one, another, self._dice.choice((1, 1, -1)))


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value, as what holds it and the name or index there."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
