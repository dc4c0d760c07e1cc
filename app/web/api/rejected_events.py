"""Rejected events: what Lytics sent that could not be kept, why, and which box to tick."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from app.explain.codes import explain
from app.store.history.rejected import RejectedEvent
from app.web.dependencies import Injected, require_admin
from app.web.problems import declared

PAGE_SIZE = 100

router = APIRouter(tags=["rejected events"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


class RejectedEventView(BaseModel):
    """A request, or one message of it, that could not be kept."""

    id: int
    at: datetime
    reason: str = Field(description="A fixed word for scripts.")
    happened: str = Field(description="What is wrong, and where in the body.")
    to_whom: str = Field(description="Whom it concerns.")
    next_step: str = Field(description="The box to tick in Lytics, or what else to do.")
    body_bytes: int = Field(description="Of the whole request, as far as it was read.")
    body: str = Field(
        description="At most 4 KB. A word stands for each value of a profile; what is no JSON is masked: x for letters,"
        " 9 for digits."
    )


class RejectedEventsView(BaseModel):
    """One page of rejected events."""

    items: list[RejectedEventView]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


@router.get("/rejected-events", summary="What could not be kept, and what to do", responses=declared(422))
async def list_rejected_events(
    doors: Injected, cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None
) -> RejectedEventsView:
    """A hundred at a time, newest first. The last 10,000 are kept, for 30 days; of one request the first 50."""
    before = None if cursor is None else int(cursor)
    found = await doors.rejected_events.page(before=before, size=PAGE_SIZE + 1)
    items = found[:PAGE_SIZE]
    more = str(items[-1][0]) if len(found) > PAGE_SIZE else None
    return RejectedEventsView(items=[_view(number, event) for number, event in items], next=more)


def _view(number: int, event: RejectedEvent) -> RejectedEventView:
    said = explain(event.reason)
    return RejectedEventView(
        id=number,
        at=event.at,
        reason=event.reason,
        happened=event.happened,
        to_whom=said.to_whom,
        next_step=said.next_step,
        body_bytes=event.body_bytes,
        body=event.body,
    )
