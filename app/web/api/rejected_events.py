"""Rejected events: events that could not be stored, with the reason and the remedy."""

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
    """A request, or one message in it, that could not be stored."""

    id: int
    at: datetime
    reason: str = Field(description="A constant word for scripts.")
    happened: str = Field(description="The problem and its place in the body.")
    to_whom: str = Field(description="The affected events or members.")
    next_step: str = Field(description="The change to make in Lytics, or another action.")
    body_bytes: int = Field(description="The number of bytes that were read of the request's body.")
    body: str = Field(
        description="A sketch of the body, at most 4 KB, without personal data. A word replaces each value of a"
        " profile. In a body that is not JSON, x replaces each letter and 9 each digit."
    )


class RejectedEventsView(BaseModel):
    """One page of rejected events."""

    items: list[RejectedEventView]
    next: str | None = Field(description="The `cursor` of the next page; null on the last page.")


@router.get("/rejected-events", summary="List rejected events and their remedies", responses=declared(422))
async def list_rejected_events(
    service: Injected, cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None
) -> RejectedEventsView:
    """Lists rejected events, newest first, a hundred per page.

    The service stores the newest 10,000 for 30 days, and at most 50 of one request.
    """
    before = None if cursor is None else int(cursor)
    events = await service.rejected_events.page(before=before, size=PAGE_SIZE + 1)
    items = events[:PAGE_SIZE]
    following = str(items[-1][0]) if len(events) > PAGE_SIZE else None
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
