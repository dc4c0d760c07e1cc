"""The lists and members of one Sailthru account. Each call is safe to repeat.

https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/user.html
https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/list.html
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol

from app.domain.errors import Permanent, Transient, UnknownList
from app.domain.list_check import ListSeen
from app.sailthru.answers import USER_NOT_FOUND
from app.sailthru.client import Method


class Caller(Protocol):
    """Makes one call: a `SailthruClient`, or a `RateLimitedClient` in front of it."""

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]: ...


class Lists:
    """The lists and members of one Sailthru account. Its methods raise `CallFailed`: see `SailthruClient.call`.

    Args:
        client: makes the calls.
        backfill_client: makes the calls of backfills; None for the same client.
    """

    def __init__(self, client: Caller, backfill_client: Caller | None = None) -> None:
        self._client = client
        self._backfill_client = backfill_client or client

    async def find_or_create(self, name: str) -> str | None:
        """Return the id of the list, or None if Sailthru reports no id. A missing list is created.

        Two concurrent calls could create the list twice. `app.exports.lists` prevents that.

        Raises:
            UnknownList: Sailthru refuses to create it.
        """
        try:
            try:
                answer = await self._client.call("GET", "list", {"list": name})
            except UnknownList:
                answer = await self._client.call("POST", "list", {"list": name, "primary": 0})
        except Permanent as error:
            # Sailthru refuses the list because of its name, the number of lists or the rights of the key. The members
            # that wait for the list are not at fault, so they must not become dead letters.
            raise UnknownList(error.code, f"Sailthru does not create the list. {error}") from None
        return _list_id(answer)

    async def update_member(
        self,
        address: str,
        *,
        join: Iterable[str] = (),
        leave: Iterable[str] = (),
        vars: Mapping[str, object] | None = None,  # noqa: A002 - Sailthru's own word
        is_backfill: bool = False,
    ) -> None:
        """Add the member to the lists of `join`, remove it from those of `leave` and set `vars`, in one call.

        A flow that the join starts must find the vars, so one call does both. Other lists, vars and opt-outs stay.

        Raises:
            ValueError: there is nothing to change (an empty call would create a profile), or a list is in both.
        """
        lists = dict.fromkeys(leave, 0)
        for name in join:
            if name in lists:
                raise ValueError("A list can't be joined and left in one call.")
            lists[name] = 1
        payload: dict[str, object] = {"id": address, "key": "email"}
        if lists:
            payload["lists"] = lists
        if vars:
            payload["vars"] = dict(vars)
        if not lists and not vars:
            raise ValueError("There is nothing to change.")
        await self._caller(is_backfill=is_backfill).call("POST", "user", payload)

    async def lists_of(self, address: str, *, is_backfill: bool = False) -> frozenset[str] | None:
        """Return the names of the member's natural lists; None if Sailthru has no profile."""
        try:
            payload = {"id": address, "key": "email", "fields": {"lists": 1}}
            answer = await self._caller(is_backfill=is_backfill).call("GET", "user", payload)
        except Permanent as error:
            if error.code == USER_NOT_FOUND:
                return None
            raise
        lists = answer.get("lists")
        if isinstance(lists, Mapping):
            return frozenset(lists)
        if lists:
            raise Transient("unreadable", "Sailthru reported a member's lists in an unknown form.")
        # Without lists Sailthru sends null, or PHP's empty array.
        return frozenset()

    async def find(self, name: str) -> ListSeen | None:
        """Return the current state of one list; None if there is no list of this name."""
        try:
            answer = await self._client.call("GET", "list", {"list": name})
        except UnknownList:
            return None
        return _seen(answer, "count")

    async def index(self) -> Mapping[str, list[ListSeen]]:
        """Return all lists of the account by name, in one call. Several lists may have the same name."""
        answer = await self._client.call("GET", "list", {})
        entries = answer.get("lists")
        if not isinstance(entries, list):
            raise Transient("unreadable", "Sailthru reported its lists in an unknown form.")
        found: dict[str, list[ListSeen]] = defaultdict(list)
        for entry in entries:
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                found[entry["name"]].append(_seen(entry, "email_count"))
        return found

    def _caller(self, *, is_backfill: bool) -> Caller:
        return self._backfill_client if is_backfill else self._client


def _seen(entry: Mapping[str, object], count_field: str) -> ListSeen:
    count = entry.get(count_field)
    return ListSeen(
        list_id=_list_id(entry), count=count if isinstance(count, int) and not isinstance(count, bool) else None
    )


def _list_id(entry: Mapping[str, object]) -> str | None:
    list_id = entry.get("list_id")
    return list_id if isinstance(list_id, str) and list_id else None
