"""Replays scripts of exchanges: our own, and a recording of the real API if it is available."""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.sailthru import SailthruSandbox
from tests.sandbox.caller import KEY, SECRET, Clock, behind, call

ROOT = Path(__file__).resolve().parents[3]
OURS = ROOT / "tests/fixtures/sailthru/exchanges.json"
RECORDED = ROOT.parent / "shared/reference/fixtures/sailthru/recorded_exchanges.json"
PROFILES_BEFORE_THE_RECORDING = ["mixed.case@example.com"]
SET_BY_THE_SERVER = {"sid", "cookie", "list_id"}
ADDRESS = re.compile(r"[\w.]+@example\.(?:com|org)", re.IGNORECASE)


@pytest.fixture(params=[OURS, RECORDED], ids=["ours", "recorded"])
def script(request: pytest.FixtureRequest) -> Any:
    path: Path = request.param
    if not path.exists():
        pytest.skip("The recording is not part of this project and is not available.")
    return json.loads(path.read_text())


async def test_script_is_replayed(script: Any) -> None:
    """Status, body, times and rate limits equal the script. Ids and cookies differ."""
    await replay(script)


async def test_script_is_replayed_with_other_names(script: Any) -> None:
    """The sandbox does not depend on the names in a script."""
    other = with_other_names(script)

    assert not addresses(script) & addresses(other)
    await replay(other)


async def replay(script: Any) -> None:
    limits: dict[tuple[str, str], int] = {}
    for exchange in script["exchanges"]:
        request = exchange["request"]
        limits[request["method"], request["path"]] = exchange["response"]["rate_limit"]["limit"]
    clock = Clock(datetime(2020, 1, 1, tzinfo=UTC))
    sandbox = SailthruSandbox({KEY: SECRET}, limits=limits, clock=clock)
    names = Names()
    calls_this_minute: dict[tuple[str, str, int], int] = {}

    async with behind(sandbox) as http:
        for email in script.get("there_before", PROFILES_BEFORE_THE_RECORDING):
            await call(http, "POST", "/user", {"id": email})
        for exchange in script["exchanges"]:
            request, expected = exchange["request"], exchange["response"]
            clock.now = parsedate_to_datetime(exchange["date"])
            answer = await call(http, request["method"], request["path"], names.ours(request["json"]))

            assert expected["status"] == answer.status_code, exchange
            names.learn(expected["body"], answer.json())
            assert names.ours(expected["body"]) == answer.json()
            assert same_types(expected["body"], answer.json())
            for name, value in script["common_response_headers"].items():
                assert value == answer.headers[name]

            rate = {name: int(answer.headers[f"X-Rate-Limit-{name}"]) for name in ("limit", "remaining", "reset")}
            window = request["method"], request["path"], rate["reset"]
            calls_this_minute[window] = calls_this_minute.get(window, 0) + 1
            assert expected["rate_limit"]["limit"] == rate["limit"]
            assert expected["rate_limit"]["reset"] == rate["reset"]
            assert rate["limit"] - calls_this_minute[window] == rate["remaining"]


class Names:
    """A one-to-one mapping from ids of the script to ids of the sandbox."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def learn(self, theirs: Any, ours: Any) -> None:
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for name, value in theirs.items():
                if name in SET_BY_THE_SERVER and name in ours and value not in self._ours:
                    assert ours[name] not in self._ours.values()
                    self._ours[value] = ours[name]
                self.learn(value, ours.get(name))
        elif isinstance(theirs, list) and isinstance(ours, list):
            for their_item, our_item in zip(theirs, ours, strict=False):
                self.learn(their_item, our_item)

    def ours(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.ours(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.ours(inner) for inner in value]
        if isinstance(value, str):
            for theirs, ours in self._ours.items():
                value = value.replace(theirs, ours)
        return value


def same_types(left: Any, right: Any) -> bool:
    """Compare types as well, because 1 == True == 1.0 in Python."""
    if isinstance(left, dict):
        return all(same_types(left[name], right[name]) for name in left)
    return type(left) is type(right)


def addresses(script: Any) -> set[str]:
    return set(ADDRESS.findall(json.dumps(script["exchanges"])))


def with_other_names(script: Any) -> Any:
    """Return the script with other addresses, lists and text vars, on another day."""
    people = sorted({address.lower() for address in addresses(script)})
    lists: set[str] = set()
    texts: set[str] = set()
    for exchange in script["exchanges"]:
        payload = exchange["request"]["json"]
        lists |= {*payload.get("lists", {}), *([payload["list"]] if "list" in payload else [])}
        texts |= {value for value in payload.get("vars", {}).values() if isinstance(value, str)}

    def other_address(found: re.Match[str]) -> str:
        number = people.index(found[0].lower())
        other = f"other.person{number}@example.net"
        return other if found[0].islower() else other.title()

    text = ADDRESS.sub(other_address, json.dumps({**script, "there_before": there_before(script)}))
    for number, name in enumerate(sorted(lists, key=len, reverse=True)):
        text = text.replace(name, f"Other ({number}): übrige/rest{'$' * name.count('$')}")
    for number, value in enumerate(sorted(texts, key=len, reverse=True)):
        text = text.replace(json.dumps(value), json.dumps(f"text {number}"))
    return json.loads(text)


def there_before(script: Any) -> Any:
    return script.get("there_before", PROFILES_BEFORE_THE_RECORDING)
