"""Random histories: hypothesis lets people enter, leave and change while Sailthru, the clock and the process fail.

The promises are checked after each step.
"""

import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import text

from app.domain.change import Kind
from app.domain.rate_limit.bucket import MOST_UNCONFIRMED
from app.sandbox.faults import AnyFault, Empty, Error, Half, Hang, Html, Reset, Slow
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.rules import Rule
from tests.factories import HOUR
from tests.model import Stay
from tests.places import PLACE
from tests.service import API_KEY
from tests.world import Died, World

T = TypeVar("T")
Step = tuple[str, tuple[Any, ...]]
MessageValues = tuple[Kind, int, int, int | None, int, int, str | None]

LAPSED = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers")
AUDIENCES = (SPRING_BUYERS, LAPSED)
# Each export has one field with its own name, so each var has one newest value.
FIELDS = ("first_name", "city")
PEOPLE = range(4)
LIMIT, SHARE = 40, 0.8
NS = 1_000_000_000
# Two timeouts plus the margin of a lease, in seconds.
LONGEST_CALL = 35
TOLERANCE_NS = 600 * NS

# One fault for each kind of failed call. Only the first one turns a member into a dead letter.
FAULTS: dict[str, AnyFault] = {
    "invalid address": Error(status=400, code=11, text="Invalid email"),
    "500 with 9": Error(),
    "500 with 9, applied": Error(applied=True),
    "200 with an error": Error(status=200, code=99, text="Other"),
    "429": Error(status=429, code=43, text="Too many"),
    "429 without headers": Error(status=429, code=43, text="Too many", with_rate_headers=False),
    "HTML 502": Html(with_rate_headers=False),
    "HTML 200, applied": Html(status=200, applied=True),
    "empty": Empty(status=200),
    "half, applied": Half(),
    "timeout, applied": Hang(),
    "timeout, lost": Hang(applied=False),
    "late": Hang(apply_after=25),
    "reset, applied": Reset(),
    "reset, lost": Reset(applied=False),
    "slow": Slow(seconds=12),
    "key revoked": Error(status=401, code=3, text="Invalid API key"),
    "list unknown": Error(status=404, code=15, text="Unknown list"),
}
# Temporary faults, which all calls of the account may meet at once.
ACCOUNT_FAULTS = ("500 with 9", "HTML 502", "timeout, lost", "timeout, applied", "key revoked", "429", "reset, lost")


class Counts(NamedTuple):
    """Membership changes of one export, and the number of members desired on its list."""

    accepted: int
    settled: int
    pending: int
    dead: int
    members: int


@dataclass(frozen=True)
class Message:
    """A webhook that the test can send again."""

    kind: Kind
    person: int
    audience: int
    address: str | None
    at: int
    message: int
    fields: dict[str, object]

    def body(self) -> dict[str, object]:
        audience = AUDIENCES[self.audience]
        user_id = str(1000 + self.person)
        match self.kind:
            case Kind.ENTER:
                return webhooks.enter(
                    self.address, audience, at=self.at, sent_at=self.message, user_id=user_id, fields=self.fields
                )
            case Kind.EXIT:
                return webhooks.exit_(
                    self.address, audience, at=self.at, sent_at=self.message, user_id=user_id, fields=self.fields
                )
            case Kind.CHANGE:
                return webhooks.change(
                    self.address, audience, sent_at=self.message, user_id=user_id, fields=self.fields
                )


def steps() -> st.SearchStrategy[Step]:
    """Return a strategy for one step: mostly a webhook or a wait, sometimes a fault."""
    message = st.tuples(
        st.sampled_from([Kind.ENTER, Kind.ENTER, Kind.EXIT, Kind.CHANGE]),
        st.sampled_from(PEOPLE),
        st.sampled_from(range(len(AUDIENCES))),
        st.sampled_from([0, 0, 1, None]),
        st.sampled_from([0, 0, 0, 0, 1, 2, 5, 30, 60, 3600, -1, -5]),
        st.sampled_from([NS // 10, NS, 5 * NS]),
        st.sampled_from([None, "a", "b", "c"]),
    )
    some_faults = st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=6)
    problems: list[st.SearchStrategy[Step]] = [
        _step("fail_some_with", some_faults, st.sampled_from([0.2, 0.6])),
        _step("fail_some_with", some_faults, st.sampled_from([0.2, 0.6])),
        _step("fail_all_with", st.sampled_from(ACCOUNT_FAULTS)),
        _step("fail_for", st.sampled_from(PEOPLE), st.sampled_from(sorted(FAULTS))),
        _step("heal"),
        _step("delay_reads", st.sampled_from([0.0, 2.0])),
        _step("die"),
        _step("die_soon", st.integers(1, 6)),
        _step("set_clock", st.sampled_from([-1, 0, 0, 1])),
        _step("redrive"),
        _step("lose_store", st.sampled_from([0.05, 0.5])),
        # A long outage.
        _step("wait", st.just(7200)),
    ]
    send, wait = _step("send", message), _step("wait", st.sampled_from([0.1, 1, 4, 16, 61, 600]))
    again, array = _step("send_again", st.integers(0, 1000)), _step("send_array", st.lists(message, max_size=5))
    # Chosen in two steps, because one_of flattens nested choices and would lose the weights.
    kinds = [*[send] * 8, array, *[again] * 2, *[wait] * 5, *[st.one_of(problems)] * 4]
    return st.sampled_from(kinds).flatmap(lambda kind: kind)


def _step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*arguments))


class Histories(RuleBasedStateMachine):
    """Four people with two addresses each, two audiences, and one account at its rate limit."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="histories-", dir=_memory()))
        self.world = World(
            self.folder,
            audiences=AUDIENCES,
            limits={("POST", "/user"): LIMIT, ("GET", "/user"): LIMIT},
            different={"sailthru_rate_share": SHARE, "auto_export": False},
        )
        self.world.__enter__()
        self.stays = {(p, a): Stay() for p in PEOPLE for a in range(len(AUDIENCES))}
        self.sent: list[Message] = []
        self.steps_of_clock = self.deaths_at_clock = 0
        self.live(self._start_exports)

    def live(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the work. If the process dies, repeat the work in the next process."""

        async def until_done() -> T:
            while True:
                try:
                    return await work()
                except Died:
                    await self.world.restart()

        return self.world.run(until_done())

    async def _start_exports(self) -> None:
        service = self.world.service
        for audience, name in zip(AUDIENCES, FIELDS, strict=True):
            await service.exports.start(
                audience.id, audience_slug=audience.slug, account="default", fields={name: name}
            )
        service.exports_changed()
        await self.world.work_until_delivered()

    @initialize(seed=st.integers(0, 2**31))
    def roll(self, seed: int) -> None:
        self.seed = seed
        self.world.dice.seed(seed)

    @rule(drawn=steps())
    def step(self, drawn: Step) -> None:
        name, arguments = drawn
        getattr(self, name)(*arguments)

    def send(self, values: MessageValues) -> None:
        self._send([self._message(values)])

    def send_array(self, many: list[MessageValues]) -> None:
        """Send one webhook with all messages, some of which may be invalid.

        If the process is about to die or database calls may fail, the messages are sent one by one. An array could be
        stored and sent again, and then a change that precedes an enter would count the second time.
        """
        messages = [self._message(values) for values in many]
        if self.world.life.commits_left is None and not self.world.store_lost:
            self._send(messages)
            return
        for message in messages:
            if message.address is not None or message.kind is not Kind.ENTER:
                self._send([message])

    def send_again(self, number: int) -> None:
        if self.sent:
            self._send([self.sent[number % len(self.sent)]])

    def wait(self, seconds: float) -> None:
        self.live(lambda: self.world.sleep(seconds))

    def fail_some_with(self, names: list[str], chance: float) -> None:
        """From now on answer some calls with a random one of these faults."""
        rules = [Rule(FAULTS[name], endpoints=frozenset({"/user"}), chance=chance / len(names)) for name in names]
        self.world.sailthru.faults.set(rules, seed=self.seed)

    def fail_all_with(self, name: str) -> None:
        self.world.sailthru.faults.set([Rule(FAULTS[name])], seed=self.seed)

    def fail_for(self, person: int, name: str) -> None:
        addresses = frozenset({_address(person, 0) or "", _address(person, 1) or ""})
        self.world.sailthru.faults.set([Rule(FAULTS[name], ids=addresses)], seed=self.seed)

    def lose_store(self, chance: float) -> None:
        """From now on let some database calls fail. Some of these still take effect."""
        self.world.store_lost = chance

    def heal(self) -> None:
        self.world.sailthru.faults.set([])
        self.world.store_lost = 0

    def delay_reads(self, seconds: float) -> None:
        self.world.sailthru.switches.stale_read_seconds = seconds

    def die(self) -> None:
        self.world.run(self.world.die())

    def die_soon(self, commits: int) -> None:
        """Let the process die after this number of commits."""
        self.world.life.commits_left = commits

    def set_clock(self, hours: int) -> None:
        """Set the clock wrong by this number of hours.

        First wait for the calls of dead processes, because this clock measures their leases.
        """
        if self.world.deaths > self.deaths_at_clock:
            self.live(lambda: self.world.sleep(LONGEST_CALL))
        self.deaths_at_clock = self.world.deaths
        self.steps_of_clock += self.world.step != hours * HOUR
        self.world.step = hours * HOUR

    def redrive(self) -> None:
        self.world.store_lost = 0
        self.live(self._redrive)

    @invariant()
    def holds(self) -> None:
        """Check one call at a time for each person, the rate limit and the counts."""
        state = self.world.account()
        assert state["most_at_once_per_person"] <= 1, state
        most = max(state["most_in_a_minute"].get(call, 0) for call in ("POST /user", "GET /user"))
        # A new process learns from its first call what was used in this minute. A few calls reveal a clock change.
        assert most <= LIMIT * SHARE + self.world.deaths + MOST_UNCONFIRMED * self.steps_of_clock, state
        for export_id, (counts, recounted) in self._counts().items():
            assert counts == recounted, export_id

    def _counts(self) -> dict[int, tuple[Counts, Counts]]:
        """Return the committed totals of each export, and the same numbers recounted from the memberships.

        One query reads both, because the service continues between two queries.
        """
        rows = self._read(
            "select export_id, accepted, delivered + superseded, pending, dead, totals.members,"
            " coalesce(sum(revision), 0), coalesce(sum(told_revision) - count(dead_code), 0),"
            " coalesce(sum(revision - told_revision), 0), count(dead_code),"
            " coalesce(sum(case when wanted then 1 else 0 end), 0)"
            " from totals left join memberships using (export_id)"
            " group by export_id, accepted, delivered, superseded, pending, dead, totals.members"
        )
        return {export_id: (Counts(*counts[:5]), Counts(*counts[5:])) for export_id, *counts in rows}

    def _read(self, query: str) -> list[tuple[int, ...]]:
        rows = self.world.run(self.world.read_database(lambda connection: connection.execute(text(query)).all()))
        return [tuple(row) for row in rows]

    def teardown(self) -> None:
        try:
            self._come_to_rest()
        finally:
            self.world.__exit__(None, None, None)
            PLACE.forget(self.folder)
            shutil.rmtree(self.folder)

    def _come_to_rest(self) -> None:
        """Remove all faults, redrive dead letters, and check that each list equals the newest changes."""
        world = self.world
        world.life.commits_left = None
        world.store_lost = 0
        self.set_clock(0)
        world.sailthru.faults.set([])
        world.sailthru.switches.stale_read_seconds = 0.0
        self.live(lambda: world.sleep(60))
        self.live(self._redrive)
        self.live(world.work_until_delivered)

        assert [(counts.pending, counts.dead) for counts, _ in self._counts().values()] == [(0, 0), (0, 0)]
        for number, audience in enumerate(AUDIENCES):
            stays = [self.stays[person, number] for person in PEOPLE]
            desired = {stay.address for stay in stays if stay.address is not None}
            assert world.sailthru.members(f"Lytics {audience.name}") == desired
            for stay in stays:
                self._check_fields(stay)
        world.add_up_metrics()
        rejoins = sum(world.account()["rejoins"].values())
        # The service waits longer than the delay of reads. Only a clock that was set forward shortens the wait.
        assert rejoins <= (world.joins_repeated if self.steps_of_clock else 0)

    def _check_fields(self, stay: Stay) -> None:
        if stay.address is not None:
            profile = self.world.sailthru.account(API_KEY).find("email", stay.address)
            assert profile is not None
            assert stay.fields.items() <= profile.vars.items()

    def _message(self, values: MessageValues) -> Message:
        kind, person, audience, address, ago, lag, value = values
        at = (int(self.world.real_clock().timestamp()) - ago) * NS
        return Message(
            kind=kind,
            person=person,
            audience=audience,
            address=_address(person, address),
            at=at,
            message=at + lag,
            fields={} if value is None else {FIELDS[audience]: value},
        )

    def _send(self, messages: list[Message]) -> None:
        bodies = [message.body() for message in messages]

        async def send() -> int:
            # A refused webhook is sent again.
            while True:
                answer = await self.world.send(bodies[0] if len(bodies) == 1 else bodies)
                if answer.status_code != 503 or not self.world.store_lost:
                    return answer.status_code

        status = self.live(send)
        usable = [message for message in messages if message.address is not None or message.kind is not Kind.ENTER]
        assert status == (200 if usable or not messages else 400)
        self.sent += usable
        for message in usable:
            self._update_model(message)

    def _update_model(self, sent: Message) -> None:
        stay = self.stays[sent.person, sent.audience]
        now = int(self.world.clock().timestamp() * 1_000_000) * 1000
        at, message = sent.at, sent.message
        # A time too far in the future is replaced by the time of arrival, after all earlier arrivals.
        if at > now + TOLERANCE_NS:
            at = max(now, stay.last[0] + 1 if stay.last else 0)
        if message > now + TOLERANCE_NS:
            message = max(now, stay.fields_at + 1, stay.last[1] + 1 if stay.last else 0)
        match sent.kind:
            case Kind.ENTER:
                stay.enter(sent.address or "", at=at, message=message, fields=sent.fields)
            case Kind.EXIT:
                stay.exit(at=at, message=message)
            case Kind.CHANGE:
                stay.change(sent.address or stay.address or "", message=message, fields=sent.fields)

    async def _redrive(self) -> None:
        await self.world.admin("/dead-letters/redrive", method="POST", json={"all": True})


def _address(person: int, index: int | None) -> str | None:
    return None if index is None else f"person{person}.{'ab'[index]}@example.com"


def _memory() -> str | None:
    """Return a folder in memory, if there is one. These tests kill processes and need no disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
