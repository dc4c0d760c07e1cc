"""Simulates scans of an audience, page by page, in the form of version 1 of the API.

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

from app.sandbox.bodies import JSONObject
from app.sandbox.control import BadControlRequest, set_switches
from app.sandbox.lytics.audiences import Audience
from app.sandbox.lytics.people import People

USUAL_LIMIT, LARGEST_LIMIT = 10, 100
MOST_GENERATED = 100_000_000


@dataclass
class ScanSwitches:
    """Failures of scans. With `loops`, every page after the first names itself as the next page."""

    loops: bool = False
    unknown_token_is_404: bool = False


class Scans:
    """The members of each audience, and scans of them.

    A token holds only the number of members on earlier pages. If one of them leaves before the next page is read, that
    page skips one member. Lytics warns that membership may change during a scan.
    """

    def __init__(self) -> None:
        self.people: defaultdict[str, People] = defaultdict(People)
        self.switches = ScanSwitches()
        self._epoch = 0

    def size_of(self, audience: Audience) -> int:
        """Return the number of members; the audience's own `size` if members were never added."""
        return len(self.people[audience.id]) if audience.id in self.people else audience.size

    def expire(self) -> None:
        """Make all earlier tokens unknown."""
        self._epoch += 1

    def reset(self) -> None:
        """Remove all failures. The members stay."""
        self.switches = ScanSwitches()

    def answer(self, audience: Audience | None, query: Mapping[str, str]) -> Response:
        """Return one page of an audience, or the error for a missing audience or a bad query."""
        if audience is None or audience.is_deleted:
            return _refused(HTTPStatus.NOT_FOUND, "segment not found")
        limit = query.get("limit") or str(USUAL_LIMIT)
        if re.fullmatch("[1-9][0-9]{0,8}", limit) is None:
            return _refused(HTTPStatus.BAD_REQUEST, "invalid limit")
        size = min(int(limit), LARGEST_LIMIT)
        token = query.get("start") or ""
        start = self._offset(audience, token) if token else 0
        if start is None:
            is_404 = self.switches.unknown_token_is_404
            return _refused(HTTPStatus.NOT_FOUND if is_404 else HTTPStatus.BAD_REQUEST, "unknown scan")
        people = self.people.get(audience.id) or People()
        next_token = self._token(audience, start + size) if start + size < len(people) else ""
        fields = [name for name in query.get("fields", "").split(",") if name]
        rows = [_row(profile, audience, fields) for profile in people.page(start, size)]
        return JSONResponse(
            {
                "status": 200,
                "message": "success",
                "_next": token if self.switches.loops and token else next_token,
                "total": len(people),
                "data": rows,
            }
        )

    def change_people(self, audience: Audience, body: JSONObject) -> None:
        """Carry out `POST /_sandbox/members`.

        Raises:
            BadControlRequest: the body is invalid; nothing has changed.
        """
        entering, leaving, count = body.get("add", []), body.get("remove", []), body.get("generate", 0)
        if not isinstance(entering, list) or not all(isinstance(profile, dict) for profile in entering):
            raise BadControlRequest("`add` must be an array of profiles.")
        if not isinstance(leaving, list) or not all(isinstance(label, str) for label in leaving):
            raise BadControlRequest("`remove` must be an array of ids or addresses.")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_GENERATED:
            raise BadControlRequest(f"`generate` must be a number of people, at most {MOST_GENERATED}.")
        people = self.people[audience.id]
        try:
            people.add(entering)
        except ValueError as error:
            raise BadControlRequest(str(error)) from error
        people.generate(count)
        people.remove(leaving)

    def change_switches(self, body: JSONObject) -> None:
        """Carry out `POST /_sandbox/scans`.

        Raises:
            BadControlRequest: the body is invalid; nothing has changed.
        """
        switches = {name: value for name, value in body.items() if name != "expire"}
        expires = body.get("expire", False)
        if not isinstance(expires, bool):
            raise BadControlRequest("`expire` must be true or false.")
        set_switches(self.switches, switches)
        if expires:
            self.expire()

    def state(self) -> JSONObject:
        """Return the number of members by audience id. Audiences that never had members here are missing."""
        return {audience_id: len(people) for audience_id, people in self.people.items()}

    def _token(self, audience: Audience, offset: int) -> str:
        return base64.urlsafe_b64encode(json.dumps([self._epoch, audience.id, offset]).encode()).decode()

    def _offset(self, audience: Audience, token: str) -> int | None:
        """Return the number of members on earlier pages; None for an unknown token."""
        try:
            epoch, audience_id, offset = json.loads(base64.urlsafe_b64decode(token))
        except (binascii.Error, ValueError, TypeError):
            return None
        is_known = (epoch, audience_id) == (self._epoch, audience.id) and isinstance(offset, int)
        return offset if is_known else None


def _row(profile: JSONObject, audience: Audience, fields: list[str]) -> JSONObject:
    whole = {**profile, "segments": [audience.slug]}
    return {name: _as_text(value) for name, value in whole.items() if not fields or name in fields}


def _as_text(value: object) -> object:
    """Return the value in the form of version 1 of the API: every scalar is a string."""
    if isinstance(value, dict):
        return {name: _as_text(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _refused(status: HTTPStatus, text: str) -> Response:
    return JSONResponse({"data": None, "message": text, "status": status}, status_code=status)
