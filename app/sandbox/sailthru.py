"""A Sailthru: signed calls for people and lists, over HTTP or in one process.

Check order, statuses and texts follow what is published and recorded; what is neither is told in the parts' own words.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from app.sandbox import control
from app.sandbox.accounts import Account, Clock, Switches, utc_now
from app.sandbox.answers import Answer, JSONObject, Refused
from app.sandbox.behaviour import Behaviour, Hold
from app.sandbox.calls import ENDPOINTS, METHODS, Call, apply
from app.sandbox.connection import disconnected
from app.sandbox.limits import Limits, RateWindows
from app.sandbox.observation import Observation
from app.sandbox.requests import read_parameters
from app.sandbox.rules import Faults
from app.sandbox.visits import Visit, reply


@dataclass(frozen=True)
class Access:
    """The secret of an API key, and the account it opens where that is not the key's own."""

    secret: str
    account: str


class SailthruSandbox:
    """An ASGI app. Its doors for tests and demos are under `/_sandbox/` (see `control`), and here as methods.

    Args:
        accounts: API key to secret, an account for each; or to an `Access`, for several keys of one account.
        limits: calls per minute by (method, endpoint), before the documented ones.
        clock: aware, UTC.
        latency: see `Behaviour`, as `dice`.
        closes_connections: every reply announces and does it, as Sailthru's do.
        allowed_hosts: where calls may come from; None for anywhere.
        rejoin_fires, duplicate_list_race, stale_read_seconds: see `Switches`.
    """

    def __init__(
        self,
        accounts: Mapping[str, str | Access],
        *,
        limits: Limits | None = None,
        clock: Clock = utc_now,
        latency: tuple[float, float] = (0.0, 0.0),
        dice: random.Random | None = None,
        closes_connections: bool = True,
        allowed_hosts: Collection[str] | None = None,
        rejoin_fires: bool = False,
        duplicate_list_race: bool = False,
        stale_read_seconds: float = 0.0,
    ) -> None:
        self.switches = Switches(rejoin_fires, duplicate_list_race, stale_read_seconds)
        self.behaviour = Behaviour(latency=latency, dice=dice)
        self.faults = Faults(methods=METHODS, endpoints=ENDPOINTS)
        self.closes_connections = closes_connections
        self.allowed_hosts = allowed_hosts
        self._clock = clock
        self._limits: Limits = limits or {}
        self._access = {
            key: access if isinstance(access, Access) else Access(access, key) for key, access in accounts.items()
        }
        self._doors = control.sailthru_doors(self)
        self._under_way: set[asyncio.Task[Answer | None]] = set()
        self.reset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http" and not scope["path"].startswith(control.PREFIX):
            with suppress(ClientDisconnect):
                await self._serve(Request(scope, receive), send)
        else:
            await self._doors(scope, receive, send)

    def account(self, key: str) -> Account:
        """The state behind an API key."""
        return self._accounts[self._access[key].account]

    def members(self, list_name: str) -> set[str]:
        """The addresses on a list, over all accounts."""
        return set().union(*(account.members(list_name) for account in self._accounts.values()))

    def hold(self, hold: Hold) -> None:
        """From now on keeps the calls it covers open, until the release."""
        self.behaviour.hold = hold

    def release(self) -> int:
        """Ends the hold; returns how many calls were let go."""
        return self.behaviour.release()

    def set_latency(self, mean: float, spread: float) -> None:
        """Seconds: the mean, and how far from it at most."""
        self.behaviour.latency = (mean, spread)

    def shut_down(self) -> None:
        """Lets nothing wait any longer: held and late calls are answered, hung ones hung up on. What was yet to be
        applied by a fault never is.
        """
        self.behaviour.release()
        self.behaviour.patience.end()

    def reset(self) -> None:
        """Forgets people, lists, events, counts, the hold and the faults. Calls being held end in the state that
        was.
        """
        self.shut_down()
        self.faults.set(())
        names = {access.account for access in self._access.values()}
        self._accounts = {name: Account(name, clock=self._clock, switches=self.switches) for name in sorted(names)}
        self._observations = {name: Observation() for name in self._accounts}
        self._windows = RateWindows(self._limits, clock=self._clock)
        self._refused_strangers = 0

    def state(self, *, with_log: bool = True) -> JSONObject:
        """All there is to see, as JSON."""
        return {
            "accounts": {
                name: control.describe_account(account, self._observations[name], with_log=with_log)
                for name, account in self._accounts.items()
            },
            "held": self.behaviour.held,
            "held_abandoned": self.behaviour.held_abandoned,
            "refused_strangers": self._refused_strangers,
        }

    async def _serve(self, request: Request, send: Send) -> None:
        method, endpoint = request.method, request.url.path
        visit = Visit(self._windows.look(None, method, endpoint))
        answer: Answer | None
        try:
            answer = await self._carry_out(await self._admit(visit, request), visit, request)
        except Refused as refused:
            answer = refused.answer
            self._note(visit, answer)
        await reply(answer, visit, request, send, closes=self.closes_connections)

    async def _admit(self, visit: Visit, request: Request) -> Call:
        """The checks before a call is carried out, in Sailthru's order; each refusal says which one it was."""
        method, endpoint = request.method, request.url.path
        visit.parameters = read_parameters(
            method,
            query=request.scope["query_string"],
            content_type=request.headers.get("content-type", ""),
            body=await request.body(),
        )
        if endpoint not in ENDPOINTS:
            raise Refused(404, 99, f"Unknown endpoint: {endpoint}")
        if method not in METHODS:
            raise Refused(405, 1, f"Unsupported HTTP method: {method}")
        key = visit.parameters.get("api_key")
        if not key:
            raise Refused(400, 2, "Missing required parameter: api_key")
        if key not in self._access:
            raise Refused(401, 3, "Invalid API key")
        account, observation = self.account(key), self._observations[self._access[key].account]
        visit.observation, visit.entry = observation, observation.arrived(method, endpoint, self._clock())
        visit.rate = self._windows.look(account.name, method, endpoint)
        if self.allowed_hosts is not None and (request.client is None or request.client.host not in self.allowed_hosts):
            raise Refused(403, 4, "Disallowed IP")
        if not visit.parameters.is_signed_with(self._access[key].secret):
            raise Refused(401, 5, "Signature hash does not match")
        visit.rate = self._windows.count(account.name, method, endpoint)
        observation.counted(visit.entry, window=visit.rate.reset, is_over=visit.rate.is_exceeded)
        if visit.rate.is_exceeded:
            raise Refused(429, 43, f"Too many {method} requests this minute to {endpoint} API")
        visit.entry.json = payload = visit.parameters.payload()
        known_lists = account.list_names() if self.switches.duplicate_list_race else None
        return Call(account, method, endpoint, payload, key, known_lists)

    async def _carry_out(self, call: Call, visit: Visit, request: Request) -> Answer | None:
        """Lets the behaviour have its way, in a task of its own: a call goes on when its client has hung up, and then
        no longer counts as in flight.
        """
        target = call.target()
        landed = visit.observation.in_flight(target.person) if visit.observation else lambda: None
        call.fault = self.faults.meet(target)
        if call.fault and visit.observation and visit.entry:
            visit.observation.met(visit.entry, call.fault.kind)

        def hang_up() -> None:
            call.gone.set()
            landed()

        work = asyncio.create_task(self._work(call, visit))
        watch = asyncio.create_task(_watch(request.receive, hang_up))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            hang_up()
            raise
        finally:
            watch.cancel()
            landed()

    async def _work(self, call: Call, visit: Visit) -> Answer | None:
        answer = await self.behaviour.carry_out(call, partial(apply, call))
        if answer is not None:
            self._note(visit, answer)
        return answer

    def _note(self, visit: Visit, answer: Answer) -> None:
        if visit.observation is None or visit.entry is None:
            self._refused_strangers += 1
        else:
            visit.observation.answered(visit.entry, answer.status)


async def _watch(receive: Receive, hang_up: Callable[[], None]) -> None:
    await disconnected(receive)
    hang_up()
