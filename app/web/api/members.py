"""Members: their memberships and timelines."""

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
    """A member's membership in one export: the desired and the confirmed state."""

    export_id: int
    authorization: str
    list: str | None
    desired: str = Field(description="The state that the newest change asks for: `in` or `out`.")
    confirmed: Confirmed = Field(
        description="The state that Sailthru last acknowledged; `unknown` during a call or after an unanswered call."
    )
    confirmed_at: datetime | None
    state: str = Field(
        description="`settled`, `pending`, `retrying`, `dead_letter`, `held` (the export is not running) or `in_doubt`"
        " (the list was replaced)."
    )
    code: str | None = Field(
        description="Why the change became a dead letter: Sailthru's error number, or a word of this service."
    )
    explanation: ExplanationView | None = Field(description="The explanation of the code.")
    attempts: int
    next_call_at: datetime | None


class TimelineEntry(BaseModel):
    """One event of a member's history."""

    at: datetime
    authorization: str
    export_id: int | None
    what: str = Field(description="`received`, `called`, `answered`, `cancelled` or `redriven`.")
    detail: dict[str, object]
    explanation: ExplanationView | None = Field(description="The explanation of the outcome; only for `answered`.")


class MemberView(BaseModel):
    """A member, by address.

    An unknown address has no memberships and an empty timeline. The same holds for an erased address, after the member
    has left the lists.
    """

    email: str
    erased_at: datetime | None = Field(description="When the address was erased; see `DELETE /members/{email}`.")
    memberships: list[MembershipView]
    timeline: list[TimelineEntry]


@router.get("/members/{email:address}", summary="Show a member's memberships and timeline", responses=declared(422))
async def show_member(service: Injected, email: Email) -> MemberView:
    """Shows all stored data about an address. Case is ignored."""
    address = normalized(email)
    timeline = [_entry(account, line) for account, line in await service.journal.timeline(address)]
    memberships = [_view(report) for report in await service.members.find_by_address(address)]
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
