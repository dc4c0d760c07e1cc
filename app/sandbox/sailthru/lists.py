"""The endpoint `/list`: read one list or all, create or change one, delete one.

https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/list.html
"""

from collections.abc import Iterable

from app.sandbox.bodies import JSONObject
from app.sandbox.sailthru.accounts import Account, MailingList
from app.sandbox.sailthru.answers import Refused, account_time

MOST_LISTS = 2000


def get(account: Account, payload: JSONObject) -> JSONObject:
    """Return one list by `list` or `list_id`, or the index of all lists if both are missing."""
    if "list" not in payload and "list_id" not in payload:
        only_primary = bool(payload.get("primary"))
        return {"lists": [_entry(found) for found in account.lists if found.primary or not only_primary]}
    found = _find(account, payload)
    fields = payload.get("fields")
    if isinstance(fields, dict) and fields.get("vars"):
        return {**_describe(found), "vars": found.vars, "public_name": found.public_name}
    return _describe(found)


def post(account: Account, payload: JSONObject, *, known: frozenset[str] | None) -> JSONObject:
    """Create or change a list. This answer calls the type of a natural list `natural`; GET calls it `normal`."""
    name = payload.get("list")
    if not isinstance(name, str) or not name:
        raise Refused(400, 2, "Missing required parameter: list")
    kind = payload.get("type", "normal")
    if kind not in ("normal", "natural", "smart"):
        raise Refused(400, 99, f"Invalid list type: {kind}")
    refuse_new_lists(account, [name])
    changed = account.ensure_list(name, known=known)
    changed.type = "smart" if kind == "smart" else "normal"
    if "primary" in payload:
        changed.primary = bool(payload["primary"])
    if "public_name" in payload:
        changed.public_name = str(payload["public_name"])
    list_vars = payload.get("vars")
    if isinstance(list_vars, dict):
        changed.vars |= list_vars
    return {"list": name, "type": "smart" if kind == "smart" else "natural", "list_id": changed.id}


def delete(account: Account, payload: JSONObject) -> JSONObject:
    """Delete a list. The profiles of its members stay."""
    if "list" not in payload:
        raise Refused(400, 2, "Missing required parameter: list")
    found = _find(account, payload)
    account.lists.remove(found)
    return {"list": found.name, "ok": True}


def refuse_new_lists(account: Account, names: Iterable[str]) -> None:
    """Refuse a call that would create a list with an illegal name, or one list too many."""
    new = set(names) - account.list_names()
    for name in new:
        if not name or "$" in name:
            raise Refused(400, 99, f"Invalid list name: {name}")
    if len(account.lists) + len(new) > MOST_LISTS:
        raise Refused(400, 99, f"An account can have at most {MOST_LISTS} lists")


def _find(account: Account, payload: JSONObject) -> MailingList:
    key = "list" if "list" in payload else "list_id"
    for found in account.lists:
        if payload[key] == (found.name if key == "list" else found.id):
            return found
    raise Refused(404, 15, f"Unknown list: {payload[key]}")


def _describe(found: MailingList) -> JSONObject:
    return {
        "list_id": found.id,
        "list": found.name,
        "create_time": account_time(found.created_at),
        "send_time": None,
        "count": len(found.members),
        "type": found.type,
        "primary": found.primary,
    }


def _entry(found: MailingList) -> JSONObject:
    return {
        "list_id": found.id,
        "name": found.name,
        "email_count": len(found.members),
        "valid_count": len(found.members),
        "create_time": account_time(found.created_at),
        "type": found.type,
    }
