"""Erasing a person, and letting them in again."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from app.web.api.addresses import Email, known_as
from app.web.dependencies import Injected, require_admin
from app.web.problems import declared

router = APIRouter(tags=["members"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


class ErasureView(BaseModel):
    """How an erasure stands. The same call again tells the same, and how far the leaving has come."""

    erased: bool = Field(description="False if nobody of this address was known; they are kept out all the same.")
    leaving: list[str] = Field(description="The lists that the person is still being taken off.")


class LiftedView(BaseModel):
    """Whether somebody was kept out until now."""

    lifted: bool


@router.delete("/members/{email:address}", summary="Erase a person everywhere", responses=declared(409, 422))
async def erase_member(
    doors: Injected,
    email: Email,
    *,
    leave_lists: Annotated[bool, Query(description="Take the person off the lists that are kept here first.")] = False,
) -> ErasureView:
    """Forget the person of an address, with all that the same Lytics users have under other addresses, and keep them
    out until `DELETE /erasures/{email}`. Nothing is deleted in Sailthru. Needs `ERASURE_KEY`.
    """
    done = await doors.erasures.erase(known_as(email), leave_lists=leave_lists)
    for account in done.due_accounts:
        doors.status.wake(account)
    return ErasureView(erased=done.was_known, leaving=list(done.leaving))


@router.delete("/erasures/{email:address}", summary="Let an erased person in again", responses=declared(409, 422))
async def lift_erasure(doors: Injected, email: Email) -> LiftedView:
    """From now on the person is taken like a stranger: what was erased does not come back, new events are kept."""
    return LiftedView(lifted=await doors.erasures.lift(known_as(email)))
