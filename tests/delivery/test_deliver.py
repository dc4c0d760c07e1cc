"""One delivery: the requests, their order, and the settlement for each kind of answer."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.delivery.attempt import LIMIT_JITTER, READS_LAG, WINDOW_OVER
from app.delivery.circuit_breaker import CircuitBreaker
from app.delivery.deliver import Delivered, Deliverer
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
from app.metrics import Metrics
from tests.delivery.unused import UnusedLists, UnusedQueue
from tests.factories import ADA, EXPORT, HOUR, LIST, NOON, SECOND, Clock, claim, pending

TIMEOUT = timedelta(seconds=15)
# The retry clock stood still while the breaker was open for this long.
OPEN_FOR = timedelta(hours=5)
AUTUMN = "Lytics Autumn Buyers"


class World(UnusedQueue, UnusedLists):
    """A fake of Sailthru and the store that records the order of all calls."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.steps: list[str] = []
        self.written: list[tuple[tuple[str, ...], tuple[str, ...], dict[str, object]]] = []
        self.recorded: list[tuple[Call, datetime]] = []
        self.begin_takes: list[timedelta] = []
        self.is_lost_at_second_renewal = False
        self.settlements: list[Settlement] = []
        self.outcomes: list[str] = []
        self.latencies: list[timedelta] = []
        self.repeated_joins = 0
        self.errors: Sequence[CallFailed | None] = []
        self.ensure_error: CallFailed | None = None
        self.read_error: CallFailed | None = None
        self.lists: frozenset[str] | None = None
        self.has_lease = True
        self.settled = Settled(is_ours=True)
        self.draw = 0.0
        self.judged: list[tuple[int, CallFailed | None, bool]] = []
        self.probes_released = 0
        self.is_outage = False

    async def ensure(self, name: str, *, is_missing: bool = False) -> None:
        self.steps.append(f"ensure {name} again" if is_missing else f"ensure {name}")
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
        self.steps.append("write")
        self.written.append((tuple(join), tuple(leave), dict(vars)))
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
        self.recorded.append((call, until))
        if self.begin_takes:
            self.clock.advance(self.begin_takes.pop(0))
        return self.has_lease and not (self.is_lost_at_second_renewal and len(self.recorded) > 1)

    async def settle(self, settlement: Settlement) -> Settled:
        self.steps.append("settle")
        self.settlements.append(settlement)
        return self.settled

    @property
    def settlement(self) -> Settlement:
        (settlement,) = self.settlements
        return settlement


class FakeMetrics(Metrics):
    def __init__(self, world: World) -> None:
        self._world = world

    def attempted(self, account: str, outcome: str) -> None:
        self._world.outcomes.append(outcome)

    def join_repeated(self, account: str) -> None:
        self._world.repeated_joins += 1

    def confirmed(self, account: str, latency: timedelta) -> None:
        self._world.latencies.append(latency)


class FakeBreaker(CircuitBreaker):
    def __init__(self, world: World) -> None:
        self._world = world

    async def judge(self, member_id: int, error: CallFailed | None, *, is_probe: bool) -> datetime | None:
        world = self._world
        world.judged.append((member_id, error, is_probe))
        is_own = isinstance(error, Transient | OutcomeUnknown | UnknownList) and not world.is_outage
        return world.clock() - OPEN_FOR if is_own else None

    async def release_probe(self) -> None:
        self._world.probes_released += 1


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


async def deliver(world: World, held: Claim, *, is_probe: bool = False) -> Delivered:
    deliverer = Deliverer(
        world,
        world,
        world,
        FakeMetrics(world),
        FakeBreaker(world),
        policy=RetryPolicy(),
        timeout=TIMEOUT,
        clock=world.clock,
        draw=lambda: world.draw,
    )
    return await deliverer.deliver(held, is_probe=is_probe)


class TestOk:
    async def test_known_list_needs_one_request(self, world: World) -> None:
        """The list is ready and the claim has recorded the request, so only the write and its settlement are left."""
        world.clock.advance(3 * SECOND)
        delivered = await deliver(world, claim(pending(vars={"city": "Turin"})))

        assert world.steps == ["write", "settle"]
        assert world.written == [((LIST,), (), {"city": "Turin"})]
        assert (world.settlement.confirmed, world.settlement.outcome) == ({EXPORT: Confirmed.IN}, "ok")
        assert world.settlement.spent_at is None
        assert world.judged == [(1, None, False)]
        assert (world.outcomes, world.latencies) == (["ok"], [3 * SECOND])
        assert delivered == Delivered(None, None)

    async def test_all_pending_lists_travel_in_one_call(self, world: World) -> None:
        held = claim(pending(), pending(AUTUMN, export_id=2, desired=False, confirmed=Confirmed.IN))
        await deliver(world, held)

        assert world.written == [((LIST,), (AUTUMN,), {})]
        assert world.settlement.confirmed == {EXPORT: Confirmed.IN, 2: Confirmed.OUT}

    async def test_newer_change_leaves_member_due(self, world: World) -> None:
        world.settled = Settled(is_ours=True, due_at=NOON)

        assert (await deliver(world, claim())).due_at == NOON

    async def test_nothing_to_send_is_settled_without_request(self, world: World) -> None:
        await deliver(world, claim(pending(desired=False, confirmed=Confirmed.OUT)))

        assert world.steps == ["settle"]

    async def test_delivery_without_request_does_not_reach_breaker(self, world: World) -> None:
        """A probe without a request must not close the breaker."""
        await deliver(world, claim(pending(confirmed=Confirmed.IN)))

        assert world.settlement.confirmed == {EXPORT: Confirmed.IN}
        assert world.judged == []

    async def test_lease_lost_at_the_end_counts_no_latency(self, world: World) -> None:
        """The worker with the newer claim counts the latency."""
        world.settled = Settled(is_ours=False)
        await deliver(world, claim())

        assert world.latencies == []


class TestLists:
    async def test_list_is_ensured_before_join(self, world: World) -> None:
        """Joining a list that does not exist would create it."""
        await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "begin", "write", "settle"]

    async def test_list_is_not_ensured_for_leave(self, world: World) -> None:
        await deliver(world, claim(pending(list_ready=False, desired=False, confirmed=Confirmed.IN)))

        assert "write" in world.steps
        assert not [step for step in world.steps if step.startswith("ensure")]

    async def test_join_is_not_sent_without_list(self, world: World) -> None:
        """If the list could not be ensured, the write does not leave and no membership is unknown."""
        world.ensure_error = OutcomeUnknown("timeout", "No answer.")
        await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "settle"]
        assert world.settlement.unknown == frozenset()

    async def test_unknown_list_is_created_again_and_call_repeated_once(self, world: World) -> None:
        """The list was deleted in Sailthru."""
        world.errors = [UnknownList(15, "No such list.")]
        await deliver(world, claim())

        assert world.steps == ["write", f"ensure {LIST} again", "begin", "write", "settle"]
        assert (world.settlement.confirmed, world.settlement.outcome) == ({EXPORT: Confirmed.IN}, "ok")

    async def test_list_that_stays_unknown_is_retried_later(self, world: World) -> None:
        """The call is repeated only once."""
        world.errors = [UnknownList(15, "No such list."), UnknownList(15, "No such list.")]
        await deliver(world, claim())

        assert world.steps.count("write") == 2
        assert (world.settlement.confirmed, world.settlement.unknown) == ({}, frozenset())
        assert world.settlement.outcome == "15"
        assert world.settlement.spent_at is not None
        assert world.settlement.retry_at == NOON + timedelta(seconds=5)


class TestLease:
    async def test_lease_is_renewed_if_less_than_two_timeouts_are_left(self, world: World) -> None:
        await deliver(world, claim(leased_until=NOON + 2 * TIMEOUT - SECOND))

        assert world.steps == ["begin", "write", "settle"]
        assert world.recorded[0][1] == NOON + 2 * TIMEOUT + READS_LAG

    @pytest.mark.parametrize(
        "held",
        [
            claim(leased_until=NOON + TIMEOUT),
            claim(pending(confirmed=Confirmed.UNKNOWN), leased_until=NOON + TIMEOUT),
            claim(pending(list_ready=False)),
        ],
        ids=["write", "read", "ensured"],
    )
    async def test_lost_lease_sends_nothing(self, world: World, held: Claim) -> None:
        """Another worker has claimed the member, so this worker neither sends nor settles."""
        world.has_lease = False
        delivered = await deliver(world, held)

        assert not {"write", "read", "settle"} & set(world.steps)
        assert delivered == Delivered(None, None)

    async def test_probe_without_request_is_released(self, world: World) -> None:
        """No request leaves if the newest change equals the confirmed state, or if the lease was lost."""
        await deliver(world, claim(pending(confirmed=Confirmed.IN)), is_probe=True)
        judged = list(world.judged)
        world.has_lease = False
        await deliver(world, claim(pending(list_ready=False)), is_probe=True)
        released = world.probes_released
        world.has_lease = True
        await deliver(world, claim(), is_probe=True)

        assert (judged, released) == ([], 2)
        assert (world.judged, world.probes_released) == ([(1, None, True)], 2)

    async def test_slow_renewal_is_repeated(self, world: World) -> None:
        """With less than two timeouts left, Sailthru could apply the request while another worker calls."""
        world.begin_takes = [2 * READS_LAG, READS_LAG + SECOND, READS_LAG]
        await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "begin", "begin", "begin", "write", "settle"]
        renewed_at = [NOON, NOON + 2 * READS_LAG, NOON + 3 * READS_LAG + SECOND]
        assert [until for _, until in world.recorded] == [at + 2 * TIMEOUT + READS_LAG for at in renewed_at]

    async def test_lease_lost_during_slow_store_sends_nothing(self, world: World) -> None:
        """Another worker claims the member before the second renewal, so the request does not leave."""
        world.is_lost_at_second_renewal, world.begin_takes = True, [2 * READS_LAG]
        delivered = await deliver(world, claim(pending(list_ready=False)))

        assert world.steps == [f"ensure {LIST}", "begin", "begin"]
        assert delivered == Delivered(None, None)

    async def test_lease_lost_while_list_is_created_again_sends_nothing(self, world: World) -> None:
        """The repeated call needs the lease too."""
        world.errors = [UnknownList(15, "No such list.")]
        world.has_lease, world.settled = False, Settled(is_ours=False)
        await deliver(world, claim())

        assert world.steps.count("write") == 1
        assert world.latencies == []


class TestReadFirst:
    @pytest.mark.parametrize(
        ("desired", "confirmed", "lists", "write"),
        [
            (True, Confirmed.UNKNOWN, frozenset({LIST}), None),
            (True, Confirmed.UNKNOWN, frozenset({AUTUMN}), ((LIST,), (), {})),
            (True, Confirmed.UNKNOWN, None, ((LIST,), (), {})),
            (False, Confirmed.NEVER, frozenset({LIST}), ((), (LIST,), {})),
            (False, Confirmed.NEVER, frozenset({AUTUMN}), None),
            (False, Confirmed.NEVER, None, None),
        ],
    )
    async def test_only_missing_changes_are_written_after_read(
        self, world: World, desired: bool, confirmed: Confirmed, lists: frozenset[str] | None, write: Any
    ) -> None:
        """A write is recorded before it leaves. If Sailthru already has the desired state, no write leaves."""
        world.lists = lists
        await deliver(world, claim(pending(desired=desired, confirmed=confirmed)))

        assert world.steps == (["read", "settle"] if write is None else ["read", "begin", "write", "settle"])
        assert world.written == ([] if write is None else [write])
        assert world.settlement.confirmed == {EXPORT: Confirmed.IN if desired else Confirmed.OUT}
        assert world.repeated_joins == int(desired and write is not None)

    async def test_failed_read_leaves_nothing_unknown(self, world: World) -> None:
        world.read_error = OutcomeUnknown("timeout", "No answer.")
        delivered = await deliver(world, claim(pending(confirmed=Confirmed.UNKNOWN)))

        assert world.steps == ["read", "settle"]
        assert world.settlement.unknown == frozenset()
        assert not delivered.may_still_apply
        assert world.settlement.spent_at == NOON - OPEN_FOR

    async def test_failed_write_after_read_is_unknown(self, world: World) -> None:
        world.errors = [OutcomeUnknown("timeout", "No answer.")]
        await deliver(world, claim(pending(confirmed=Confirmed.UNKNOWN)))

        assert world.settlement.unknown == {EXPORT}

    async def test_first_join_is_not_counted_as_repeated(self, world: World) -> None:
        await deliver(world, claim())

        assert world.repeated_joins == 0


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "is_unknown", "retry_after", "is_spent"),
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
    async def test_error_decides_doubt_retry_and_attempt(
        self, world: World, error: CallFailed, is_unknown: bool, retry_after: int, is_spent: bool
    ) -> None:
        world.errors = [error]
        delivered = await deliver(world, claim())

        settlement = world.settlement
        assert (settlement.confirmed, settlement.outcome) == ({}, str(error.code))
        assert delivered.may_still_apply == isinstance(error, OutcomeUnknown)
        assert settlement.unknown == ({EXPORT} if is_unknown else set())
        assert settlement.retry_at == NOON + retry_after * SECOND
        assert settlement.spent_at == (NOON - OPEN_FOR if is_spent else None)
        assert settlement.dead == {}
        assert world.outcomes == [str(error.code)]
        assert delivered.error is error
        assert world.latencies == []

    async def test_permanent_error_gives_up_at_once(self, world: World) -> None:
        """The dead letter carries Sailthru's error number."""
        world.errors = [Permanent(11, "Invalid e-mail.")]
        await deliver(world, claim())

        assert world.settlement.dead == {EXPORT: "11"}
        assert (world.settlement.unknown, world.settlement.retry_at) == (frozenset(), None)

    async def test_retry_wait_doubles(self, world: World) -> None:
        """The wait follows from the number of attempts. The random number shortens it by up to a quarter."""
        world.errors, world.draw = [Transient(503, "Away.")], 1.0
        await deliver(world, claim(attempts=4))

        assert world.settlement.retry_at == NOON + timedelta(seconds=30)

    async def test_members_at_limit_return_spread_out(self, world: World) -> None:
        """The random number adds up to two seconds to the end of the limit's window."""
        world.errors, world.draw = [LimitReached(43, "Limit.", resets_at=NOON + 20 * SECOND)], 0.5
        await deliver(world, claim())

        assert world.settlement.retry_at == NOON + 20 * SECOND + LIMIT_JITTER / 2

    async def test_membership_is_given_up_after_retry_window(self, world: World) -> None:
        world.errors = [Transient(503, "Away.")]
        await deliver(
            world,
            claim(
                pending(first_failed_at=NOON - OPEN_FOR - 76 * HOUR),
                pending(AUTUMN, export_id=2, first_failed_at=NOON - OPEN_FOR - 75 * HOUR),
            ),
        )

        assert world.settlement.dead == {EXPORT: WINDOW_OVER}
        assert world.settlement.retry_at is not None

    async def test_outage_spends_no_attempt(self, world: World) -> None:
        """The member's wait does not grow, and the member is never given up during the outage."""
        world.is_outage = True
        world.errors = [NotSent("refused", "Away.")]
        await deliver(world, claim(pending(first_failed_at=NOON - 1000 * HOUR), attempts=9))

        assert (world.settlement.spent_at, world.settlement.dead) == (None, {})
        assert world.settlement.retry_at == NOON

    async def test_unanswered_call_delays_retry_in_outage_too(self, world: World) -> None:
        """Sailthru may still apply the call."""
        world.is_outage = True
        world.errors = [OutcomeUnknown("timeout", "No answer.")]
        await deliver(world, claim())

        assert world.settlement.retry_at == NOON + TIMEOUT + READS_LAG

    async def test_unknown_write_is_not_read_back_at_once(self, world: World) -> None:
        """Reads may lag behind writes, and Sailthru may have applied the call despite the 503."""
        world.is_outage = True
        world.errors = [Transient(503, "Away.")]
        await deliver(world, claim())

        assert world.settlement.unknown == {EXPORT}
        assert world.settlement.retry_at == NOON + READS_LAG


class TestSplitCalls:
    async def test_only_refused_list_is_given_up(self, world: World) -> None:
        """A refused call with two lists is repeated list by list. Each call is recorded before it leaves."""
        refused = Permanent(99, "Refused.")
        world.errors = [refused, None, refused]
        await deliver(world, claim(pending(vars={"a": 1}), pending(AUTUMN, export_id=2, vars={"b": 2})))

        assert world.written == [
            ((LIST, AUTUMN), (), {"a": 1, "b": 2}),
            ((LIST,), (), {"a": 1}),
            ((AUTUMN,), (), {"b": 2}),
        ]
        assert world.steps == ["write", "begin", "write", "begin", "write", "settle"]
        assert (world.settlement.confirmed, world.settlement.dead) == ({EXPORT: Confirmed.IN}, {2: "99"})
        assert world.settlement.unknown == frozenset()

    async def test_lists_that_work_alone_are_confirmed(self, world: World) -> None:
        """Sailthru refused only the combined call, so no membership is given up."""
        world.errors = [Permanent(99, "Refused.")]
        await deliver(world, claim(pending(), pending(AUTUMN, export_id=2)))

        assert (world.settlement.confirmed, world.settlement.dead) == ({EXPORT: Confirmed.IN, 2: Confirmed.IN}, {})
        assert world.settlement.outcome == "ok"

    async def test_failure_between_single_calls_leaves_rest_pending(self, world: World) -> None:
        """Only the call without an answer is unknown."""
        world.errors = [Permanent(99, "Refused."), Permanent(99, "Refused."), OutcomeUnknown("timeout", "No answer.")]
        held = claim(pending(), pending(AUTUMN, export_id=2), pending("Lytics Winter Buyers", export_id=3))
        await deliver(world, held)

        assert (world.settlement.confirmed, world.settlement.dead) == ({}, {EXPORT: "99"})
        assert world.settlement.unknown == {2}
        assert not world.settlement.is_whole

    @pytest.mark.parametrize("last", ["unknown", "refused"])
    async def test_unknown_list_is_not_given_up_with_refused_one(self, world: World, last: str) -> None:
        """In either order, only the refused membership becomes a dead letter."""
        unknown, refused = UnknownList(15, "No such list."), Permanent(42, "Not UTF-8.")
        in_order = [refused, unknown, unknown] if last == "unknown" else [unknown, unknown, refused]
        world.errors = [refused, *in_order]
        await deliver(world, claim(pending(), pending(AUTUMN, export_id=2)))

        dead = EXPORT if last == "unknown" else 2
        assert (world.settlement.confirmed, world.settlement.dead) == ({}, {dead: "42"})
        assert world.settlement.outcome == "15"
        assert world.settlement.retry_at is not None

    async def test_leave_of_deleted_list_is_confirmed(self, world: World) -> None:
        """The joins of the same call are repeated."""
        unknown = UnknownList(15, "No such list.")
        world.errors = [unknown, unknown, None, unknown]
        await deliver(world, claim(pending(), pending(AUTUMN, export_id=2, desired=False, confirmed=Confirmed.IN)))

        assert (world.settlement.confirmed, world.settlement.dead) == ({EXPORT: Confirmed.IN, 2: Confirmed.OUT}, {})
        assert world.settlement.outcome == "ok"

    async def test_leave_is_retried_if_unknown_list_still_has_member(self, world: World) -> None:
        """The answer was wrong. If it were trusted, the member would stay on the list."""
        world.lists = frozenset({AUTUMN})
        world.errors = [UnknownList(15, "No such list.")]
        await deliver(world, claim(pending(AUTUMN, export_id=2, desired=False, confirmed=Confirmed.IN)))

        assert (world.settlement.confirmed, world.settlement.dead, world.settlement.outcome) == ({}, {}, "15")
        assert world.settlement.retry_at is not None

    @pytest.mark.parametrize(("age", "is_confirmed"), [(READS_LAG - SECOND, False), (READS_LAG, True)])
    async def test_read_soon_after_a_join_does_not_confirm_the_leave(
        self, world: World, age: timedelta, *, is_confirmed: bool
    ) -> None:
        """Sailthru's reads lag behind its writes: the member seems to be off the list that it has just joined."""
        world.lists = frozenset()
        world.errors = [UnknownList(15, "No such list.")]
        joined_at = world.clock() - age
        await deliver(world, claim(pending(desired=False, confirmed=Confirmed.IN, confirmed_at=joined_at)))

        assert bool(world.settlement.confirmed) is is_confirmed
        assert world.settlement.outcome == ("ok" if is_confirmed else "15")
