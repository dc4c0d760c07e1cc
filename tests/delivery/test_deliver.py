"""One delivery: which requests leave, in which order, and how each kind of answer is settled."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.delivery.deliver import LIMIT_JITTER, READS_LAG, WINDOW_OVER, Delivered, Deliverer
from app.domain.call import Call, Claim
from app.domain.errors import (
    CallFailed,
    CredentialsRefused,
    LimitReached,
    NotSent,
    OutcomeUnknown,
    Permanent,
    ShareUsedUp,
    Transient,
    UnknownList,
)
from app.domain.membership import Confirmed
from app.domain.retry import RetryPolicy
from app.domain.settlement import Settled, Settlement
from tests.factories import ADA, EXPORT, HOUR, LIST, NOON, SECOND, Clock, claim, pending

TIMEOUT = timedelta(seconds=15)
# The running clock of the account lags by this.
PAUSED_FOR = timedelta(hours=5)
AUTUMN = "Lytics Autumn Buyers"


class World:
    """Sailthru, the store and the metrics in one, which note the order of everything."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.steps: list[str] = []
        self.confirmed: list[tuple[tuple[str, ...], tuple[str, ...], dict[str, object]]] = []
        self.begun: list[tuple[Call, datetime]] = []
        self.begin_takes: list[timedelta] = []
        self.is_lost_meanwhile = False
        self.settlements: list[Settlement] = []
        self.outcomes: list[str] = []
        self.latencies: list[timedelta] = []
        self.repeated_joins = 0
        self.errors: Sequence[CallFailed | None] = []
        self.ensure_error: CallFailed | None = None
        self.read_error: CallFailed | None = None
        self.lists: frozenset[str] | None = None
        self.holds = True
        self.settled = Settled(is_ours=True)
        self.draw = 0.0
        self.judged: list[tuple[int, CallFailed | None, bool]] = []
        self.probes_left = 0
        self.is_outage = False

    async def ensure(self, name: str, *, is_again: bool = False) -> None:
        self.steps.append(f"ensure {name} again" if is_again else f"ensure {name}")
        if self.ensure_error is not None:
            raise self.ensure_error

    async def update_member(
        self,
        address: str,
        *,
        join: Iterable[str],
        leave: Iterable[str],
        vars: Mapping[str, object],  # noqa: A002 - Sailthru's own word
        is_backfill: bool,
    ) -> None:
        assert address == ADA
        self.steps.append("tell")
        self.confirmed.append((tuple(join), tuple(leave), dict(vars)))
        error, self.errors = (self.errors[0], self.errors[1:]) if self.errors else (None, ())
        if error is not None:
            raise error

    async def lists_of(self, address: str, *, is_backfill: bool) -> frozenset[str] | None:
        assert address == ADA
        self.steps.append("read")
        if self.read_error is not None:
            raise self.read_error
        return self.lists

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        self.steps.append("begin")
        self.begun.append((call, until))
        if self.begin_takes:
            self.clock.advance(self.begin_takes.pop(0))
        return self.holds and not (self.is_lost_meanwhile and len(self.begun) > 1)

    async def settle(self, settlement: Settlement) -> Settled:
        self.steps.append("settle")
        self.settlements.append(settlement)
        return self.settled

    def attempted(self, account: str, outcome: str) -> None:
        self.outcomes.append(outcome)

    def join_repeated(self, account: str) -> None:
        self.repeated_joins += 1

    async def judge(self, member_id: int, error: CallFailed | None, *, is_probe: bool) -> datetime | None:
        self.judged.append((member_id, error, is_probe))
        is_own = isinstance(error, Transient | OutcomeUnknown | UnknownList) and not self.is_outage
        return self.clock() - PAUSED_FOR if is_own else None

    async def leave_probe(self) -> None:
        self.probes_left += 1

    @property
    def settlement(self) -> Settlement:
        (one,) = self.settlements
        return one


class Meter:
    """The metrics' own `told`, which is another one than Sailthru's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.attempted, self.join_repeated = world.attempted, world.join_repeated

    def confirmed(self, account: str, latency: timedelta) -> None:
        self._world.latencies.append(latency)


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


async def deliver(world: World, held: Claim, *, is_probe: bool = False) -> Delivered:
    deliverer = Deliverer(
        world,
        world,
        world,
        Meter(world),
        world,
        policy=RetryPolicy(),
        timeout=TIMEOUT,
        clock=world.clock,
        draw=lambda: world.draw,
    )
    return await deliverer.deliver(held, is_probe=is_probe)


class TestOk:
    async def test_one_request(self, world: World) -> None:
        """A list that is known, and a claim already on record: nothing but the write and its settlement."""
        world.clock.advance(3 * SECOND)
        delivered = await deliver(world, claim(pending(vars={"city": "Turin"})))

        assert world.steps == ["tell", "settle"]
        assert world.confirmed == [((LIST,), (), {"city": "Turin"})]
        assert (world.settlement.confirmed, world.settlement.outcome) == ({EXPORT: Confirmed.IN}, "ok")
        assert world.settlement.spent_at is None
        assert world.judged == [(1, None, False)]
        assert (world.outcomes, world.latencies) == (["ok"], [3 * SECOND])
        assert delivered == Delivered(None, None)

    async def test_all_that_is_pending_goes_along(self, world: World) -> None:
        """Two lists of one person are one request."""
        held = claim(pending(), pending(AUTUMN, export_id=2, desired=False, confirmed=Confirmed.IN))
        await deliver(world, held)

        assert world.confirmed == [((LIST,), (AUTUMN,), {})]
        assert world.settlement.confirmed == {EXPORT: Confirmed.IN, 2: Confirmed.OUT}

    async def test_a_newer_change_leaves_the_member_due(self, world: World) -> None:
        """What is due according to the settlement is passed on."""
        world.settled = Settled(is_ours=True, due_at=NOON)

        assert (await deliver(world, claim())).due_at == NOON

    async def test_nothing_to_say(self, world: World) -> None:
        """A need that has gone is settled without a request."""
        await deliver(world, claim(pending(desired=False, confirmed=Confirmed.OUT)))

        assert world.steps == ["settle"]

    async def test_who_had_nothing_to_say_tells_nothing_of_the_account(self, world: World) -> None:
        """As a probe it would end a pause although nobody asked Sailthru."""
        await deliver(world, claim(pending(confirmed=Confirmed.IN)))

        assert world.settlement.confirmed == {EXPORT: Confirmed.IN}
        assert world.judged == []

    async def test_a_lease_that_was_lost_at_the_end_counts_no_latency(self, world: World) -> None:
        """Who has taken the member over counts it."""
        world.settled = Settled(is_ours=False)
        await deliver(world, claim())

        assert world.latencies == []


class TestLists:
    async def test_a_list_is_ensured_before_the_join(self, world: World) -> None:
        """A join of a list that is not there would make one: it is ensured, and only then joined."""
        await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "begin", "tell", "settle"]

    async def test_only_lists_that_are_joined(self, world: World) -> None:
        """Nobody makes a list in order to leave it."""
        await deliver(world, claim(pending(list_ready=False, desired=False, confirmed=Confirmed.IN)))

        assert "tell" in world.steps
        assert not [step for step in world.steps if step.startswith("ensure")]

    async def test_no_list_no_join(self, world: World) -> None:
        """Where the list could not be ensured the write never leaves, and none is put down as tried."""
        world.ensure_error = OutcomeUnknown("timeout", "No answer.")
        await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "settle"]
        assert world.settlement.unknown == frozenset()

    async def test_an_unknown_list_is_made_again_and_the_call_repeated_once(self, world: World) -> None:
        """Somebody has deleted the list in Sailthru."""
        world.errors = [UnknownList(15, "No such list.")]
        await deliver(world, claim())

        assert world.steps == ["tell", f"ensure {LIST} again", "begin", "tell", "settle"]
        assert (world.settlement.confirmed, world.settlement.outcome) == ({EXPORT: Confirmed.IN}, "ok")

    async def test_a_list_that_stays_unknown(self, world: World) -> None:
        """It is repeated once and no more."""
        world.errors = [UnknownList(15, "No such list."), UnknownList(15, "No such list.")]
        await deliver(world, claim())

        assert world.steps.count("tell") == 2
        assert (world.settlement.confirmed, world.settlement.unknown) == ({}, frozenset())
        assert world.settlement.outcome == "15"
        assert world.settlement.spent_at is not None
        assert world.settlement.retry_at == NOON + timedelta(seconds=5)


class TestLease:
    async def test_the_lease_is_renewed_where_it_would_end_within_two_timeouts(self, world: World) -> None:
        """Whoever waited before the request renews first."""
        await deliver(world, claim(leased_until=NOON + 2 * TIMEOUT - SECOND))

        assert world.steps == ["begin", "tell", "settle"]
        assert world.begun[0][1] == NOON + 2 * TIMEOUT + READS_LAG

    @pytest.mark.parametrize(
        "held",
        [
            claim(leased_until=NOON + TIMEOUT),
            claim(pending(confirmed=Confirmed.UNKNOWN), leased_until=NOON + TIMEOUT),
            claim(pending(list_ready=False)),
        ],
        ids=["write", "read", "ensured"],
    )
    async def test_a_lost_lease_sends_nothing(self, world: World, held: Claim) -> None:
        """Somebody else has the member: nothing is sent and nothing settled."""
        world.holds = False
        delivered = await deliver(world, held)

        assert not {"tell", "read", "settle"} & set(world.steps)
        assert delivered == Delivered(None, None)

    async def test_a_probe_that_asked_for_nothing_is_left_to_somebody_else(self, world: World) -> None:
        """Who flipped meanwhile has nothing to tell, and who lost the lease may not: nothing was heard of the
        account.
        """
        await deliver(world, claim(pending(confirmed=Confirmed.IN)), is_probe=True)
        asked = list(world.judged)
        world.holds = False
        await deliver(world, claim(pending(list_ready=False)), is_probe=True)
        left = world.probes_left
        world.holds = True
        await deliver(world, claim(), is_probe=True)

        assert (asked, left) == ([], 2)
        assert (world.judged, world.probes_left) == ([(1, None, True)], 2)

    async def test_a_store_that_took_long_is_asked_for_the_whole_lease_again(self, world: World) -> None:
        """Less than two timeouts are left of what it gave: Sailthru might carry the request out when somebody else
        calls.
        """
        world.begin_takes = [2 * READS_LAG, READS_LAG + SECOND, READS_LAG]
        await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "begin", "begin", "begin", "tell", "settle"]
        asked_at = [NOON, NOON + 2 * READS_LAG, NOON + 3 * READS_LAG + SECOND]
        assert [until for _, until in world.begun] == [at + 2 * TIMEOUT + READS_LAG for at in asked_at]

    async def test_a_lease_that_was_lost_while_the_store_took_its_time(self, world: World) -> None:
        """Somebody else has the member by the second time: the request does not leave."""
        world.is_lost_meanwhile, world.begin_takes = True, [2 * READS_LAG]
        delivered = await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "begin", "begin"]
        assert delivered == Delivered(None, None)

    async def test_a_lease_lost_while_the_list_is_made_again(self, world: World) -> None:
        """The repeat is a request like any other: without the lease it is not sent."""
        world.errors = [UnknownList(15, "No such list.")]
        world.holds, world.settled = False, Settled(is_ours=False)
        await deliver(world, claim())

        assert world.steps.count("tell") == 1
        assert world.latencies == []


class TestReadFirst:
    @pytest.mark.parametrize(
        ("wanted", "confirmed", "lists", "write"),
        [
            (True, Confirmed.UNKNOWN, frozenset({LIST}), None),
            (True, Confirmed.UNKNOWN, frozenset({AUTUMN}), ((LIST,), (), {})),
            (True, Confirmed.UNKNOWN, None, ((LIST,), (), {})),
            (False, Confirmed.NEVER, frozenset({LIST}), ((), (LIST,), {})),
            (False, Confirmed.NEVER, frozenset({AUTUMN}), None),
            (False, Confirmed.NEVER, None, None),
        ],
    )
    async def test_only_what_is_missing_is_written(
        self, world: World, wanted: bool, confirmed: Confirmed, lists: frozenset[str] | None, write: Any
    ) -> None:
        """After a read the second request is put on record first; where nothing is missing there is none."""
        world.lists = lists
        await deliver(world, claim(pending(desired=wanted, confirmed=confirmed)))

        assert world.steps == (["read", "settle"] if write is None else ["read", "begin", "tell", "settle"])
        assert world.confirmed == ([] if write is None else [write])
        assert world.settlement.confirmed == {EXPORT: Confirmed.IN if wanted else Confirmed.OUT}
        assert world.repeated_joins == int(wanted and write is not None)

    async def test_a_read_that_failed_has_told_nothing(self, world: World) -> None:
        """Nothing is put down as tried, whatever became of the read."""
        world.read_error = OutcomeUnknown("timeout", "No answer.")
        delivered = await deliver(world, claim(pending(confirmed=Confirmed.UNKNOWN)))

        assert world.steps == ["read", "settle"]
        assert world.settlement.unknown == frozenset()
        assert not delivered.may_go_on
        assert world.settlement.spent_at == NOON - PAUSED_FOR

    async def test_a_write_that_failed_after_the_read(self, world: World) -> None:
        """The write is what was tried."""
        world.errors = [OutcomeUnknown("timeout", "No answer.")]
        await deliver(world, claim(pending(confirmed=Confirmed.UNKNOWN)))

        assert world.settlement.unknown == {EXPORT}

    async def test_a_first_join_is_no_repeat(self, world: World) -> None:
        """Only a join after an unknown outcome counts."""
        await deliver(world, claim())

        assert world.repeated_joins == 0


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "is_in_doubt", "retry_after", "is_spent"),
        [
            (Transient(9, "Internal error."), True, 5, True),
            (Transient(503, "Away."), True, 5, True),
            (NotSent("refused", "Refused."), False, 5, True),
            (OutcomeUnknown("timeout", "No answer."), True, 20, True),
            (LimitReached(43, "Limit.", resets_at=NOON + 20 * SECOND), False, 20, False),
            (LimitReached(429, "Limit."), False, 60, False),
            (LimitReached(43, "Limit.", resets_at=NOON + HOUR), False, 60, False),
            (LimitReached(43, "Limit.", resets_at=NOON - HOUR), False, 1, False),
            (CredentialsRefused(5, "Wrong signature."), False, 0, False),
            (ShareUsedUp("over_budget", "Wait.", resets_at=NOON + 7 * SECOND), False, 7, False),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, CallFailed) else "",
    )
    async def test_each_kind(
        self, world: World, error: CallFailed, is_in_doubt: bool, retry_after: int, is_spent: bool
    ) -> None:
        """What an error means for what was told, when to come again, and whether the attempt counts."""
        world.errors = [error]
        delivered = await deliver(world, claim())

        settlement = world.settlement
        assert (settlement.confirmed, settlement.outcome) == ({}, str(error.code))
        assert delivered.may_go_on == isinstance(error, OutcomeUnknown)
        assert settlement.unknown == ({EXPORT} if is_in_doubt else set())
        assert settlement.retry_at == NOON + retry_after * SECOND
        assert settlement.spent_at == (NOON - PAUSED_FOR if is_spent else None)
        assert settlement.dead == {}
        assert world.outcomes == [str(error.code)]
        assert delivered.error is error
        assert world.latencies == []

    async def test_permanent(self, world: World) -> None:
        """A record that can never work is given up at once, with Sailthru's number."""
        world.errors = [Permanent(11, "Invalid e-mail.")]
        await deliver(world, claim())

        assert world.settlement.dead == {EXPORT: "11"}
        assert (world.settlement.unknown, world.settlement.retry_at) == (frozenset(), None)

    async def test_waits_double(self, world: World) -> None:
        """The attempts made so far decide, less up to a quarter by the dice."""
        world.errors, world.draw = [Transient(503, "Away.")], 1.0
        await deliver(world, claim(attempts=4))

        assert world.settlement.retry_at == NOON + timedelta(seconds=30)

    async def test_members_do_not_all_return_in_the_first_moment(self, world: World) -> None:
        """The dice add a little to the end of the limit's window."""
        world.errors, world.draw = [LimitReached(43, "Limit.", resets_at=NOON + 20 * SECOND)], 0.5
        await deliver(world, claim())

        assert world.settlement.retry_at == NOON + 20 * SECOND + LIMIT_JITTER / 2

    async def test_the_window_is_over(self, world: World) -> None:
        """Only the membership that has failed for the whole window is given up."""
        world.errors = [Transient(503, "Away.")]
        await deliver(
            world,
            claim(
                pending(first_failed_at=NOON - PAUSED_FOR - 76 * HOUR),
                pending(AUTUMN, export_id=2, first_failed_at=NOON - PAUSED_FOR - 75 * HOUR),
            ),
        )

        assert world.settlement.dead == {EXPORT: WINDOW_OVER}
        assert world.settlement.retry_at is not None

    async def test_an_outage_is_nobodys_fault(self, world: World) -> None:
        """Whoever fails in an outage comes again without a longer wait, and is not given up, for however long it
        lasts.
        """
        world.is_outage = True
        world.errors = [NotSent("refused", "Away.")]
        await deliver(world, claim(pending(first_failed_at=NOON - 1000 * HOUR), attempts=9))

        assert (world.settlement.spent_at, world.settlement.dead) == (None, {})
        assert world.settlement.retry_at == NOON

    async def test_in_an_outage_a_lost_call_rests_too(self, world: World) -> None:
        """Sailthru may still apply it."""
        world.is_outage = True
        world.errors = [OutcomeUnknown("timeout", "No answer.")]
        await deliver(world, claim())

        assert world.settlement.retry_at == NOON + TIMEOUT + READS_LAG

    async def test_a_call_that_may_have_been_done_is_not_read_back_at_once(self, world: World) -> None:
        """Reads may lag behind writes, and an answer 503 does not say that nothing was done."""
        world.is_outage = True
        world.errors = [Transient(503, "Away.")]
        await deliver(world, claim())

        assert world.settlement.unknown == {EXPORT}
        assert world.settlement.retry_at == NOON + READS_LAG


class TestOneByOne:
    async def test_only_what_fails_alone_is_given_up(self, world: World) -> None:
        """A refused call with two lists is repeated list by list, each on record before it leaves."""
        refused = Permanent(99, "Refused.")
        world.errors = [refused, None, refused]
        await deliver(world, claim(pending(vars={"a": 1}), pending(AUTUMN, export_id=2, vars={"b": 2})))

        assert world.confirmed == [
            ((LIST, AUTUMN), (), {"a": 1, "b": 2}),
            ((LIST,), (), {"a": 1}),
            ((AUTUMN,), (), {"b": 2}),
        ]
        assert world.steps == ["tell", "begin", "tell", "begin", "tell", "settle"]
        assert (world.settlement.confirmed, world.settlement.dead) == ({EXPORT: Confirmed.IN}, {2: "99"})
        assert world.settlement.unknown == frozenset()

    async def test_what_works_alone_is_told(self, world: World) -> None:
        """Where only the two together were refused, nothing is given up."""
        world.errors = [Permanent(99, "Refused.")]
        await deliver(world, claim(pending(), pending(AUTUMN, export_id=2)))

        assert (world.settlement.confirmed, world.settlement.dead) == ({EXPORT: Confirmed.IN, 2: Confirmed.IN}, {})
        assert world.settlement.outcome == "ok"

    async def test_a_failure_on_the_way_leaves_the_rest_pending(self, world: World) -> None:
        """Only the call that has no answer is in doubt."""
        world.errors = [Permanent(99, "Refused."), Permanent(99, "Refused."), OutcomeUnknown("timeout", "No answer.")]
        held = claim(pending(), pending(AUTUMN, export_id=2), pending("Lytics Winter Buyers", export_id=3))
        await deliver(world, held)

        assert (world.settlement.confirmed, world.settlement.dead) == ({}, {EXPORT: "99"})
        assert world.settlement.unknown == {2}
        assert not world.settlement.is_whole

    @pytest.mark.parametrize("last", ["unknown", "refused"])
    async def test_who_waits_for_a_list_is_not_given_up_with_the_other_one(self, world: World, last: str) -> None:
        """In whichever order they come: only what was refused for good is dead."""
        unknown, refused = UnknownList(15, "No such list."), Permanent(42, "Not UTF-8.")
        in_order = [refused, unknown, unknown] if last == "unknown" else [unknown, unknown, refused]
        world.errors = [refused, *in_order]
        await deliver(world, claim(pending(), pending(AUTUMN, export_id=2)))

        dead = EXPORT if last == "unknown" else 2
        assert (world.settlement.confirmed, world.settlement.dead) == ({}, {dead: "42"})
        assert world.settlement.outcome == "15"
        assert world.settlement.retry_at is not None

    async def test_nobody_is_on_a_list_that_does_not_exist(self, world: World) -> None:
        """A leave of a list that somebody deleted is done, and the joins that went along are repeated."""
        unknown = UnknownList(15, "No such list.")
        world.errors = [unknown, unknown, None, unknown]
        await deliver(world, claim(pending(), pending(AUTUMN, export_id=2, desired=False, confirmed=Confirmed.IN)))

        assert (world.settlement.confirmed, world.settlement.dead) == ({EXPORT: Confirmed.IN, 2: Confirmed.OUT}, {})
        assert world.settlement.outcome == "ok"

    async def test_a_list_that_is_called_unknown_while_somebody_is_on_it_is_left_later(self, world: World) -> None:
        """The answer was wrong; taken for true, it would leave the person on the list for good."""
        world.lists = frozenset({AUTUMN})
        world.errors = [UnknownList(15, "No such list.")]
        await deliver(world, claim(pending(AUTUMN, export_id=2, desired=False, confirmed=Confirmed.IN)))

        assert (world.settlement.confirmed, world.settlement.dead, world.settlement.outcome) == ({}, {}, "15")
        assert world.settlement.retry_at is not None
