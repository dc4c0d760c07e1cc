"""The state of one Sailthru account: profiles, lists, and the events that start Lifecycle Optimizer flows."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.sandbox.sailthru.history import History

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Switches:
    """Harmful behaviour that Sailthru does not document, or shows only at times. All switches are off by default.

    Attributes:
        rejoin_fires: a repeated join of a list starts its flows again.
        duplicate_list_race: each of several concurrent calls that name a new list creates a list of that name.
        stale_read_seconds: reads show vars and lists as they were this long ago, and do not find newer profiles.
            Only changes made while the switch is on can be hidden.
    """

    rejoin_fires: bool = False
    duplicate_list_race: bool = False
    stale_read_seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """The part of a profile that reads show: vars, and lists with the time of each join."""

    vars: dict[str, object]
    lists: dict[str, datetime]


@dataclass(eq=False)
class Profile:
    """A person. The sid never changes; address and extid may."""

    sid: str
    created_at: datetime
    email: str | None = None
    extid: str | None = None
    vars: dict[str, object] = field(default_factory=dict)
    optout_email: str = "none"
    history: History[Snapshot | None] = field(default_factory=History)

    @property
    def cookie(self) -> str:
        """A value derived from sid and address. A former address restores its former cookie."""
        return hashlib.sha256(f"{self.sid} {self.email}".encode()).hexdigest()[:48]


@dataclass(eq=False)
class MailingList:
    """A list. `members` maps sids to the times of joining."""

    id: str
    name: str
    created_at: datetime
    type: str = "normal"
    primary: bool = False
    public_name: str | None = None
    vars: dict[str, object] = field(default_factory=dict)
    members: dict[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class LifecycleEvent:
    """An event that starts a flow. `entry` is "List Joined" or "List Removed"."""

    time: datetime
    entry: str
    list: str
    email: str | None


class Account:
    def __init__(self, name: str, *, clock: Clock, switches: Switches) -> None:
        self.name = name
        self.switches = switches
        self.profiles: dict[str, Profile] = {}
        self.lists: list[MailingList] = []
        self.lo_events: list[LifecycleEvent] = []
        self.rejoins: Counter[str] = Counter()
        self._clock = clock
        self._sids: dict[tuple[str, str], str] = {}
        self._ids_given = 0

    def find(self, key: str, value: str) -> Profile | None:
        """Return the profile with this `sid`, `email` (in any case) or `extid`."""
        sid = value if key == "sid" else self._sids.get((key, _normal(key, value)))
        return None if sid is None else self.profiles.get(sid)

    def create(self) -> Profile:
        """Create a profile that has no key but its sid."""
        profile = Profile(sid=self._new_id(), created_at=self._clock())
        self.profiles[profile.sid] = profile
        return profile

    def set_key(self, profile: Profile, key: str, value: str) -> None:
        """Replace the profile's `email` or `extid`."""
        value = _normal(key, value)
        former = getattr(profile, key)
        self._sids.pop((key, former), None)
        self._sids[key, value] = profile.sid
        setattr(profile, key, value)

    def delete(self, profile: Profile) -> None:
        """Delete the profile and its memberships. No flow starts."""
        del self.profiles[profile.sid]
        self._sids = {key: sid for key, sid in self._sids.items() if sid != profile.sid}
        for mailing_list in self.lists:
            mailing_list.members.pop(profile.sid, None)

    def merge(self, profile: Profile, into: Profile) -> None:
        """Merge a profile into another, which keeps its own values. Each list keeps the earlier time of joining."""
        for mailing_list in self.lists:
            joined_at = mailing_list.members.get(profile.sid)
            if joined_at is not None:
                mailing_list.members[into.sid] = min(joined_at, mailing_list.members.get(into.sid, joined_at))
        self.delete(profile)
        into.vars = profile.vars | into.vars
        if into.extid is None and profile.extid is not None:
            self.set_key(into, "extid", profile.extid)

    def lists_named(self, name: str) -> list[MailingList]:
        """Return the lists of that name. A race can create several."""
        return [mailing_list for mailing_list in self.lists if mailing_list.name == name]

    def list_names(self) -> frozenset[str]:
        return frozenset(mailing_list.name for mailing_list in self.lists)

    def ensure_list(self, name: str, *, known: frozenset[str] | None = None) -> MailingList:
        """Return the list of that name. A missing list is created.

        `known` holds the names of the lists when the call arrived. If a list of that name is newer, a second one is
        created.
        """
        existing = self.lists_named(name)
        if existing and (known is None or name in known):
            return existing[0]
        mailing_list = MailingList(id=self._new_id(), name=name, created_at=self._clock())
        self.lists.append(mailing_list)
        return mailing_list

    def join(self, profile: Profile, name: str, *, known: frozenset[str] | None = None) -> None:
        """Add the profile to the list. A repeated join does not change the time of the first."""
        was_member = any(profile.sid in mailing_list.members for mailing_list in self.lists_named(name))
        if was_member:
            self.rejoins[name] += 1
        else:
            self.ensure_list(name, known=known).members[profile.sid] = self._clock()
        if not was_member or self.switches.rejoin_fires:
            self._log("List Joined", name, profile)

    def leave(self, profile: Profile, name: str) -> None:
        """Remove the profile from the list, if it is a member."""
        left = [mailing_list for mailing_list in self.lists_named(name) if profile.sid in mailing_list.members]
        for mailing_list in left:
            del mailing_list.members[profile.sid]
        if left:
            self._log("List Removed", name, profile)

    def snapshot(self, profile: Profile) -> Snapshot:
        """Return the profile's current vars and lists."""
        joined = {
            mailing_list.name: mailing_list.members[profile.sid]
            for mailing_list in self.lists
            if profile.sid in mailing_list.members
        }
        return Snapshot(dict(profile.vars), joined)

    def record_former(self, profile: Profile, former: Snapshot | None) -> None:
        """Record the profile's former state for stale reads. It is None for a new profile."""
        if self.switches.stale_read_seconds:
            profile.history.changed(former, at=self._clock(), kept_since=self._seen_by_reads())

    def read(self, profile: Profile) -> Snapshot | None:
        """Return the state of the profile that a read shows. It may be stale, or None if the profile is too new."""
        return profile.history.as_of(self._seen_by_reads(), present=self.snapshot(profile))

    def members(self, name: str) -> set[str]:
        """Return the addresses on the list."""
        return {
            self.profiles[sid].email or sid for mailing_list in self.lists_named(name) for sid in mailing_list.members
        }

    def _seen_by_reads(self) -> datetime:
        return self._clock() - timedelta(seconds=self.switches.stale_read_seconds)

    def _log(self, entry: str, name: str, profile: Profile) -> None:
        self.lo_events.append(LifecycleEvent(self._clock(), entry, name, profile.email))

    def _new_id(self) -> str:
        self._ids_given += 1
        return f"{int(self._clock().timestamp()):08x}{self._ids_given:016x}"


def _normal(key: str, value: str) -> str:
    return value.lower() if key == "email" else value
