"""What the service wants of Sailthru, in its own words: ensure a list, tell a member's memberships, ask for them.

Each is safe to repeat. https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/user.html and
https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/list.html
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol

from app.domain.errors import Permanent, Transient, UnknownList
from app.domain.list_check import ListSeen
from app.sailthru.client import Method
from app.sailthru.protocol import USER_NOT_FOUND


class Caller(Protocol):
    """Makes one call: a `SailthruClient`, or whatever stands before it to keep within its limits."""

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        """The answer, or a `CallFailed`."""
        ...


class Lists:
    """The lists of one Sailthru account and who is on them.

    Args:
        client: makes the calls; `backfill_client` those that only a backfill asks for, None for the same.
    """

    def __init__(self, client: Caller, backfill_client: Caller | None = None) -> None:
        self._client = client
        self._backfill_client = backfill_client or client

    async def find_or_make(self, name: str) -> str | None:
        """The id of the list, made if it was missing; None where Sailthru tells none. Not for two at once: see
        `app.exports.lists`.

        Raises:
            UnknownList: Sailthru refuses to make it.
            CallFailed: see `SailthruClient.call`.
        """
        try:
            try:
                answer = await self._client.call("GET", "list", {"list": name})
            except UnknownList:
                answer = await self._client.call("POST", "list", {"list": name, "primary": 0})
        except Permanent as refused:
            # It is the list that is refused: its name, one too many, the right to make it. Nobody who waits for it is
            # at fault, and all go on once somebody has seen to it.
            raise UnknownList(refused.code, f"Sailthru does not make the list. {refused}") from None
        list_id = answer.get("list_id")
        return list_id if isinstance(list_id, str) and list_id else None

    async def tell(
        self,
        address: str,
        *,
        join: Iterable[str] = (),
        leave: Iterable[str] = (),
        vars: Mapping[str, object] | None = None,  # noqa: A002 - Sailthru's own word
        is_backfill: bool = False,
    ) -> None:
        """Puts the person on the lists of `join`, takes them off those of `leave` and sets `vars`, in one call, so
        that a flow started by the join finds the vars. Other lists and vars, and all opt-outs, stay as they are.

        Raises:
            ValueError: there is nothing to tell (the bare call would make a profile), or one list is in both.
            CallFailed: see `SailthruClient.call`.
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
            raise ValueError("There is nothing to tell.")
        await self._caller(is_backfill).call("POST", "user", payload)

    async def lists_of(self, address: str, *, is_backfill: bool = False) -> frozenset[str] | None:
        """The names of the natural lists the person is on; None where Sailthru has no profile of them."""
        try:
            payload = {"id": address, "key": "email", "fields": {"lists": 1}}
            answer = await self._caller(is_backfill).call("GET", "user", payload)
        except Permanent as error:
            if error.code == USER_NOT_FOUND:
                return None
            raise
        lists = answer.get("lists")
        if isinstance(lists, Mapping):
            return frozenset(lists)
        if lists:
            raise Transient("unreadable", "Sailthru told a person's lists in a form that is not known.")
        # On no list: null, or PHP's empty array.
        return frozenset()

    def _caller(self, is_backfill: bool) -> Caller:  # noqa: FBT001 - its name says it
        return self._backfill_client if is_backfill else self._client

    async def find(self, name: str) -> ListSeen | None:
        """One list as it is now; None if there is none of the name.

        Raises:
            CallFailed: see `SailthruClient.call`.
        """
        try:
            answer = await self._client.call("GET", "list", {"list": name})
        except UnknownList:
            return None
        return _seen(answer, "count")

    async def index(self) -> Mapping[str, list[ListSeen]]:
        """All lists of the account by name, in one call; usually one of each name.

        Raises:
            CallFailed: see `SailthruClient.call`.
        """
        answer = await self._client.call("GET", "list", {})
        entries = answer.get("lists")
        if not isinstance(entries, list):
            raise Transient("unreadable", "Sailthru told the lists in a form that is not known.")
        found: dict[str, list[ListSeen]] = defaultdict(list)
        for entry in entries:
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                found[entry["name"]].append(_seen(entry, "email_count"))
        return found


def _seen(entry: Mapping[str, object], counted_as: str) -> ListSeen:
    list_id, count = entry.get("list_id"), entry.get(counted_as)
    return ListSeen(
        list_id=list_id if isinstance(list_id, str) and list_id else None,
        count=count if isinstance(count, int) and not isinstance(count, bool) else None,
    )
