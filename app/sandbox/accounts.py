"""The state of one Sailthru account: its profiles, its lists, and what Lifecycle Optimizer saw. No HTTP."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.sandbox.history import History

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the wall, aware and in UTC."""
    return datetime.now(UTC)


@dataclass
class Switches:
    """Where Sailthru's own behaviour is not published, or harms only at times: what to do instead of the mild reading.

    Attributes:
        rejoin_fires: a join of somebody who is on the list already starts flows again.
        duplicate_list_race: calls that were under way together, each for a list that did not exist when it arrived,
            each make a list of that name.
        stale_read_seconds: reading a person shows the vars and lists of so long ago, and nobody where there was nobody
            yet; changes made while it is above 0 are what it can hide.
    """

    rejoin_fires: bool = False
    duplicate_list_race: bool = False
    stale_read_seconds: float = 0.0


@dataclass(frozen=True)
class Shown:
    """What reading shows of a person: vars, and the lists with the times of joining."""

    vars: dict[str, object]
    lists: dict[str, datetime]


@dataclass(eq=False)
class Profile:
    """A person. The sid stays for life; address and extid may change."""

    sid: str
    created_at: datetime
    email: str | None = None
    extid: str | None = None
    vars: dict[str, object] = field(default_factory=dict)
    optout_email: str = "none"
    history: History[Shown | None] = field(default_factory=History)

    @property
    def cookie(self) -> str:
        """Follows from sid and address alone: a person who takes a former address back has the former cookie again."""
        return hashlib.sha256(f"{self.sid} {self.email}".encode()).hexdigest()[:48]


@dataclass(eq=False)
class MailingList:
    """A list, natural unless `type` says smart; `members` maps the sids of those on it to the time they joined."""

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
    """Something that starts a flow: `entry` is "List Joined" or "List Removed"."""

    time: datetime
    entry: str
    list: str
    email: str | None


class Account:
    """One customer's profiles and lists."""

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
        """The profile with this `sid`, `email` (in any case) or `extid`."""
        sid = value if key == "sid" else self._sids.get((key, _spelled(key, value)))
        return None if sid is None else self.profiles.get(sid)

    def create(self) -> Profile:
        """A new profile, without any key yet but its sid."""
        profile = Profile(sid=self._new_id(), created_at=self._clock())
        self.profiles[profile.sid] = profile
        return profile

    def set_key(self, profile: Profile, key: str, value: str) -> None:
        """Gives the profile this `email` or `extid`, in place of the one it had."""
        value = _spelled(key, value)
        former = getattr(profile, key)
        self._sids.pop((key, former), None)
        self._sids[key, value] = profile.sid
        setattr(profile, key, value)

    def delete(self, profile: Profile) -> None:
        """Forgets the profile, also on its lists; starts no flow."""
        del self.profiles[profile.sid]
        self._sids = {key: sid for key, sid in self._sids.items() if sid != profile.sid}
        for mailing_list in self.lists:
            mailing_list.members.pop(profile.sid, None)

    def merge(self, profile: Profile, into: Profile) -> None:
        """Two records become one: `into` keeps what it has and takes what it lacks; a list keeps the earlier join."""
        for mailing_list in self.lists:
            joined_at = mailing_list.members.get(profile.sid)
            if joined_at is not None:
                mailing_list.members[into.sid] = min(joined_at, mailing_list.members.get(into.sid, joined_at))
        self.delete(profile)
        into.vars = profile.vars | into.vars
        if into.extid is None and profile.extid is not None:
            self.set_key(into, "extid", profile.extid)

    def lists_named(self, name: str) -> list[MailingList]:
        """None, one, or several where calls raced."""
        return [mailing_list for mailing_list in self.lists if mailing_list.name == name]

    def list_names(self) -> frozenset[str]:
        """The names of all lists."""
        return frozenset(mailing_list.name for mailing_list in self.lists)

    def ensure_list(self, name: str, *, known: frozenset[str] | None = None) -> MailingList:
        """The list of that name, made if need be. With `known`, the names a call found when it arrived, a list that
        came into being since is not seen, and a second one is made.
        """
        there = self.lists_named(name)
        if there and (known is None or name in known):
            return there[0]
        mailing_list = MailingList(id=self._new_id(), name=name, created_at=self._clock())
        self.lists.append(mailing_list)
        return mailing_list

    def join(self, profile: Profile, name: str, *, known: frozenset[str] | None = None) -> None:
        """Puts the profile on the list. Who is on it already stays with the time of the first join."""
        on_it_already = any(profile.sid in mailing_list.members for mailing_list in self.lists_named(name))
        if on_it_already:
            self.rejoins[name] += 1
        else:
            self.ensure_list(name, known=known).members[profile.sid] = self._clock()
        if not on_it_already or self.switches.rejoin_fires:
            self._log("List Joined", name, profile)

    def leave(self, profile: Profile, name: str) -> None:
        """Takes the profile off the list; nothing where it is not on it, or where there is no such list."""
        held = [mailing_list for mailing_list in self.lists_named(name) if profile.sid in mailing_list.members]
        for mailing_list in held:
            del mailing_list.members[profile.sid]
        if held:
            self._log("List Removed", name, profile)

    def present(self, profile: Profile) -> Shown:
        """The profile's vars and lists as they are."""
        joined = {
            mailing_list.name: mailing_list.members[profile.sid]
            for mailing_list in self.lists
            if profile.sid in mailing_list.members
        }
        return Shown(dict(profile.vars), joined)

    def changed(self, profile: Profile, former: Shown | None) -> None:
        """Keeps what the profile was until now, None for a new one, where reads are to be stale."""
        if self.switches.stale_read_seconds:
            profile.history.changed(former, at=self._clock(), kept_since=self._seen_by_reads())

    def seen(self, profile: Profile) -> Shown | None:
        """The profile as reading shows it, by the switch as it was a while ago; None if it was not there yet."""
        return profile.history.as_of(self._seen_by_reads(), present=self.present(profile))

    def members(self, name: str) -> set[str]:
        """The addresses on the list."""
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


def _spelled(key: str, value: str) -> str:
    return value.lower() if key == "email" else value
