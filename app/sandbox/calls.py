"""
One signed call, and what it does to its account.
"""

from dataclasses import dataclass

from app.sandbox import lists, users
from app.sandbox.accounts import Account
from app.sandbox.answers import Answer, JSONObject, Refused

METHODS = frozenset({"GET", "POST", "DELETE"})
ENDPOINTS = frozenset({"/user", "/list"})


@dataclass(eq=False)
class Call:
    """
    One signed call within the limit, on its way.

    Attributes:
        known_lists: the names that existed when it arrived, where races are to be shown; else None.
        is_abandoned: the client has hung up.
    """

    account: Account
    method: str
    endpoint: str
    payload: JSONObject
    known_lists: frozenset[str] | None = None
    is_abandoned: bool = False


def apply(call: Call) -> Answer:
    """
    Carries the call out. A refusal is an answer too, and changes nothing.
    """
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
