"""Rejected events: what Lytics sent that cannot be stored, why, and what to change in Lytics."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from app.explain.codes import explain
from app.store.history.rejected import RejectedEvent
from app.web.auth import require_admin
from app.web.dependencies import Injected
from app.web.problems import declared

PAGE_SIZE = 100

router = APIRouter(tags=["rejected events"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


class RejectedEventView(BaseModel):
    """A request, or one message of it, that cannot be stored."""

    id: int
    at: datetime
    reason: str = Field(description="A fixed word for scripts.")
    happened: str = Field(description="What is wrong, and where in the body.")
    to_whom: str = Field(description="Who is affected.")
    next_step: str = Field(description="What to change in Lytics, or what else to do.")
    body_bytes: int = Field(description="The size of the whole request, as far as it was read.")
    body: str = Field(
        description="The body, at most 4 KB, without personal data: a word replaces each value of a profile. In a body"
        " that is not JSON, x replaces each letter and 9 each digit."
    )


class RejectedEventsView(BaseModel):
    """One page of rejected events."""

    items: list[RejectedEventView]
    next: str | None = Field(description="The `cursor` of the next page; null on the last page.")


@router.get("/rejected-events", summary="List rejected events and what to do", responses=declared(422))
async def list_rejected_events(
    service: Injected, cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None
) -> RejectedEventsView:
    """Lists a hundred at a time, the newest first. The service keeps the last 10,000 for 30 days, and at most 50 of one
    request.
    """
    before = None if cursor is None else int(cursor)
    found = await service.rejected_events.page(before=before, size=PAGE_SIZE + 1)
    items = found[:PAGE_SIZE]
    following = str(items[-1][0]) if len(found) > PAGE_SIZE else None
    return RejectedEventsView(items=[_view(event_id, event) for event_id, event in items], next=following)


def _view(event_id: int, event: RejectedEvent) -> RejectedEventView:
    explanation = explain(event.reason)
    return RejectedEventView(
        id=event_id,
        at=event.at,
        reason=event.reason,
        happened=event.happened,
        to_whom=explanation.to_whom,
        next_step=explanation.next_step,
        body_bytes=event.body_bytes,
        body=event.body,
    )
