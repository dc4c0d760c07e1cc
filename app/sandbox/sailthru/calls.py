"""One signed call, and its effect on the account."""

import asyncio
from dataclasses import dataclass, field

from app.sandbox.bodies import JSONObject
from app.sandbox.faults import Fault
from app.sandbox.rules import Target
from app.sandbox.sailthru import lists, users
from app.sandbox.sailthru.accounts import Account
from app.sandbox.sailthru.answers import Answer, Refused

METHODS = frozenset({"GET", "POST", "DELETE"})
ENDPOINTS = frozenset({"/user", "/list"})


@dataclass(eq=False)
class Call:
    """One signed call that is within the rate limit.

    Attributes:
        api_key: the key that signed it.
        known_lists: the lists at its arrival; None unless races between list creations are simulated.
        fault: the fault that it meets.
        abandoned: set when the client has disconnected.
    """

    account: Account
    method: str
    endpoint: str
    payload: JSONObject
    api_key: str = ""
    known_lists: frozenset[str] | None = None
    fault: Fault | None = None
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has disconnected."""
        return self.abandoned.is_set()

    def target(self) -> Target:
        """Return the properties that rules match, by the current state of the account."""
        is_user = self.endpoint == "/user"
        named = self.payload.get("lists" if is_user else "list")
        return Target(
            self.method,
            self.endpoint,
            person=users.person(self.account, self.payload) if is_user else None,
            lists=frozenset(named if isinstance(named, dict) else [named] if isinstance(named, str) else []),
            api_key=self.api_key,
        )


def apply(call: Call) -> Answer:
    """Apply the call and return its answer. A refused call changes nothing."""
    try:
        match call.endpoint, call.method:
            case "/user", "GET":
                body = users.get(call.account, call.payload)
            case "/user", "POST":
                body = users.post(call.account, call.payload, known_lists=call.known_lists)
            case "/user", _:
                body = users.delete(call.account, call.payload)
            case _, "GET":
                body = lists.get(call.account, call.payload)
            case _, "POST":
                body = lists.post(call.account, call.payload, known=call.known_lists)
            case _:
                body = lists.delete(call.account, call.payload)
    except Refused as refused:
        return refused.answer
    return Answer(200, body)
