"""The scan of an audience, page by page, as v1 of the API has it.

https://www.contentstack.com/docs/developers/apis/lytics-api/v1/segment
"""

import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from app.sandbox import control
from app.sandbox.answers import JSONObject
from app.sandbox.audiences import Audience
from app.sandbox.people import People

USUAL_LIMIT, LARGEST_LIMIT = 10, 100
MOST_GENERATED = 100_000_000


@dataclass
class ScanSwitches:
    """How scans go wrong: every later page leads to itself; what is said of a token that is not known."""

    loops: bool = False
    unknown_token_is_404: bool = False


class Scans:
    """Scans of audiences, and who is in them.

    A token says how many people were shown so far, no more: whoever of them leaves meanwhile, lets the next page miss
    somebody, as Lytics warns that membership may change during a scan.
    """

    def __init__(self) -> None:
        self.people: defaultdict[str, People] = defaultdict(People)
        self.switches = ScanSwitches()
        self._epoch = 0

    def size_of(self, audience: Audience) -> int:
        """How many people are in an audience; what it says itself where nobody was ever put in."""
        return len(self.people[audience.id]) if audience.id in self.people else audience.size

    def expire(self) -> None:
        """All tokens handed out so far are unknown from now on."""
        self._epoch += 1

    def reset(self) -> None:
        """Goes right again; who is in an audience stays."""
        self.switches = ScanSwitches()

    def answer(self, audience: Audience | None, query: Mapping[str, str]) -> Response:
        """One page of an audience, or what is said where there is none."""
        if audience is None or audience.is_deleted:
            return _refused(HTTPStatus.NOT_FOUND, "segment not found")
        limit = query.get("limit") or str(USUAL_LIMIT)
        if re.fullmatch("[1-9][0-9]{0,8}", limit) is None:
            return _refused(HTTPStatus.BAD_REQUEST, "invalid limit")
        size = min(int(limit), LARGEST_LIMIT)
        token = query.get("start") or ""
        start = self._place(audience, token) if token else 0
        if start is None:
            is_404 = self.switches.unknown_token_is_404
            return _refused(HTTPStatus.NOT_FOUND if is_404 else HTTPStatus.BAD_REQUEST, "unknown scan")
        people = self.people.get(audience.id) or People()
        following = self._token(audience, start + size) if start + size < len(people) else ""
        wanted = [name for name in query.get("fields", "").split(",") if name]
        rows = [_row(profile, audience, wanted) for profile in people.page(start, size)]
        return JSONResponse(
            {
                "status": 200,
                "message": "success",
                "_next": token if self.switches.loops and token else following,
                "total": len(people),
                "data": rows,
            }
        )

    def change_people(self, audience: Audience, wish: JSONObject) -> None:
        """What the control door `members` does.

        Raises:
            BadWish: it can't be understood, and nothing has changed.
        """
        entering, leaving, count = wish.get("add", []), wish.get("remove", []), wish.get("generate", 0)
        if not isinstance(entering, list) or not all(isinstance(one, dict) for one in entering):
            raise control.BadWish("`add` is an array of profiles.")
        if not isinstance(leaving, list) or not all(isinstance(one, str) for one in leaving):
            raise control.BadWish("`remove` is an array of ids or addresses.")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_GENERATED:
            raise control.BadWish(f"`generate` is a number of people, at most {MOST_GENERATED}.")
        people = self.people[audience.id]
        try:
            people.add(entering)
        except ValueError as error:
            raise control.BadWish(str(error)) from error
        people.generate(count)
        people.remove(leaving)

    def change(self, wish: JSONObject) -> None:
        """What the control door `scans` does.

        Raises:
            BadWish: it can't be understood, and nothing has changed.
        """
        switches = {name: value for name, value in wish.items() if name != "expire"}
        expires = wish.get("expire", False)
        if not isinstance(expires, bool):
            raise control.BadWish("`expire` is true or false.")
        control.set_switches(self.switches, switches)
        if expires:
            self.expire()

    def state(self) -> JSONObject:
        """How many people are in each audience into which any were put."""
        return {audience_id: len(people) for audience_id, people in self.people.items()}

    def _token(self, audience: Audience, place: int) -> str:
        return base64.urlsafe_b64encode(json.dumps([self._epoch, audience.id, place]).encode()).decode()

    def _place(self, audience: Audience, token: str) -> int | None:
        """How many people were shown before, None for a token that is not known."""
        try:
            epoch, audience_id, place = json.loads(base64.urlsafe_b64decode(token))
        except (binascii.Error, ValueError, TypeError):
            return None
        is_known = (epoch, audience_id) == (self._epoch, audience.id) and isinstance(place, int)
        return place if is_known else None


def _row(profile: JSONObject, audience: Audience, wanted: list[str]) -> JSONObject:
    whole = {**profile, "segments": [audience.slug]}
    return {name: _as_text(value) for name, value in whole.items() if not wanted or name in wanted}


def _as_text(value: object) -> object:
    """The value as v1 shows it: every scalar is a text."""
    if isinstance(value, dict):
        return {name: _as_text(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _refused(status: HTTPStatus, text: str) -> Response:
    return JSONResponse({"data": None, "message": text, "status": status}, status_code=status)
