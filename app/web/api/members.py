"""Members: why is Ada (not) on the list?"""

from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from app.domain.membership import Confirmed
from app.store.history.journal import Line
from app.store.members.members import MembershipReport
from app.web.api.addresses import Email, known_as
from app.web.api.dead_letters import ExplanationView
from app.web.dependencies import Injected, require_admin
from app.web.problems import declared

router = APIRouter(tags=["members"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


class MembershipView(BaseModel):
    """One list of a person: what is wanted there, and what Sailthru was told."""

    export_id: int
    authorization: str
    list: str | None
    desired: str = Field(description="`in` or `out`, as the newest change says.")
    confirmed: Confirmed = Field(
        description="What Sailthru last confirmed; `unknown` while a call is under way or was lost."
    )
    confirmed_at: datetime | None
    state: str = Field(
        description="`settled`, `pending`, `retrying`, `dead_letter`, `held` by its export's state, or `in_doubt` since"
        " its list is another one."
    )
    code: str | None = Field(description="Why it was given up: Sailthru's error number, or a word of ours.")
    explanation: ExplanationView | None = Field(description="The code in words.")
    attempts: int
    next_call_at: datetime | None


class TimelineEntry(BaseModel):
    """One thing that happened: `received`, `called`, `answered` or `redriven`."""

    at: datetime
    authorization: str
    export_id: int | None
    what: str
    detail: dict[str, object]
    explanation: ExplanationView | None = Field(description="The outcome in words, where something was answered.")


class MemberView(BaseModel):
    """A person, by address. A stranger has no memberships and an empty timeline, and so has who was erased, once all
    lists to be left were left.
    """

    email: str
    erased_at: datetime | None = Field(description="Since when the person is kept out; see `DELETE /members/{email}`.")
    memberships: list[MembershipView]
    timeline: list[TimelineEntry]


@router.get("/members/{email:address}", summary="One person's memberships and timeline", responses=declared(422))
async def show_member(doors: Injected, email: Email) -> MemberView:
    """Everything known of an address, in any spelling of its case."""
    address = known_as(email)
    timeline = [_entry(account, line) for account, line in await doors.journal.timeline(address)]
    memberships = [_view(one) for one in await doors.members.of_address(address)]
    erased_at = await doors.erasures.erased_at(address)
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
