"""What the routes are given, as typed aliases, and the check of admin tokens."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.domain.account import AccountReport
from app.domain.audience import Audience
from app.domain.backfill import Backfill
from app.domain.erasure import Erased
from app.domain.export import Export
from app.domain.field import ProfileField
from app.domain.fields import FieldMapping
from app.exports.start import Order, Plan
from app.store.exports.exports import Unexported
from app.store.exports.reports import ExportReport
from app.store.history.journal import Line
from app.store.history.rejected import RejectedEvent
from app.store.members.dead_letters import DeadLetter, Filter, Place, Redriven
from app.store.members.members import MembershipReport


class Exports(Protocol):
    """Exports as the routes see them."""

    async def get(self, export_id: int) -> Export:
        """One export."""
        ...

    async def reports(self, export_id: int | None = None) -> list[ExportReport]:
        """Exports with their counts."""
        ...

    async def name(self, export_id: int, audience_name: str) -> Export:
        """Give a nameless export its name."""
        ...

    async def set_fields(self, export_id: int, chosen: FieldMapping) -> Export:
        """Choose other fields."""
        ...

    async def pause(self, export_id: int) -> Export:
        """Keep its changes, and tell nobody of them."""
        ...

    async def resume(self, export_id: int) -> Export:
        """Tell what waits, and all that comes."""
        ...

    async def stop(self, export_id: int) -> Export:
        """Take no more of its changes."""
        ...

    async def unexported(self) -> list[Unexported]:
        """The audiences whose events are ignored."""
        ...


class Backfills(Protocol):
    """Backfills as the routes see them."""

    async def open(self, export_id: int, *, is_dry_run: bool) -> Backfill:
        """The one under way, or a new one."""
        ...

    async def get(self, export_id: int, backfill_id: int) -> Backfill:
        """One backfill."""
        ...

    async def of_export(self, export_id: int) -> list[Backfill]:
        """The newest ones of an export."""
        ...

    async def cancel(self, export_id: int, backfill_id: int) -> Backfill:
        """End a backfill."""
        ...


class ExportStarter(Protocol):
    """Orders to start an export, as the routes see them."""

    async def plan(self, order: Order) -> Plan:
        """What an order comes to; changes nothing."""
        ...

    async def carry_out(self, plan: Plan, order: Order) -> Export:
        """Do what was planned."""
        ...

    async def check_fields(self, fields: Sequence[str] | Mapping[str, str]) -> FieldMapping:
        """The fields as Sailthru vars."""
        ...


class Members(Protocol):
    """Members as the routes see them."""

    async def of_address(self, address: str) -> list[MembershipReport]:
        """A person's memberships."""
        ...


class Journal(Protocol):
    """Timelines."""

    async def timeline(self, address: str, *, limit: int = 200) -> list[tuple[str, Line]]:
        """A person's timeline."""
        ...


class DeadLetters(Protocol):
    """Dead letters as the routes see them."""

    async def page(self, which: Filter, *, after: Place | None = None, size: int = 100) -> list[DeadLetter]:
        """The next dead letters."""
        ...

    async def count(self, which: Filter) -> int:
        """How many a redrive would put back."""
        ...

    async def redrive(self, which: Filter) -> Redriven:
        """Let them be told again."""
        ...


class RejectedEvents(Protocol):
    """Rejected events as the routes see them."""

    async def page(self, *, before: int | None = None, size: int = 100) -> list[tuple[int, RejectedEvent]]:
        """The newest, by id."""
        ...


class Erasures(Protocol):
    """Who was erased, as the routes see it."""

    async def erase(self, address: str, *, leave_lists: bool) -> Erased:
        """Erase a person and keep them out."""
        ...

    async def lift(self, address: str) -> bool:
        """Let a person in again."""
        ...

    async def erased_at(self, address: str) -> datetime | None:
        """When a person was erased."""
        ...


class Lytics(Protocol):
    """Lytics as the routes ask it; every call may fail with a `CallFailed`."""

    async def audiences(self) -> list[Audience]:
        """The audiences that can be exported."""
        ...

    async def fields(self) -> list[ProfileField]:
        """The fields that profiles can have."""
        ...


class Status(Protocol):
    """How the running service stands."""

    @property
    def is_ready(self) -> bool:
        """True after start-up and until draining."""
        ...

    def accounts(self) -> dict[str, str]:
        """The state of each Sailthru account."""
        ...

    def authorizations(self) -> list[AccountReport]:
        """Each Sailthru account, and how it stands."""
        ...

    async def store_state(self) -> str:
        """`ok` or `unavailable`."""
        ...

    def exports_changed(self) -> None:
        """Something was ordered of an export: carry it out for each of its members."""
        ...

    async def make_list(self, export: Export) -> None:
        """Try to make an export's list now."""
        ...

    def backfill_started(self) -> None:
        """Go on with a backfill that was started."""
        ...

    def clock(self) -> datetime:
        """The time, aware and in UTC."""
        ...

    def is_silent(self, export_id: int) -> bool:
        """True if no webhook came for an export for long, although there were some."""
        ...

    def wake(self, account: str) -> None:
        """Somebody of this account is due."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus' text format."""
        ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything behind the routes, put together in `main`."""

    exports: Exports
    starting: ExportStarter
    backfills: Backfills
    members: Members
    journal: Journal
    dead_letters: DeadLetters
    rejected_events: RejectedEvents
    erasures: Erasures
    # None without an API token.
    lytics: Lytics | None
    status: Status
    version: str
    admin_tokens: Mapping[str, str] = field(repr=False)
    metrics_tokens: Mapping[str, str] = field(repr=False)


async def _doors(request: Request) -> Dependencies:
    doors: Dependencies = request.app.state.doors
    return doors


_bearer = HTTPBearer(auto_error=False, description="One of ADMIN_TOKENS.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
Injected = Annotated[Dependencies, Depends(_doors)]


async def require_admin(doors: Injected, shown: Bearer) -> None:
    """Let only holders of an admin token pass."""
    _require(shown, doors.admin_tokens, "an admin token (ADMIN_TOKENS)")


async def require_metrics(doors: Injected, shown: Bearer) -> None:
    """Let only holders of a metrics token pass; where none are set, admin tokens count."""
    tokens = doors.metrics_tokens or doors.admin_tokens
    _require(shown, tokens, "a metrics token (METRICS_TOKENS, else ADMIN_TOKENS)")


def _require(shown: HTTPAuthorizationCredentials | None, tokens: Mapping[str, str], what: str) -> None:
    given = shown.credentials.encode() if shown is not None else b""
    # All are compared, each in constant time, so that the time taken tells nothing.
    matches = [hmac.compare_digest(given, token.encode()) for token in tokens.values()]
    if not any(matches):
        raise HTTPException(
            401, f"This call needs {what}: send it as Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
        )
