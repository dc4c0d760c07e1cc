"""Erase a member, and lift the erasure."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from app.web.api.addresses import Email, normalized
from app.web.auth import require_admin
from app.web.dependencies import Injected
from app.web.problems import declared

router = APIRouter(tags=["members"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


class ErasureView(BaseModel):
    """The state of an erasure. Repeat the call to see its progress."""

    erased: bool = Field(description="False if the address was unknown. It is blocked in either case.")
    leaving: list[str] = Field(description="The lists that still contain the member and will be left.")


class LiftedView(BaseModel):
    """The result of lifting an erasure."""

    lifted: bool = Field(description="False if the address was not erased.")


@router.delete("/members/{email:address}", summary="Erase a member everywhere", responses=declared(409, 422))
async def erase_member(
    service: Injected,
    email: Email,
    *,
    leave_lists: Annotated[bool, Query(description="Remove the member from all exported lists first.")] = False,
) -> ErasureView:
    """Deletes all data about an address and about other addresses of the same Lytics user.

    Their events are ignored until `DELETE /erasures/{email}`. Nothing is deleted in Sailthru. The call needs
    `ERASURE_KEY`.
    """
    erased = await service.erasures.erase(normalized(email), leave_lists=leave_lists)
    for account in erased.due_accounts:
        service.wake(account)
    return ErasureView(erased=erased.was_known, leaving=list(erased.leaving))


@router.delete("/erasures/{email:address}", summary="Lift an erasure", responses=declared(409, 422))
async def lift_erasure(service: Injected, email: Email) -> LiftedView:
    """Accepts new events of the address again. The erased data does not come back."""
    return LiftedView(lifted=await service.erasures.lift(normalized(email)))
