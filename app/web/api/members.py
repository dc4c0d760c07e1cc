"""Members: why is a member (not) on a list?"""

from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from app.domain.membership import Confirmed
from app.domain.report import MembershipReport
from app.store.history.journal import Line
from app.web.api.addresses import Email, normalized
from app.web.api.dead_letters import ExplanationView
from app.web.auth import require_admin
from app.web.dependencies import Injected
from app.web.problems import declared

router = APIRouter(tags=["members"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


class MembershipView(BaseModel):
    """A member's place on one list: the desired and the confirmed state."""

    export_id: int
    authorization: str
    list: str | None
    desired: str = Field(description="`in` or `out`: what the newest change asks for.")
    confirmed: Confirmed = Field(
        description="What Sailthru last acknowledged; `unknown` during a call, or after a call without an answer."
    )
    confirmed_at: datetime | None
    state: str = Field(
        description="`settled`, `pending`, `retrying`, `dead_letter`, `held` because its export is not running, or"
        " `in_doubt` because its list was replaced."
    )
    code: str | None = Field(
        description="Why the change became a dead letter: Sailthru's error number, or a word of this service."
    )
    explanation: ExplanationView | None = Field(description="The code in words.")
    attempts: int
    next_call_at: datetime | None


class TimelineEntry(BaseModel):
    """One event of a member's history."""

    at: datetime
    authorization: str
    export_id: int | None
    what: str = Field(description="`received`, `called`, `answered`, `cancelled` or `redriven`.")
    detail: dict[str, object]
    explanation: ExplanationView | None = Field(description="The outcome of a call in words; only for `answered`.")


class MemberView(BaseModel):
    """A member, by address. An unknown address has no memberships and an empty timeline. So does an erased one, once it
    has left all lists it should leave.
    """

    email: str
    erased_at: datetime | None = Field(description="When the address was erased; see `DELETE /members/{email}`.")
    memberships: list[MembershipView]
    timeline: list[TimelineEntry]


@router.get("/members/{email:address}", summary="Show a member's memberships and timeline", responses=declared(422))
async def show_member(service: Injected, email: Email) -> MemberView:
    """Shows all that is known about an address. Upper and lower case make no difference."""
    address = normalized(email)
    timeline = [_entry(account, line) for account, line in await service.journal.timeline(address)]
    memberships = [_view(one) for one in await service.members.find_by_address(address)]
    erased_at = await service.erasures.erased_at(address)
    return MemberView(email=address, erased_at=erased_at, memberships=memberships, timeline=timeline)


def _entry(account: str, line: Line) -> TimelineEntry:
    outcome = line.detail.get("outcome")
    return TimelineEntry(
        at=line.at,
        authorization=account,
        export_id=line.export_id,
        what=line.what,
        detail=line.detail,
        explanation=None if outcome is None else ExplanationView.of(str(outcome)),
    )


def _view(report: MembershipReport) -> MembershipView:
    membership = report.membership
    return MembershipView(
        export_id=report.export_id,
        authorization=report.account,
        list=report.list_name,
        desired="in" if membership.desired else "out",
        confirmed=membership.confirmed,
        confirmed_at=membership.confirmed_at,
        state=report.state,
        code=membership.dead_code,
        explanation=None if membership.dead_code is None else ExplanationView.of(membership.dead_code),
        attempts=report.attempts,
        next_call_at=report.due_at if membership.is_pending else None,
    )
