"""The endpoint `/user`: read, create, change or delete one profile.

https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/user.html
"""

import re
from dataclasses import dataclass, field

from app.sandbox.bodies import JSONObject
from app.sandbox.sailthru import lists
from app.sandbox.sailthru.accounts import Account, Profile, Snapshot
from app.sandbox.sailthru.answers import Refused, account_time

KEYS = ("email", "sid", "extid")
FIELDS_BY_DEFAULT = ("keys", "vars", "lists", "engagement", "optout_email")
LONGEST_VAR_NAME = 32
ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


@dataclass
class _Change:
    keys: dict[str, str] = field(default_factory=dict)
    merges: bool = False
    joins: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    vars: JSONObject = field(default_factory=dict)
    optout_email: str | None = None


def get(account: Account, payload: JSONObject) -> JSONObject:
    """Return the requested fields, or the default ones.

    A malformed address is an error with status 200, as in recorded answers of the real API.
    """
    key, value = _identity(payload)
    if key == "email" and not ADDRESS.fullmatch(value):
        raise Refused(200, 99, f"Invalid email: {value}")
    profile = _known(account, key, value, status=400)
    snapshot = account.read(profile)
    if snapshot is None:
        raise _unknown(key, value, status=400)
    return _describe(profile, snapshot, _fields(payload) or FIELDS_BY_DEFAULT)


def post(account: Account, payload: JSONObject, *, known_lists: frozenset[str] | None) -> JSONObject:
    """Create or change a profile, all or nothing. An unknown sid is refused and creates no profile."""
    key, value = _identity(payload)
    if key == "email":
        _refuse_malformed(value)
    change = _read_change(payload)
    profile = _known(account, key, value, status=400) if key == "sid" else account.find(key, value)
    _refuse_conflict(account, profile, change)
    lists.refuse_new_lists(account, change.joins)
    former = account.snapshot(profile) if profile else None
    if profile is None:
        profile = account.create()
        account.set_key(profile, key, value)
    account.record_former(profile, former)
    profile = _set_keys(account, profile, change.keys)
    profile.vars |= change.vars
    profile.optout_email = change.optout_email or profile.optout_email
    for name in change.joins:
        account.join(profile, name, known=known_lists)
    for name in change.leaves:
        account.leave(profile, name)
    return {**_describe(profile, account.snapshot(profile), _fields(payload)), "ok": True}


def delete(account: Account, payload: JSONObject) -> JSONObject:
    """Delete a profile. The answer for an unknown profile is 404, unlike in GET."""
    account.delete(_known(account, *_identity(payload), status=404))
    return {"ok": True}


def person(account: Account, payload: JSONObject) -> str | None:
    """Return the address of the profile that the call names, or the `id` of the call if there is no address."""
    key, value = payload.get("key", "email"), payload.get("id")
    if not isinstance(key, str) or not isinstance(value, str):
        return None
    profile = account.find(key, value)
    return (profile.email if profile else None) or value.lower()


def _identity(payload: JSONObject) -> tuple[str, str]:
    key, value = payload.get("key", "email"), payload.get("id")
    if value is None or value == "":
        raise Refused(400, 2, "Missing required parameter: id")
    if not isinstance(key, str) or key not in KEYS:
        raise Refused(400, 99, f"Invalid key: {key}")
    return key, str(value)


def _known(account: Account, key: str, value: str, *, status: int) -> Profile:
    profile = account.find(key, value)
    if profile is None:
        raise _unknown(key, value, status=status)
    return profile


def _unknown(key: str, value: str, *, status: int) -> Refused:
    return Refused(status, 99, f"User not found with {key}: {value}")


def _refuse_malformed(address: str) -> None:
    if not ADDRESS.fullmatch(address):
        raise Refused(400, 11, f"Invalid email: {address}")


def _read_change(payload: JSONObject) -> _Change:
    change = _Change(merges=payload.get("keysconflict") == "merge")
    change.keys = {key: str(value) for key, value in _object(payload, "keys").items() if key in ("email", "extid")}
    if "email" in change.keys:
        _refuse_malformed(change.keys["email"])
    for name, value in _object(payload, "lists").items():
        if value not in (0, 1):
            raise Refused(400, 99, f"Invalid value for list: {name}")
        (change.joins if value else change.leaves).append(name)
    for name, value in _object(payload, "vars").items():
        if len(name) > LONGEST_VAR_NAME:
            raise Refused(400, 99, f"Variable name too long: {name}")
        change.vars[re.sub(r"[%\-.$]", "", name).replace(" ", "_")] = value
    optout = payload.get("optout_email")
    if optout is not None:
        if optout not in ("none", "all", "basic"):
            raise Refused(400, 99, f"Invalid optout_email: {optout}")
        change.optout_email = str(optout)
    return change


def _object(payload: JSONObject, name: str) -> JSONObject:
    value = payload.get(name) or {}
    if not isinstance(value, dict):
        raise Refused(400, 99, f"Invalid value for parameter: {name}")
    return value


def _refuse_conflict(account: Account, profile: Profile | None, change: _Change) -> None:
    for key, value in change.keys.items():
        holder = account.find(key, value)
        if holder not in (None, profile) and not change.merges:
            raise Refused(400, 99, f"Another user has this {key}: {value}")


def _set_keys(account: Account, profile: Profile, keys: dict[str, str]) -> Profile:
    """Set the keys. If another profile holds one of them, merge into that profile and return it."""
    for key, value in keys.items():
        holder = account.find(key, value)
        if holder is None or holder is profile:
            account.set_key(profile, key, value)
        else:
            account.merge(profile, into=holder)
            profile = holder
    return profile


def _fields(payload: JSONObject) -> list[str]:
    return [name for name, is_requested in _object(payload, "fields").items() if is_requested]


def _describe(profile: Profile, snapshot: Snapshot, fields: list[str] | tuple[str, ...]) -> JSONObject:
    keys = {"sid": profile.sid, "cookie": profile.cookie, "email": profile.email, "extid": profile.extid}
    joined = {name: account_time(moment) for name, moment in snapshot.lists.items()}
    created = account_time(profile.created_at)
    everything: JSONObject = {
        "keys": {key: value for key, value in keys.items() if value is not None},
        "vars": snapshot.vars or None,
        "lists": joined or None,
        "engagement": "new",
        "optout_email": profile.optout_email,
        "activity": {"create_time": created, "signup_time": created},
        "smart_lists": None,
    }
    return {name: everything[name] for name in fields if name in everything}
