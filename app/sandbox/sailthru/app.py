"""Simulates Sailthru: signed calls for people and lists, over HTTP or in this process.

The order of the checks, the statuses and the texts follow Sailthru's documentation and recorded exchanges. All other
texts are our own.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from app.sandbox.bodies import JSONObject
from app.sandbox.connection import disconnected
from app.sandbox.control import PREFIX
from app.sandbox.rules import Faults
from app.sandbox.sailthru.accounts import Account, Clock, Switches, utc_now
from app.sandbox.sailthru.answers import Answer, Refused
from app.sandbox.sailthru.call_log import CallLog
from app.sandbox.sailthru.calls import ENDPOINTS, METHODS, Call, apply
from app.sandbox.sailthru.context import RequestContext, send_answer
from app.sandbox.sailthru.control import describe_account, sailthru_control
from app.sandbox.sailthru.executor import Executor, Hold
from app.sandbox.sailthru.limits import Limits, RateWindows
from app.sandbox.sailthru.parameters import read_parameters


@dataclass(frozen=True)
class Access:
    """The secret of an API key, and the account that the key opens."""

    secret: str
    account: str


class SailthruSandbox:
    """An ASGI app. Tests and the demo control it through `/_sandbox/` (see `control`) or through its methods.

    Args:
        accounts: API key to secret for one account per key; or API key to `Access` for several keys of one account.
        limits: calls per minute by (method, endpoint); they override the documented limits.
        clock: returns aware times in UTC.
        latency: see `Executor`, like `dice`.
        closes_connections: every answer announces and closes the connection, as Sailthru's do.
        allowed_hosts: the client addresses that are allowed; None for all.
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
        self.executor = Executor(latency=latency, dice=dice)
        self.faults = Faults(methods=METHODS, endpoints=ENDPOINTS)
        self.closes_connections = closes_connections
        self.allowed_hosts = allowed_hosts
        self._clock = clock
        self._limits: Limits = limits or {}
        self._access = {
            key: access if isinstance(access, Access) else Access(access, key) for key, access in accounts.items()
        }
        self._control = sailthru_control(self)
        self._tasks: set[asyncio.Task[Answer | None]] = set()
        self.reset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(PREFIX):
            with suppress(ClientDisconnect):
                await self._serve(Request(scope, receive), send)
        else:
            await self._control(scope, receive, send)

    def account(self, key: str) -> Account:
        """Return the account that an API key opens."""
        return self._accounts[self._access[key].account]

    def members(self, list_name: str) -> set[str]:
        """Return the addresses on a list, over all accounts."""
        return set().union(*(account.members(list_name) for account in self._accounts.values()))

    def hold(self, hold: Hold) -> None:
        """Keep the calls that `hold` covers open until `release` is called."""
        self.executor.hold = hold

    def release(self) -> int:
        """End the hold and return how many calls were held."""
        return self.executor.release()

    def set_latency(self, mean: float, spread: float) -> None:
        """Set the mean latency and the largest deviation from it, in seconds."""
        self.executor.latency = (mean, spread)

    def shut_down(self) -> None:
        """End all waits: held and late calls are answered, hung calls are disconnected.

        Calls that faults would have applied later are never applied.
        """
        self.executor.release()
        self.executor.delays.end_all()

    def reset(self) -> None:
        """Forget people, lists, events, counts, the hold and the faults. Held calls use the former state."""
        self.shut_down()
        self.faults.set(())
        names = {access.account for access in self._access.values()}
        self._accounts = {name: Account(name, clock=self._clock, switches=self.switches) for name in sorted(names)}
        self._call_logs = {name: CallLog() for name in self._accounts}
        self._windows = RateWindows(self._limits, clock=self._clock)
        self._refused_strangers = 0

    def state(self, *, with_log: bool = True) -> JSONObject:
        """Return the whole state as JSON."""
        return {
            "accounts": {
                name: describe_account(account, self._call_logs[name], with_log=with_log)
                for name, account in self._accounts.items()
            },
            "held": self.executor.held,
            "held_abandoned": self.executor.held_abandoned,
            "refused_strangers": self._refused_strangers,
        }

    async def _serve(self, request: Request, send: Send) -> None:
        context = RequestContext(self._windows.peek(None, request.method, request.url.path))
        answer: Answer | None
        try:
            answer = await self._execute(await self._admit(context, request), context, request)
        except Refused as refused:
            answer = refused.answer
            self._log(context, answer)
        await send_answer(answer, context, request, send, closes=self.closes_connections)

    async def _admit(self, context: RequestContext, request: Request) -> Call:
        """Run the checks before a call in Sailthru's order.

        Raises:
            Refused: a check failed.
        """
        method, endpoint = request.method, request.url.path
        context.parameters = read_parameters(
            method,
            query=request.scope["query_string"],
            content_type=request.headers.get("content-type", ""),
            body=await request.body(),
        )
        if endpoint not in ENDPOINTS:
            raise Refused(404, 99, f"Unknown endpoint: {endpoint}")
        if method not in METHODS:
            raise Refused(405, 1, f"Unsupported HTTP method: {method}")
        key = context.parameters.get("api_key")
        if not key:
            raise Refused(400, 2, "Missing required parameter: api_key")
        if key not in self._access:
            raise Refused(401, 3, "Invalid API key")
        account, call_log = self.account(key), self._call_logs[self._access[key].account]
        context.call_log, context.entry = call_log, call_log.arrived(method, endpoint, self._clock())
        context.rate = self._windows.peek(account.name, method, endpoint)
        if self.allowed_hosts is not None and (request.client is None or request.client.host not in self.allowed_hosts):
            raise Refused(403, 4, "Disallowed IP")
        if not context.parameters.is_signed_with(self._access[key].secret):
            raise Refused(401, 5, "Signature hash does not match")
        context.rate = self._windows.count(account.name, method, endpoint)
        call_log.counted(context.entry, window=context.rate.reset, is_over=context.rate.is_exceeded)
        if context.rate.is_exceeded:
            raise Refused(429, 43, f"Too many {method} requests this minute to {endpoint} API")
        context.entry.json = payload = context.parameters.payload()
        known_lists = account.list_names() if self.switches.duplicate_list_race else None
        return Call(account, method, endpoint, payload, key, known_lists)

    async def _execute(self, call: Call, context: RequestContext, request: Request) -> Answer | None:
        """Execute the call in its own task, because it continues after its client has disconnected.

        A call without its client does not count as in flight.
        """
        target = call.target()
        end_flight = context.call_log.in_flight(target.person) if context.call_log else lambda: None
        call.fault = self.faults.meet(target)
        if call.fault and context.call_log and context.entry:
            context.call_log.met(context.entry, call.fault.kind)

        def abandon() -> None:
            call.abandoned.set()
            end_flight()

        work = asyncio.create_task(self._work(call, context))
        watch = asyncio.create_task(_watch(request.receive, abandon))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            abandon()
            raise
        finally:
            watch.cancel()
            end_flight()

    async def _work(self, call: Call, context: RequestContext) -> Answer | None:
        answer = await self.executor.execute(call, partial(apply, call))
        if answer is not None:
            self._log(context, answer)
        return answer

    def _log(self, context: RequestContext, answer: Answer) -> None:
        if context.call_log is None or context.entry is None:
            self._refused_strangers += 1
        else:
            context.call_log.answered(context.entry, answer.status)


async def _watch(receive: Receive, abandon: Callable[[], None]) -> None:
    await disconnected(receive)
    abandon()
